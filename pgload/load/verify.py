"""Whether a load left exactly its records: count and checksum, both made by the server.

The checksum to expect does not come from our own encoders. The server takes the raw records apart
with its JSON functions, and hashes the rows that come out as it hashes those in the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Raw

from pgload.errors import RecordError
from pgload.load.rows import JSON_TYPES
from pgload.source.files import Batch
from pgload.source.tables import Table, column_names, literal, qualified_name, quoted

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

    statement = _SUM.format(rows=_rows_of_json(table, connection)).encode()
    rows = checksum = 0
    with connection.cursor() as cursor:
        for batch in batches:
            try:
                cursor.execute(statement, (_array(batch.records),))
            except (psycopg2.Error, UnicodeDecodeError):
                _name_the_record(batch, statement, connection)
                raise
            found = _only(cursor.fetchone())
            rows, checksum = rows + found.rows, checksum + found.checksum
    return Fingerprint(rows, checksum)


def _rows_of_json(table: Table, connection: Connection) -> str:
    """The rows of the JSON array that is the statement's parameter.

    `json_to_record` would write a json column's strings anew, so those are taken with `->`, which
    keeps their text.
    """
    casts, definitions = [], []
    for column in table.columns:
        name, key = (
            text.replace("%", "%%")
            for text in (quoted([column.name], connection)[0], literal(column.name, connection))
        )
        if column.type in JSON_TYPES:
            value = f"nullif(nullif((e -> {key})::text, '\"\"'), 'null')"
        else:
            definitions.append(f"{name} text")
            value = f"nullif(r.{name}, '')"
        casts.append(f"{value}::{column.type} AS {name}")
    record = f", json_to_record(e) AS r({', '.join(definitions)})" if definitions else ""
    return f"SELECT {', '.join(casts)} FROM json_array_elements(%s::json) AS a(e){record}"


def _array(records: Iterable[Raw]) -> str:
    return (b"[" + b",".join(records) + b"]").decode()


def _name_the_record(batch: Batch, statement: bytes, connection: Connection) -> None:
    import psycopg2

    with connection.cursor() as cursor:
        for number, record in enumerate(batch.records, batch.first_record):
            try:
                cursor.execute(statement, (_array([record]),))
            except (psycopg2.Error, UnicodeDecodeError) as error:
                said = str(error).partition("CONTEXT:")[0].strip().replace("\n", "; ")
                raise RecordError(
                    f"{batch.path.name}: record {number} cannot become a row: {said}; "
                    "mend or remove the record"
                ) from None


def _only(row: tuple[object, ...] | None) -> Fingerprint:
    assert row is not None
    return Fingerprint(int(str(row[0])), int(str(row[1])))
