"""`--on-conflict skip` and `update`: a staging table, and the statement that moves its rows.

A batch is written into a temporary staging table, by any method; one more statement in the same
transaction inserts from there with `ON CONFLICT`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pgload.migrate.options import OnConflict
from pgload.schema.table import OVERRIDING, Table, column_names, qualified_name, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

UPDATED_AT = ("updatedAt", "updated_at")
_ORDER = "pgload_order"  # column of the staging table: the records' order in their batch
# A crash must not lose a batch and keep later ones, which have newer records of its keys.
_IN_ORDER = (
    "; SELECT pg_catalog.set_config('synchronous_commit', 'local', {local}) "
    "WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
)


def make_upserts(
    tables: Iterable[Table], on_conflict: OnConflict, connection: Connection
) -> dict[Table, Upsert]:
    """The `Upsert` of each table; empty where a conflict is an error."""
    if on_conflict == "error":
        return {}
    return {
        table: Upsert(
            table,
            staging_name=f"pgload_staging_{number}",
            update=on_conflict == "update",
            defaults=_updated_at_columns(table, connection),
            keeps=_identity_columns(table, connection),
        )
        for number, table in enumerate(dict.fromkeys(tables))
    }


def _updated_at_columns(table: Table, connection: Connection) -> tuple[str, ...]:
    """The columns that hold when a row was changed, where the server fills them."""
    filled = {column.name for column in table.columns}
    names = [name for name in UPDATED_AT if name not in filled]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname::text FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attname = ANY(%s) AND atthasdef",
            (qualified_name(table, connection), names),
        )
        return tuple(name for (name,) in cursor.fetchall())


def _identity_columns(table: Table, connection: Connection) -> tuple[str, ...]:
    """The columns that are generated always as identity: an UPDATE cannot assign to them."""
    if not table.override_identity:
        return ()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname::text FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attidentity = 'a'",
            (qualified_name(table, connection),),
        )
        return tuple(name for (name,) in cursor.fetchall())


class Upsert:
    """Moves a batch from `staging` into `table`, by the table's key.

    Without `update` an existing row stays, and of records with the same key in a batch the first
    counts. With `update` the record replaces the row, of several the last counts, and the columns
    in `defaults` are set to their default, such as "updatedAt", and those in `keeps` stay as they
    are. A key that contains NULL conflicts with none.
    """

    def __init__(
        self,
        table: Table,
        *,
        staging_name: str,
        update: bool,
        defaults: tuple[str, ...] = (),
        keeps: tuple[str, ...] = (),
    ) -> None:
        self.table = table
        self.staging = replace(table, schema="pg_temp", name=staging_name)
        self._update = update
        self._defaults = defaults
        self._kept = {*table.key, *keeps}

    def prepare(self, connection: Connection, *, pooled: bool = False) -> bytes:
        """The statements that create the staging table, which is empty after every transaction.

        `pooled`: they belong in each transaction, at whose end the table is dropped.
        """
        staging, columns = qualified_name(self.staging, connection), self._columns(connection)
        target = qualified_name(self.table, connection)
        (name,) = quoted([self.staging.name], connection)
        on_commit = "DROP" if pooled else "DELETE ROWS"
        return (
            f"CREATE TEMPORARY TABLE {name} ON COMMIT {on_commit} AS "
            f"SELECT {columns} FROM {target} WITH NO DATA; "
            f"ALTER TABLE {staging} ADD COLUMN {_ORDER} bigint GENERATED ALWAYS AS IDENTITY"
            f"{_IN_ORDER.format(local=str(pooled).lower()) if self._update else ''}"
        ).encode()

    def statement(self, connection: Connection, *, records: int, note: str = "") -> bytes:
        """The statement that follows a batch of `records`; its row is their `RowCounts`.

        `note` is one more statement of the same query, which can read the row as `counts`.
        """
        staging, columns = qualified_name(self.staging, connection), self._columns(connection)
        target = qualified_name(self.table, connection)
        overriding = OVERRIDING if self.table.override_identity else ""
        key_names = self.table.key
        key = ", ".join(quoted(key_names, connection))
        others = quoted(
            [column.name for column in self.table.columns if column.name not in self._kept],
            connection,
        )
        assignments = [f"{name} = EXCLUDED.{name}" for name in others]
        assignments += [f"{name} = DEFAULT" for name in quoted(self._defaults, connection)]
        if not self._update or not assignments:
            queries = {
                "written": f"INSERT INTO {target} ({columns}){overriding} "
                f"SELECT {columns} FROM {staging} ORDER BY {key}, {_ORDER} "
                f"ON CONFLICT ({key}) DO NOTHING RETURNING 1",
                "counts": f"SELECT {records} - (SELECT count(*)::int FROM written) AS skipped, "
                "0 AS updated, 0 AS suppressed",
            }
        else:
            # Keys with a NULL are all different to ON CONFLICT, but equal to DISTINCT ON.
            is_null = " OR ".join(f"{name} IS NULL" for name in quoted(key_names, connection))
            distinct = f"{key}, CASE WHEN {is_null} THEN {_ORDER} END"
            # In the order of the key, so that two connections do not deadlock.
            queries = {
                "taken": f"SELECT DISTINCT ON ({distinct}) {columns} FROM {staging} "
                f"ORDER BY {distinct}, {_ORDER} DESC",
                "former": f"SELECT count(*)::int AS n FROM taken JOIN {target} USING ({key})",
                "written": f"INSERT INTO {target} ({columns}){overriding} "
                f"SELECT {columns} FROM taken "
                f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(assignments)} RETURNING 1",
                # Of records with one key in the batch, all but the last are counted as updated.
                "dropped": "SELECT (SELECT count(*) FROM taken)::int - "
                "(SELECT count(*) FROM written)::int AS n",
                "counts": f"SELECT 0 AS skipped, {records} - (SELECT count(*) FROM taken)::int "
                "+ greatest(former.n - dropped.n, 0) AS updated, dropped.n AS suppressed "
                "FROM former, dropped",
            }
        if note:
            queries["noted"] = note
        with_queries = ", ".join(f"{name} AS ({query})" for name, query in queries.items())
        return f"WITH {with_queries} SELECT skipped, updated, suppressed FROM counts".encode()

    def clear(self, connection: Connection) -> bytes:
        """The statement that empties the staging table within a transaction."""
        return f"DELETE FROM {qualified_name(self.staging, connection)}".encode()

    def _columns(self, connection: Connection) -> str:
        return ", ".join(column_names(self.table, connection))
