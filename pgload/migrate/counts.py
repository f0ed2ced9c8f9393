"""What became of records that are not rejected, and tables on which the server may drop some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pgload.schema.table import Table, qualified_name

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# A row-level trigger that fires before or instead of an insert (the bits of pg_trigger.tgtype: 1
# row, 2 before, 4 insert, 64 instead), or a rule, on the table or on one of its partitions.
_MAY_SUPPRESS = """
    WITH RECURSIVE relations AS (
        SELECT n, pg_catalog.to_regclass(name)::oid AS oid
        FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, n)
        UNION SELECT r.n, i.inhrelid
        FROM pg_catalog.pg_inherits i JOIN relations r ON i.inhparent = r.oid
    )
    SELECT r.n FROM pg_catalog.pg_class c JOIN relations r USING (oid)
    WHERE c.relhasrules OR c.relkind IN ('v', 'f')
    UNION SELECT r.n FROM pg_catalog.pg_trigger g JOIN relations r ON r.oid = g.tgrelid
    WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
    AND g.tgtype::int & 1 = 1 AND g.tgtype::int & 4 = 4 AND g.tgtype::int & (2 | 64) <> 0"""


class RowCounts(NamedTuple):
    """Records of a batch that are neither rejected nor inserted as a row of their own.

    `updated` of them replaced a row, or were replaced by a later record of the batch.
    """

    skipped: int = 0  # their key was in the table
    updated: int = 0
    suppressed: int = 0  # by a trigger or a rule of the table

    @property
    def not_written(self) -> int:
        """Records that changed nothing in the table."""
        return self.skipped + self.suppressed

    def plus(self, other: RowCounts) -> RowCounts:
        """The sum of both."""
        return RowCounts(*(a + b for a, b in zip(self, other, strict=True)))


NONE = RowCounts()


def tables_that_may_suppress(tables: Iterable[Table], connection: Connection) -> set[Table]:
    """The tables with a trigger or a rule that may drop rows: their rows have to be counted."""
    tables = list(set(tables))
    with connection.cursor() as cursor:
        cursor.execute(_MAY_SUPPRESS, ([qualified_name(table, connection) for table in tables],))
        return {tables[n - 1] for (n,) in cursor.fetchall()}
