"""Whether a load left exactly its records: count and checksum, both made by the server.

The checksum to expect does not come from our own encoders. The server takes the raw records apart
with its JSON functions, and hashes the rows that come out as it hashes those in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Raw

from pgload.errors import RecordError
from pgload.load.server_json import json_literal, rows_of_json
from pgload.schema.table import Table, column_names, qualified_name
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


class Fingerprint(NamedTuple):
    """The number of rows, and the sum of their 64-bit hashes whatever their order."""

    rows: int
    checksum: int


# A row's text tells NULL from '' and one column from the next. Since PostgreSQL 11.
_SUM = (
    "SELECT count(*), coalesce(sum(hashtextextended((r.*)::text, 0)::numeric), 0) "
    "FROM ({rows}) AS r"
)


def fingerprint(table: Table, connection: Connection) -> Fingerprint:
    """Of the rows that stand in the table, over the columns that records fill."""
    columns = ", ".join(column_names(table, connection))
    rows = f"SELECT {columns} FROM {qualified_name(table, connection)}"
    with connection.cursor() as cursor:
        cursor.execute(_SUM.format(rows=rows))
        return _only(cursor.fetchone())


def expected_fingerprint(
    table: Table, batches: Iterable[Batch], connection: Connection
) -> Fingerprint:
    """Of the rows that the batches have to become.

    Raises `RecordError` for the first record that the server cannot turn into a row.
    """
    import psycopg2

    before, after = rows_of_json(table, connection, stored=True)
    head, _, tail = _SUM.partition("{rows}")

    def statement(records: Iterable[Raw]) -> bytes:
        return (head + before).encode() + json_literal(records) + (after + tail).encode()

    rows = checksum = 0
    with connection.cursor() as cursor:
        for batch in batches:
            try:
                cursor.execute(statement(batch.records))
            except psycopg2.Error:
                _name_the_record(batch, statement, connection)
                raise
            found = _only(cursor.fetchone())
            rows, checksum = rows + found.rows, checksum + found.checksum
    return Fingerprint(rows, checksum)


def _name_the_record(
    batch: Batch, statement: Callable[[Iterable[Raw]], bytes], connection: Connection
) -> None:
    import psycopg2

    with connection.cursor() as cursor:
        for number, record in enumerate(batch.records, batch.first_record):
            try:
                cursor.execute(statement([record]))
            except psycopg2.Error as error:
                said = str(error).partition("CONTEXT:")[0].strip().replace("\n", "; ")
                raise RecordError(
                    f"{batch.path.name}: record {number} cannot become a row: {said}; "
                    "mend or remove the record",
                    path=batch.path,
                    record=number,
                    reason=said,
                ) from None


def _only(row: tuple[object, ...] | None) -> Fingerprint:
    assert row is not None
    return Fingerprint(int(str(row[0])), int(str(row[1])))
