"""SQL with which the server itself turns raw records into rows, by its JSON functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Raw

from pgload.schema.table import JSON_TYPES, MAX_IDENTIFIER_BYTES, Table, input_type, literal, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def rows_of_json(table: Table, connection: Connection, *, stored: bool) -> tuple[str, str]:
    """A SELECT of the table's columns from records: the SQL before and after a `json_literal`.

    A string becomes its characters, any other value its JSON text, and null, a missing field and
    the empty string NULL. The values of json columns are taken with `->`, because `json_to_record`
    would not keep the text of a string; so are fields whose names are longer than an identifier.

    The values have the types in which they are inserted; with `stored`, they are cast to the types
    of the columns, as they are after an INSERT (a cast to varchar(10) cuts what an INSERT refuses).
    """
    values, fields = [], []
    for column in table.columns:
        name, field = quoted([column.name, column.source], connection)
        key = literal(column.source, connection)
        if column.type in JSON_TYPES:
            value = f"nullif(nullif((e -> {key})::text, '\"\"'), 'null')"
        elif not 0 < len(column.source.encode()) <= MAX_IDENTIFIER_BYTES:
            value = f"e ->> {key}"
        else:
            fields.append(f"{field} text")
            value = f"r.{field}"
        if column.type not in JSON_TYPES and not column.keep_empty:
            value = f"nullif({value}, '')"
        type_ = column.type if stored else input_type(column)
        values.append(f"({value})::{type_} AS {name}")
    if len(fields) == len(values):
        function, alias = "json_to_recordset", f" AS r({', '.join(fields)})"
    else:
        function, alias = "json_array_elements", " AS a(e)"
        if fields:
            alias += f", json_to_record(e) AS r({', '.join(fields)})"
    return f"SELECT {', '.join(values)} FROM {function}(", f"){alias}"


def json_literal(records: Iterable[Raw]) -> bytes:
    """The records as one JSON array in an SQL literal; needs `standard_conforming_strings`."""
    return b"'[" + b",".join(records).replace(b"'", b"''") + b"]'"
