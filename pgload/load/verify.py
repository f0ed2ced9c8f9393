"""Whether a load left exactly its records: count and checksum, both computed by the server.

The expected checksum does not come from our own encoders: the server turns the raw records into
rows with its JSON functions, and hashes these rows as it hashes those in the table.
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
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# A row's text distinguishes NULL from '', and one column from the next. Since PostgreSQL 11.
ROW_HASH = "pg_catalog.hashtextextended((r.*)::text, 0)"  # of a row of the relation r
_FINGERPRINT = f"SELECT count(*), coalesce(sum({ROW_HASH}::numeric), 0) FROM ({{rows}}) AS r"


class Fingerprint(NamedTuple):
    """The number of rows, and the sum of their 64-bit hashes, which ignores their order."""

    rows: int
    checksum: int


def fingerprint(table: Table, connection: Connection) -> Fingerprint:
    """The fingerprint of the rows in the table, over the columns that records fill."""
    columns = ", ".join(column_names(table, connection))
    rows = f"SELECT {columns} FROM {qualified_name(table, connection)}"
    with connection.cursor() as cursor:
        cursor.execute(_FINGERPRINT.format(rows=rows))
        return _fetch_fingerprint(cursor)


def expected_fingerprint(
    table: Table, batches: Iterable[Batch], connection: Connection
) -> Fingerprint:
    """The fingerprint that the table has to have after the batches were loaded into it.

    Raises `RecordError` for the first record that the server cannot turn into a row.
    """
    import psycopg2

    before, after = rows_of_json(table, connection, stored=True)
    head, _, tail = _FINGERPRINT.partition("{rows}")

    def statement(records: Iterable[Raw]) -> bytes:
        return (head + before).encode() + json_literal(records) + (after + tail).encode()

    rows = checksum = 0
    with connection.cursor() as cursor:
        for batch in batches:
            try:
                cursor.execute(statement(batch.records))
            except psycopg2.Error:
                _raise_for_bad_record(batch, statement, cursor)
                raise
            found = _fetch_fingerprint(cursor)
            rows, checksum = rows + found.rows, checksum + found.checksum
    return Fingerprint(rows, checksum)


def _raise_for_bad_record(
    batch: Batch, statement: Callable[[Iterable[Raw]], bytes], cursor: Cursor
) -> None:
    import psycopg2

    for number, record in zip(batch.numbers, batch.records, strict=True):
        try:
            cursor.execute(statement([record]))
        except psycopg2.Error as error:
            reason = str(error).partition("CONTEXT:")[0].strip().replace("\n", "; ")
            raise RecordError(
                f"{batch.path.name}: record {number} cannot become a row: {reason}; "
                "fix or remove the record",
                path=batch.path,
                record=number,
                reason=reason,
            ) from None


def _fetch_fingerprint(cursor: Cursor) -> Fingerprint:
    row = cursor.fetchone()
    assert row is not None
    rows, checksum = row
    return Fingerprint(int(rows), int(checksum))
