"""Rows that the server itself makes of raw records, with its JSON functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Raw

from pgload.schema.table import JSON_TYPES, MAX_IDENTIFIER_BYTES, Table, input_type, literal, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def rows_of_json(table: Table, connection: Connection, *, stored: bool) -> tuple[str, str]:
    """A SELECT of the table's columns from records: what stands before and after `json_literal`.

    A string becomes its characters, any other value its JSON text, and null, a missing field and
    the empty string NULL. `json_to_record` would write a json column's strings anew, so those are
    taken with `->`, which keeps their text; and it takes no field longer than an identifier.

    Either as they are to be inserted, or as they are `stored` then: cast to the columns' own types,
    which for a varchar(10) would cut what an INSERT refuses.
    """
    values, fields = [], []
    for column in table.columns:
        name, field = quoted([column.name, column.source], connection)
        key = literal(column.source, connection)
        if column.type in JSON_TYPES:
            value = f"nullif(nullif((e -> {key})::text, '\"\"'), 'null')"
        elif not 0 < len(column.source.encode()) <= MAX_IDENTIFIER_BYTES:
            value = f"nullif(e ->> {key}, '')"
        else:
            fields.append(f"{field} text")
            value = f"nullif(r.{field}, '')"
        type_ = column.type if stored else input_type(column)
        values.append(f"{value}::{type_} AS {name}")
    if len(fields) == len(values):
        function, record = "json_to_recordset", f" AS r({', '.join(fields)})"
    else:
        function, record = "json_array_elements", " AS a(e)"
        if fields:
            record += f", json_to_record(e) AS r({', '.join(fields)})"
    return f"SELECT {', '.join(values)} FROM {function}(", f"){record}"


def json_literal(records: Iterable[Raw]) -> bytes:
    """The records as one JSON array in an SQL literal; for `standard_conforming_strings` only."""
    return b"'[" + b",".join(records).replace(b"'", b"''") + b"]'"
