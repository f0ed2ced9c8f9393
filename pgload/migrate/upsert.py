"""What becomes of records whose key is in the table already.

They are written into a temporary table first, by any method; one more statement in the same
transaction takes them from there with `ON CONFLICT`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pgload.schema.table import Table, column_names, qualified_name, quoted

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

OnConflict = Literal["skip", "update"]
TOUCHED = ("updatedAt", "updated_at")
_ORDER = "pgload_order"  # of the records in their batch


def make_merges(
    tables: Iterable[Table], on_conflict: Literal["error", OnConflict], connection: Connection
) -> dict[Table, Merge]:
    """What follows a batch of each table; nothing where a conflict is an error."""
    merges: dict[Table, Merge] = {}
    if on_conflict != "error":
        for table in dict.fromkeys(tables):
            number = len(merges)
            merges[table] = Merge(
                table, table.key, on_conflict, number, _touched(table, connection)
            )
    return merges


def _touched(table: Table, connection: Connection) -> tuple[str, ...]:
    """The columns that say when a row was changed, where the server fills them."""
    names = [name for name in TOUCHED if name not in {column.name for column in table.columns}]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname::text FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attname = ANY(%s) AND atthasdef",
            (qualified_name(table, connection), names),
        )
        return tuple(name for (name,) in cursor.fetchall())


class Merge:
    """Writes into `staging`, and from there into the table.

    `skip` keeps the row that is there, and of a batch's records with one key the first; `update`
    takes the record, and of several the last. `touched` are columns that an update sets to their
    default anew, such as "updatedAt". A key with a NULL in it is never in the way.
    """

    def __init__(
        self,
        table: Table,
        key: tuple[str, ...],
        on_conflict: OnConflict,
        number: int,
        touched: tuple[str, ...] = (),
    ) -> None:
        self.table = table
        self.staging = replace(table, schema="pg_temp", name=f"pgload_staging_{number}")
        self._key = key
        self._on_conflict = on_conflict
        self._touched = touched

    def prepare(self, connection: Connection) -> bytes:
        """The statements that make the temporary table, which every transaction leaves empty."""
        staging, columns = qualified_name(self.staging, connection), self._columns(connection)
        target = qualified_name(self.table, connection)
        (name,) = quoted([self.staging.name], connection)
        return (
            f"CREATE TEMPORARY TABLE {name} ON COMMIT DELETE ROWS AS "
            f"SELECT {columns} FROM {target} WITH NO DATA; "
            f"ALTER TABLE {staging} ADD COLUMN {_ORDER} bigint GENERATED ALWAYS AS IDENTITY"
        ).encode()

    def statement(self, connection: Connection) -> bytes:
        """The statement that follows a batch."""
        staging, columns = qualified_name(self.staging, connection), self._columns(connection)
        target = qualified_name(self.table, connection)
        key = ", ".join(quoted(self._key, connection))
        others = quoted(
            [column.name for column in self.table.columns if column.name not in self._key],
            connection,
        )
        values = [f"{name} = EXCLUDED.{name}" for name in others]
        values += [f"{name} = DEFAULT" for name in quoted(self._touched, connection)]
        if self._on_conflict == "skip" or not values:
            return (
                f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging} "
                f"ORDER BY {key}, {_ORDER} ON CONFLICT ({key}) DO NOTHING"
            ).encode()
        # Keys with a NULL are all different; DISTINCT ON takes them for equal.
        tests = " OR ".join(f"{name} IS NULL" for name in quoted(self._key, connection))
        distinct = f"{key}, CASE WHEN {tests} THEN {_ORDER} END"
        # In the order of the key, which also keeps two connections from waiting for each other.
        return (
            f"INSERT INTO {target} ({columns}) SELECT DISTINCT ON ({distinct}) {columns} "
            f"FROM {staging} ORDER BY {distinct}, {_ORDER} DESC "
            f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(values)}"
        ).encode()

    def clear(self, connection: Connection) -> bytes:
        """The statement that empties the temporary table within a transaction."""
        return f"DELETE FROM {qualified_name(self.staging, connection)}".encode()

    def _columns(self, connection: Connection) -> str:
        return ", ".join(column_names(self.table, connection))
