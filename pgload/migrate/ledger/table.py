"""The ledger's table: where it is, whether it can be trusted, and how it is created.

A role that may create tables in a schema of the search path could put a table with the ledger's
name there, with a trigger that runs with the rights of whoever migrates. So a ledger is used only
if it belongs to this role or to the database's owner, and is an ordinary table without code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgload.errors import UsageError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

NAME = "pgload_ledger"
_COLUMNS = {
    "file": "text NOT NULL",  # SHA-256 of the file's content
    "table": "text NOT NULL",
    "first_record": "bigint NOT NULL",  # of the batch, from 1; 0 in the row of the file itself
    "records": "integer NOT NULL",  # in the batch, whatever became of them
    "rejected": "integer NOT NULL",
    "batch_size": "integer NOT NULL",
    "file_name": "text NOT NULL",
    "run": "text NOT NULL",  # the migration that wrote the batch
    "committed_at": "timestamptz NOT NULL DEFAULT now()",
}
# Columns that ledgers of earlier versions lack, with their default.
_ADDED = {
    "skipped": ("integer", "0"),
    "updated": ("integer", "0"),
    "suppressed": ("integer", "0"),
    "storage": ("text", "''"),  # which files of the server the table has; see `Ledger`
    "writers": ("bigint[]", "'{}'"),  # keys of the runs that write the file
    "partitions": ("text", "''"),  # how the file's records are divided; see `Partitioning`
    "beat": ("bigint", "0"),  # of a run, in a row of its own; see `Ledger`
}
_DEFAULTS = ("now()", "0", "''::text", "'{}'::bigint[]")
# All tables of that name in the search path, the first one first.
_FIND = """
    SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname),
        pg_catalog.pg_get_userbyid(c.relowner),
        c.relowner IN (
            (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user),
            (SELECT datdba FROM pg_catalog.pg_database
             WHERE datname = pg_catalog.current_database())),
        c.relkind = 'r' AND NOT c.relrowsecurity AND NOT c.relhasrules AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid
        ) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_inherits WHERE c.oid IN (inhrelid, inhparent)
        ) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_constraint WHERE conrelid = c.oid AND contype NOT IN ('p','n')
        ) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_index
            WHERE indrelid = c.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL)
        ) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_attrdef d
            WHERE d.adrelid = c.oid AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) <> ALL(%s)
        ),
        ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
    FROM unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s(name, at)
    JOIN pg_catalog.pg_namespace n ON n.nspname = s.name
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = %s
    ORDER BY s.at"""


def find_ledger(connection: Connection) -> str | None:
    """The ledger's qualified name; None if no schema of the search path has one.

    Raises `UsageError` for a table of that name that cannot be trusted, and for two ledgers.
    """
    names = []
    for name, role, ours, plain, columns in _candidates(connection):
        if not ours or not plain or not set(_COLUMNS) <= set(columns):
            why = (
                f"it belongs to {role}, who is neither this user nor the owner of the database"
                if not ours
                else "it has triggers, rules, policies, constraints or columns of its own"
                if not plain
                else "it lacks columns of a ledger"
            )
            raise UsageError(
                f"table {name} is not used as the ledger, because {why}: drop or rename it, or do "
                "without a ledger (--no-ledger)"
            )
        names.append(str(name))
    if len(names) > 1:
        raise UsageError(
            f"there are {len(names)} ledgers in the search path, {' and '.join(names)}, and each "
            "may record other batches: remove one, or its schema from the search path"
        )
    return names[0] if names else None


def columns_of(name: str, connection: Connection) -> str:
    """The ledger in a FROM clause, with the columns that an earlier version did not create."""
    missing = _missing(name, connection)
    if not missing:
        return name
    values = [f"{_ADDED[each][1]}::{_ADDED[each][0]} AS {each}" for each in missing]
    return f"(SELECT *, {', '.join(values)} FROM {name})"


def create_statements(connection: Connection) -> list[str]:
    """The statements that create the ledger, or add the columns that it lacks."""
    name = find_ledger(connection)
    added = {each: f"{type_} NOT NULL DEFAULT {value}" for each, (type_, value) in _ADDED.items()}
    if name is None:
        columns = ", ".join(f'"{each}" {type_}' for each, type_ in (_COLUMNS | added).items())
        key = f'CONSTRAINT {NAME}_pkey PRIMARY KEY (file, "table", first_record)'
        return [f"CREATE TABLE {_first_schema(connection)}.{NAME} ({columns}, {key})"]
    return [
        f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {each} {added[each]}"
        for each in _missing(name, connection)
    ]


def _candidates(connection: Connection) -> list[tuple[str, str, bool, bool, list[str]]]:
    with connection.cursor() as cursor:
        cursor.execute(_FIND, (list(_DEFAULTS), NAME))
        return cursor.fetchall()


def _missing(name: str, connection: Connection) -> list[str]:
    found = next(columns for each, *_, columns in _candidates(connection) if each == name)
    return [each for each in _ADDED if each not in found]


def _first_schema(connection: Connection) -> str:
    """The quoted schema in which a table is created. Raises `UsageError` where there is none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.quote_ident(pg_catalog.current_schema())")
        ((schema,),) = cursor.fetchall()
    if schema is None:
        raise UsageError(
            "no schema of the search path exists, so the ledger cannot be created: create one, or "
            "do without a ledger (--no-ledger)"
        )
    return str(schema)
