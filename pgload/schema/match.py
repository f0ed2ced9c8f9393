"""Matching to a table that exists: the table, and the column that each field fills.

The functions read the server's catalog, over a connection in autocommit mode, and write nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.errors import UsageError
from pgload.schema.keys import KEYS, choose_key
from pgload.schema.table import MAX_COLUMNS, Column, Table, qualified_name, quoted, snake_case

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# Names are compared exactly, then without case, then in snake_case, until one matches.
NORMALIZATIONS: tuple[Callable[[str], str], ...] = (str, str.casefold, snake_case)
# By pg_class.relkind.
UNSUPPORTED_RELATIONS = {
    "v": "a view: name the table behind it",
    "m": "a materialised view: name the table behind it",
    "f": "a foreign table: migrate to the server that holds it",
}

_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind, array_position(current_schemas(false), n.nspname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(current_schemas(false) || %(schemas)s::name[])
AND c.relkind = ANY('{r,p,v,m,f}')
"""
# A domain counts as its base type, which decides how text is read and whether it is JSON. NOT NULL
# and a default may come from the column or from any of the domains.
_COLUMNS = """
WITH RECURSIVE types AS (
    SELECT a.attrelid, a.attnum, a.attname, a.attgenerated, a.attidentity,
           a.atttypid AS type, a.atttypmod AS modifier,
           a.attnotnull AS required, a.atthasdef AS filled
    FROM pg_attribute a
    WHERE a.attrelid = ANY(%(tables)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT d.attrelid, d.attnum, d.attname, d.attgenerated, d.attidentity,
           t.typbasetype, t.typtypmod,
           d.required OR t.typnotnull, d.filled OR t.typdefault IS NOT NULL
    FROM types d JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd'
)
SELECT d.attrelid, d.attname, format_type(d.type, d.modifier),
       d.attgenerated <> '', d.attidentity = 'a',
       d.attidentity <> '' OR d.filled, d.required,
       pg_get_serial_sequence(d.attrelid::regclass::text, d.attname) IS NOT NULL
FROM types d JOIN pg_type t ON t.oid = d.type WHERE t.typtype <> 'd' ORDER BY d.attnum
"""
_IDENTITY = """
SELECT attname::text, pg_get_serial_sequence(%(table)s, attname::text)
FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attidentity = 'a' AND NOT attisdropped
"""


@dataclass(frozen=True, slots=True)
class Match:
    """An existing table, and how the fields of some records fill it."""

    table: Table  # its columns are those that a field fills; its key is of columns
    unknown: tuple[str, ...]  # fields without a column
    computed: tuple[str, ...]  # fields whose column is generated always, from other columns
    identity: tuple[str, ...]  # fields whose column is generated always as identity, and omitted
    missing: tuple[str, ...]  # columns that need a value and have no field
    sequences: tuple[str, ...]  # columns with a sequence, which a load by fields does not advance

    @property
    def renamed(self) -> tuple[Column, ...]:
        """The columns whose name differs from that of their field."""
        return tuple(column for column in self.table.columns if column.field is not None)


class _Relation(NamedTuple):
    """A table or a view in the catalog, as `_TABLES` selects it."""

    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind
    place: int | None  # of its schema in the search path


class _Existing(NamedTuple):
    """A column in the catalog, as `_COLUMNS` selects it."""

    name: str
    type: str
    computed: bool = False  # generated always, from other columns
    identity: bool = False  # generated always as identity
    filled: bool = False  # by a default or an identity, if a row has no value
    required: bool = False
    sequence: bool = False


class Catalog:
    """The server's tables as a plan sees them: each question is asked once, for all files.

    `read` asks it for many tables in two round trips; what it did not read is asked when needed.
    With `override_identity` fields fill columns that are generated always as identity, too.
    """

    def __init__(self, connection: Connection, *, override_identity: bool = False) -> None:
        self._connection = connection
        self._override_identity = override_identity
        # By schema, None for the search path: the tables by their name in each comparison.
        self._tables: dict[str | None, tuple[dict[str, list[_Relation]], ...]] = {}
        self._columns: dict[int, dict[str, _Existing]] = {}
        self._matches: dict[tuple[Table, tuple[str, ...]], Match | None] = {}
        self._keys: dict[int, list[tuple[str, ...]]] = {}
        self._oids: dict[tuple[str | None, str], int] = {}  # of the tables that were matched

    def read(self, tables: Iterable[Table]) -> None:
        """Read what `match` will need to know of these tables."""
        tables = list(tables)
        self._read_schemas({table.schema for table in tables})
        found = set[int]()
        for table in tables:
            with suppress(UsageError):  # `match` raises it again
                if relation := self._find(table):
                    found.add(relation.oid)
        self._read_columns(found)

    def match(self, table: Table, fields: Iterable[str]) -> Match | None:
        """As `match_table`."""
        key = (table, tuple(dict.fromkeys(fields)))
        if key not in self._matches:
            self._matches[key] = self._match(*key)
        return self._matches[key]

    def add_columns(self, table: Table, match: Match) -> tuple[Column, ...]:
        """Columns for the fields of a match that have none, of the types in `table`, else text.

        Further matches find them as if they were there. Raises `UsageError` where there are too
        many.
        """
        found = self._find(table)
        assert found is not None
        types = {column.name: column.type for column in table.columns}
        new = tuple(Column(field, types.get(field, "text")) for field in match.unknown)
        columns = self._columns[found.oid]
        if len(columns) + len(new) > MAX_COLUMNS:
            raise UsageError(
                f"table {found.name} would have {len(columns) + len(new):,} columns, and "
                f"PostgreSQL takes {MAX_COLUMNS:,}: omit fields with --on-unknown ignore"
            )
        columns |= {column.name: _Existing(column.name, column.type) for column in new}
        self._matches.clear()
        return new

    def conflict_key(self, table: Table) -> tuple[str, ...]:
        """As the function `conflict_key`, for the table of a match."""
        oid = self._oids[table.schema, table.name]
        if oid not in self._keys:
            self._keys |= {each: [] for each in self._columns}
            for each, columns in self._query(KEYS, {"tables": list(self._columns)}):
                self._keys[each].append(tuple(columns))
        return choose_key(table, self._keys[oid], self._connection)

    def has_schema(self, name: str) -> bool:
        """Whether the database has a schema of this name."""
        return bool(self._query("SELECT FROM pg_namespace WHERE nspname = %s", (name,)))

    def current_schema(self) -> str | None:
        """The schema in which tables are created."""
        ((schema,),) = self._query("SELECT current_schema()::text")
        return None if schema is None else str(schema)

    def _match(self, table: Table, fields: Sequence[str]) -> Match | None:
        found = self._find(table)
        if found is None:
            return None
        name = found.name
        if found.kind in UNSUPPORTED_RELATIONS:
            raise UsageError(f"{found.schema}.{name} is {UNSUPPORTED_RELATIONS[found.kind]}")
        self._read_columns({found.oid})
        self._oids[found.schema, name] = found.oid
        columns = self._columns[found.oid]
        column_of = _match_fields(fields, list(columns), table_name=name)
        field_of = {column: field for field, column in column_of.items()}
        filled = [column for column in columns.values() if column.name in field_of]
        omitted_identity = [
            column.name for column in filled if column.identity and not self._override_identity
        ]
        written = [
            column
            for column in filled
            if not column.computed and column.name not in omitted_identity
        ]
        return Match(
            table=replace(
                table,
                name=name,
                schema=found.schema,
                columns=tuple(_column(column, field_of[column.name]) for column in written),
                key=tuple(column_of.get(field, field) for field in table.key),
                override_identity=any(column.identity for column in written),
            ),
            unknown=tuple(field for field in fields if field not in column_of),
            identity=tuple(field_of[name] for name in omitted_identity),
            computed=tuple(field_of[column.name] for column in filled if column.computed),
            missing=tuple(
                column.name
                for column in columns.values()
                if column.required and not column.filled and column.name not in field_of
            ),
            sequences=tuple(column.name for column in written if column.sequence),
        )

    def _find(self, table: Table) -> _Relation | None:
        """The table of that name; the first schema that has one decides."""
        self._read_schemas({table.schema})
        for normalize, by_name in zip(NORMALIZATIONS, self._tables[table.schema], strict=True):
            matching = by_name.get(normalize(table.name), [])
            if not matching:
                continue
            schemas = {each.schema: each.place or 0 for each in matching}
            first = min(schemas, key=lambda schema: schemas[schema])
            matching = [each for each in matching if each.schema == first]
            if len(matching) > 1:
                names = ", ".join(f'"{each.name}"' for each in matching)
                raise UsageError(
                    f"table {table.name} could be any of {names} in schema {matching[0].schema}: "
                    "give the exact name in tables.toml"
                )
            return matching[0]
        return None

    def _read_schemas(self, schemas: set[str | None]) -> None:
        """Read which tables there are in schemas, and in the search path where one is None."""
        new = schemas.difference(self._tables)
        if not new:
            return
        names = [schema for schema in new if schema is not None]
        found = [_Relation(*row) for row in self._query(_TABLES, {"schemas": names})]
        for schema in new:
            groups = [defaultdict[str, list[_Relation]](list) for _ in NORMALIZATIONS]
            for normalize, group in zip(NORMALIZATIONS, groups, strict=True):
                for each in found:
                    if each.place is not None if schema is None else each.schema == schema:
                        group[normalize(each.name)].append(each)
                group.pop("", None)  # snake_case of a name without a letter or digit
            self._tables[schema] = tuple(map(dict, groups))

    def _read_columns(self, tables: set[int]) -> None:
        if new := tables.difference(self._columns):
            self._columns |= {oid: {} for oid in new}
            for oid, *row in self._query(_COLUMNS, {"tables": list(new)}):
                column = _Existing(*row)
                self._columns[oid][column.name] = column

    def _query(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()


def match_table(table: Table, fields: Iterable[str], connection: Connection) -> Match | None:
    """The existing table of this name and the columns that the fields fill; None without a table.

    It is searched for in the table's schema, or along the search path if it has none. Names match
    exactly, else without case, else in snake_case (`bidNtceNo`, `bid_ntce_no`); a column takes at
    most one field, and a field fills one column.

    The server fills a column with a default that has no field. If it has one, the field is written
    (records from elsewhere keep their ids) and has to be in every record. A column that is
    generated always is omitted, and its field is in `computed`.

    Raises `UsageError` for a view or a foreign table, and for names that match more than once.
    """
    return Catalog(connection).match(table, fields)


def advance_sequences(table: Table, connection: Connection) -> list[str]:
    """Set the sequences of the table's columns to at least their largest value; gives their names.

    Only of columns in `table.columns` that are generated always as identity.
    """
    advanced = []
    with connection.cursor() as cursor:
        cursor.execute(_IDENTITY, {"table": qualified_name(table, connection)})
        for column, sequence in cursor.fetchall():
            if column in {each.name for each in table.columns}:
                (name,) = quoted([column], connection)
                # Not backwards, as others may have taken values meanwhile.
                cursor.execute(
                    f"SELECT setval(%s, m) FROM (SELECT max({name}) FROM "
                    f"{qualified_name(table, connection)}) AS t(m), {sequence} "
                    "WHERE m > last_value OR m = last_value AND NOT is_called",
                    (sequence,),
                )
                advanced.append(column)
    return advanced


def _match_fields(
    fields: Sequence[str], columns: Sequence[str], *, table_name: str
) -> dict[str, str]:
    """The column of each field that has one."""
    column_of: dict[str, str] = {}
    for normalize in NORMALIZATIONS:
        taken = set(column_of.values())
        open_fields = _grouped(normalize, (field for field in fields if field not in column_of))
        open_columns = _grouped(normalize, (column for column in columns if column not in taken))
        for name, candidates in open_fields.items():
            matching = open_columns.get(name, [])
            if len(matching) > 1 or (matching and len(candidates) > 1):
                raise UsageError(
                    f"table {table_name}: {_listed('field', candidates)} could fill "
                    f"{_listed('column', matching)}: rename one so that it matches exactly"
                )
            for column in matching:
                column_of[candidates[0]] = column
    return column_of


def _grouped(normalize: Callable[[str], str], names: Iterable[str]) -> Mapping[str, list[str]]:
    groups = defaultdict[str, list[str]](list)
    for name in names:
        groups[normalize(name)].append(name)
    groups.pop("", None)  # snake_case of a name without a letter or digit
    return groups


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(f'{name!r}' for name in names)}"


def _column(existing: _Existing, field: str) -> Column:
    return Column(
        existing.name,
        existing.type,
        None if field == existing.name else field,
        default=existing.filled,
    )
