"""The unique keys of a table that exists, by which ON CONFLICT recognises a record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pgload.errors import UsageError
from pgload.schema.table import Table, qualified_name, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# Only what ON CONFLICT accepts: not partial, not on expressions, not deferrable.
KEYS = """
SELECT i.indrelid::oid,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.n <= i.indnkeyatts ORDER BY k.n)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY(%(tables)s::regclass[]) AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND NOT i.indisexclusion AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, c.relname
"""


def keys_of(table: Table, connection: Connection) -> list[tuple[str, ...]]:
    """The columns of each unique key that ON CONFLICT can name, the primary key first.

    It cannot name a partial or deferrable index, or one on expressions.
    """
    with connection.cursor() as cursor:
        cursor.execute(KEYS, {"tables": [qualified_name(table, connection)]})
        return [tuple(columns) for _, columns in cursor.fetchall()]


def conflict_key(table: Table, connection: Connection) -> tuple[str, ...]:
    """The columns of the unique key by which ON CONFLICT recognises a record that is there already.

    That is the key from `tables.toml` if it names one, else the first of the server's keys that the
    records fill. Raises `UsageError` when the server has no such key.
    """
    return choose_key(table, keys_of(table, connection), connection)


def choose_key(
    table: Table, keys: Iterable[tuple[str, ...]], connection: Connection
) -> tuple[str, ...]:
    """As `conflict_key`, of these unique keys."""
    names = {column.name for column in table.columns}
    for key in keys:
        if names.issuperset(key) and (not table.key or set(key) == set(table.key)):
            return key
    wanted = ", ".join(quoted(table.key, connection)) or "…"
    raise UsageError(
        f"table {table.name} has no unique key{f' of {wanted}' if table.key else ''} that records "
        f"fill, so a conflict cannot be detected: add one (ALTER TABLE … ADD UNIQUE ({wanted})), "
        "or use --on-conflict error"
    )
