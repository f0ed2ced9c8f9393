"""Which values the types of their columns refuse, by the server's own input functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pgload.contract import to_json
from pgload.errors import RecordError
from pgload.load.encode import RowEncoder
from pgload.migrate.sqlstates import is_data_error
from pgload.schema.table import JSON_TYPES, TEXT_TYPES, Column, Table, input_type, literal
from pgload.source.reader import Batch
from pgload.source.scan import DECODE_ERRORS

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

Value = TypeVar("Value")

SOFT_ERRORS = 160_000  # the server version from which input functions return errors as rows
PARTS = 8  # that values or records are tried in after an error: for n bad ones, 8/7 n attempts
# Classes of SQLSTATEs of types that cannot be checked in this way.
_UNSUPPORTED = ("42", "0A")


class Refusal(NamedTuple):
    """Why a record is refused, in the server's words."""

    column: str
    sqlstate: str
    message: str


def check_input(cursor: Cursor, table: Table, batch: Batch) -> dict[int, Refusal]:
    """By a record's position, from 0, the first of its values that its column's type refuses.

    Needs an open transaction, in which it writes nothing, and only the types of the columns: the
    table need not exist, and its triggers do not run. Neither records that cannot be encoded nor
    constraints are checked. Raises `psycopg2.Error` where the server cannot be asked.
    """
    columns = [column for column in table.columns if _may_refuse(column)]
    encoder = RowEncoder(columns)
    # For each column its different values, each with the positions of the records that have it.
    records: list[dict[str, list[int]]] = [{} for _ in columns]
    for n in range(len(batch.records) if columns else 0):
        try:
            row = encoder.values(batch, n)
        except (RecordError, *DECODE_ERRORS):
            continue
        for of_value, value in zip(records, row, strict=True):
            if value is not None:
                of_value.setdefault(value, []).append(n)
    refusals: dict[int, Refusal] = {}
    for n, value, sqlstate, message in sorted(_refused(cursor, columns, list(map(list, records)))):
        for position in records[n][value]:
            refusals.setdefault(position, Refusal(columns[n].name, sqlstate, message))
    return refusals


def pieces(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """The values in at most `PARTS` parts of about the same size."""
    size = -(-len(values) // PARTS)
    return (values[at : at + size] for at in range(0, len(values), size))


def _may_refuse(column: Column) -> bool:
    """Whether there is text that the column does not take."""
    unlimited = input_type(column) == column.type
    return not (unlimited and column.type.startswith(TEXT_TYPES))


_Found = tuple[int, str, str, str]  # the column from 0, the value, SQLSTATE, message


def _refused(
    cursor: Cursor, columns: Sequence[Column], values: Sequence[list[str]]
) -> Iterator[_Found]:
    """The values of each column that its type refuses."""
    import psycopg2

    if cursor.connection.server_version >= SOFT_ERRORS:
        cursor.execute("SAVEPOINT pgload_check")
        try:
            yield from _refused_in_one_statement(cursor, columns, values)
        except psycopg2.Error as error:  # a type of an extension without soft errors
            _check_unsupported(error)
            cursor.execute("ROLLBACK TO SAVEPOINT pgload_check")
        else:
            return
    for n, (column, of_column) in enumerate(zip(columns, values, strict=True)):
        # Of these the input functions are not called with the text.
        if of_column and not column.type.endswith("]") and column.type not in JSON_TYPES:
            yield from _refused_in_parts(cursor, n, column, of_column)


def _refused_in_one_statement(
    cursor: Cursor, columns: Sequence[Column], values: Sequence[list[str]]
) -> list[_Found]:
    selects = []
    for n, (column, of_column) in enumerate(zip(columns, values, strict=True)):
        if of_column:
            type_ = literal(column.type, cursor.connection)
            array = cursor.mogrify("%s", (of_column,)).decode()
            selects.append(
                f"SELECT {n}, v, e.sql_error_code, e.message FROM pg_catalog.unnest({array}::text[]"
                f") AS v, pg_catalog.pg_input_error_info(v, {type_}) AS e "
                f"WHERE NOT pg_catalog.pg_input_is_valid(v, {type_})"
            )
    if not selects:
        return []
    cursor.execute(" UNION ALL ".join(selects))
    return cursor.fetchall()


def _refused_in_parts(
    cursor: Cursor, n: int, column: Column, values: Sequence[str]
) -> Iterator[_Found]:
    """By a function that calls the input function as an INSERT does, in ever smaller parts."""
    import psycopg2

    cursor.execute("SAVEPOINT pgload_check")
    waiting: list[Sequence[str]] = [values]
    while waiting:
        part = waiting.pop()
        records = literal(to_json([{"v": value} for value in part]).decode(), cursor.connection)
        try:
            cursor.execute(
                f"SELECT FROM pg_catalog.json_to_recordset({records}) AS r(v {column.type}) LIMIT 1"
            )
        except psycopg2.Error as error:
            _check_unsupported(error)
            cursor.execute("ROLLBACK TO SAVEPOINT pgload_check")
            if not is_data_error(error):
                return
            if len(part) > 1:
                waiting += pieces(part)
            else:
                yield n, part[0], str(error.pgcode), error.diag.message_primary or str(error)


def _check_unsupported(error: psycopg2.Error) -> None:
    """Raise the error unless it shows only that a value is refused, or that it is not checked."""
    if not is_data_error(error) and not (error.pgcode or "").startswith(_UNSUPPORTED):
        raise error
