"""Tables that exist: which one a file's records go to, which field fills which column, which keys.

Everything here reads the server's catalog over a connection in autocommit mode, and writes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pgload.errors import UsageError
from pgload.schema.table import Column, Table, qualified_name, quoted, snake_case

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# How a name is compared with one in the catalog; the first comparison that finds any decides.
READINGS: tuple[Callable[[str], str], ...] = (str, str.casefold, snake_case)
NO_TABLES = {
    "v": "a view: name the table behind it",
    "m": "a materialised view: name the table behind it",
    "f": "a foreign table: migrate to the server that holds it",
}

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind, array_position(%(schemas)s::name[], n.nspname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%(schemas)s::name[]) AND c.relkind = ANY('{r,p,v,m,f}')
"""
# A domain counts as the type that it is made of: that is what its text is read as, and whether it
# is JSON shows. Whether it allows NULL or has a default is told on the way down.
_COLUMNS = """
WITH RECURSIVE types AS (
    SELECT a.attnum, a.attname, a.attgenerated, a.attidentity,
           a.atttypid AS type, a.atttypmod AS modifier,
           a.attnotnull AS required, a.atthasdef AS filled
    FROM pg_attribute a WHERE a.attrelid = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT d.attnum, d.attname, d.attgenerated, d.attidentity,
           t.typbasetype, t.typtypmod,
           d.required OR t.typnotnull, d.filled OR t.typdefault IS NOT NULL
    FROM types d JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd'
)
SELECT d.attname, format_type(d.type, d.modifier),
       d.attgenerated <> '' OR d.attidentity = 'a',
       d.attidentity <> '' OR d.filled, d.required,
       pg_get_serial_sequence(%(table)s::regclass::text, d.attname) IS NOT NULL
FROM types d JOIN pg_type t ON t.oid = d.type WHERE t.typtype <> 'd' ORDER BY d.attnum
"""
# Only what ON CONFLICT takes: whole, plain columns, checked at once.
_KEYS = """
SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.n <= i.indnkeyatts ORDER BY k.n)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(table)s::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND NOT i.indisexclusion AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, c.relname
"""


@dataclass(frozen=True, slots=True)
class Match:
    """An existing table, and how records with certain fields fill it."""

    table: Table  # its columns are those that a field fills; its key is of columns
    unknown: tuple[str, ...]  # fields without a column
    computed: tuple[str, ...]  # fields whose column lets nobody but the server write it
    missing: tuple[str, ...]  # columns that need a value and have no field
    sequences: tuple[str, ...]  # columns that a field fills now, and a sequence later: it lags

    @property
    def renamed(self) -> tuple[Column, ...]:
        """The columns whose name is not quite that of their field."""
        return tuple(column for column in self.table.columns if column.field is not None)


class _Existing(NamedTuple):
    name: str
    type: str
    computed: bool  # generated always
    filled: bool  # by a default or an identity, where a row says nothing
    required: bool
    sequence: bool


def match_table(table: Table, fields: Iterable[str], connection: Connection) -> Match | None:
    """The table that exists under this name, or None; and which of the fields fill its columns.

    It is looked for in the table's schema, or along the search path if it names none. A name fits
    to the letter, else without regard to case, else in snake_case (`bidNtceNo`, `bid_ntce_no`);
    a column takes one field at most, and a field fills one column.

    A column that the server fills by itself and that has no field is left to it. If it has one,
    the field is written, as records brought from elsewhere keep their ids, and has to be in every
    record; a column that is generated always is left out, and its field is in `computed`.

    Raises `UsageError` for what is no table and for names that fit more than once.
    """
    found = _find(table, connection)
    if found is None:
        return None
    oid, schema, name = found
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS, {"table": oid})
        columns = {row[0]: _Existing(*row) for row in cursor.fetchall()}
    fields = list(dict.fromkeys(fields))
    column_of = _fit(fields, list(columns), f"table {name}")
    field_of = {column: field for field, column in column_of.items()}
    filled = [column for column in columns.values() if column.name in field_of]
    written = [column for column in filled if not column.computed]
    return Match(
        table=replace(
            table,
            name=name,
            schema=schema,
            columns=tuple(_column(column, field_of[column.name]) for column in written),
            key=tuple(column_of.get(field, field) for field in table.key),
        ),
        unknown=tuple(field for field in fields if field not in column_of),
        computed=tuple(field_of[column.name] for column in filled if column.computed),
        missing=tuple(
            column.name
            for column in columns.values()
            if column.required and not column.filled and column.name not in field_of
        ),
        sequences=tuple(column.name for column in written if column.sequence),
    )


def keys_of(table: Table, connection: Connection) -> list[tuple[str, ...]]:
    """The columns of each key that ON CONFLICT can name, the primary key first.

    Not those of a partial or deferrable index or one on expressions, which it cannot.
    """
    with connection.cursor() as cursor:
        cursor.execute(_KEYS, {"table": qualified_name(table, connection)})
        return [tuple(columns) for (columns,) in cursor.fetchall()]


def conflict_key(table: Table, connection: Connection) -> tuple[str, ...]:
    """The key by which a record that comes again is known.

    That is the table's own, from `tables.toml`, if the server keeps it unique; else the first of
    the server's keys that records fill, its primary key before others. Raises `UsageError` when
    there is none, which says how to make one.
    """
    keys = keys_of(table, connection)
    if table.key:
        for key in keys:
            if set(key) == set(table.key):
                return key
    else:
        names = {column.name for column in table.columns}
        for key in keys:
            if names.issuperset(key):
                return key
    wanted = ", ".join(quoted(table.key, connection)) or "…"
    raise UsageError(
        f"table {table.name} has no unique key{f' of {wanted}' if table.key else ''} that records "
        f"fill, so none can be told to come again: add one (ALTER TABLE … ADD UNIQUE ({wanted})), "
        "or use --on-conflict error"
    )


def _find(table: Table, connection: Connection) -> tuple[int, str, str] | None:
    """The oid, schema and name of the table; the schemas are tried in their order."""
    with connection.cursor() as cursor:
        if table.schema is None:
            cursor.execute("SELECT current_schemas(false)::text[]")
            row = cursor.fetchone()
            schemas = row[0] if row else []
        else:
            schemas = [table.schema]
        cursor.execute(_TABLES, {"schemas": schemas})
        relations = cursor.fetchall()
    for reading in READINGS:
        fitting = [each for each in relations if reading(each[2]) == reading(table.name)]
        if fitting:
            first = min(each[4] for each in fitting)
            fitting = [each for each in fitting if each[4] == first]
        if len(fitting) > 1:
            names = ", ".join(f'"{each[2]}"' for each in fitting)
            raise UsageError(
                f"table {table.name} could be any of {names} in schema {fitting[0][1]}: "
                "name the right one to the letter in tables.toml"
            )
        for oid, schema, name, kind, _ in fitting:
            if kind in NO_TABLES:
                raise UsageError(f"{schema}.{name} is {NO_TABLES[kind]}")
            return oid, schema, name
    return None


def _fit(fields: Sequence[str], columns: Sequence[str], where: str) -> dict[str, str]:
    """The column of each field that has one."""
    column_of: dict[str, str] = {}
    for reading in READINGS:
        taken = set(column_of.values())
        left = _by(reading, (field for field in fields if field not in column_of))
        free = _by(reading, (column for column in columns if column not in taken))
        for name, candidates in left.items():
            fitting = free.get(name, [])
            if len(fitting) > 1 or (fitting and len(candidates) > 1):
                raise UsageError(
                    f"{where}: {_listed('field', candidates)} could fill "
                    f"{_listed('column', fitting)}: rename one so that it fits to the letter"
                )
            for column in fitting:
                column_of[candidates[0]] = column
    return column_of


def _by(reading: Callable[[str], str], names: Iterable[str]) -> Mapping[str, list[str]]:
    groups = defaultdict[str, list[str]](list)
    for name in names:
        groups[reading(name)].append(name)
    groups.pop("", None)  # nothing is left of a name without a letter
    return groups


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(f'{name!r}' for name in names)}"


def _column(existing: _Existing, field: str) -> Column:
    return Column(existing.name, existing.type, None if field == existing.name else field)
