"""What the ledger records of files, batches and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pgload.migrate.counts import RowCounts
from pgload.migrate.ledger.entries import BatchKey, CommittedBatch, Entry, FileKey, LedgerFile
from pgload.migrate.ledger.table import columns_of, find_ledger
from pgload.schema.table import Table, qualified_name

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CHUNK = 1000  # files in one statement
# Changes when the table, or a partition of it, is made anew, truncated or rewritten. The catalog
# is read without a lock on the table.
_STORAGE = """
    WITH RECURSIVE relations AS (
        SELECT pg_catalog.to_regclass(%s)::oid AS oid
        UNION SELECT i.inhrelid
        FROM pg_catalog.pg_inherits i JOIN relations r ON i.inhparent = r.oid
    )
    SELECT pg_catalog.md5(pg_catalog.string_agg(
        c.oid::text || '.' || c.relfilenode::text, ',' ORDER BY c.oid))
    FROM relations JOIN pg_catalog.pg_class c USING (oid)"""


class LedgerQueries:
    """Reads the ledger of a database over `connection`, which may be replaced.

    `name` is its qualified name, since a worker's search path may differ, or None until it exists;
    `source` is the ledger in a FROM clause, with every column.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name: str | None = None
        self.source = ""

    def look_up(self, files: Sequence[LedgerFile]) -> dict[FileKey, Entry]:
        """What is recorded of each file's content; files that no run has begun are left out."""
        if not self._exists():
            return {}
        return dict(self._read(files))

    def batches(self, file: LedgerFile) -> list[CommittedBatch]:
        """The committed batches of a file, by their first records."""
        rows = self._select(
            [file],
            "l.first_record, l.records, l.rejected, l.suppressed",
            "WHERE l.first_record > 0 ORDER BY 3",
        )
        return [CommittedBatch(*row) for _, row in rows]

    def has_conflicts(self, table: Table) -> bool:
        """Whether any run has skipped or updated rows of the table by their key."""
        return self._exists() and bool(
            self._one(
                f"SELECT EXISTS (SELECT FROM {self.source} AS l "
                'WHERE l."table" = %s AND l.skipped + l.updated > 0)',
                (self._table(table),),
            )
        )

    def records_of_other_versions(self, files: Sequence[LedgerFile]) -> dict[FileKey, int]:
        """By file: the committed records of files with the same name and other content."""
        if not self._exists():
            return {}
        found: dict[FileKey, int] = {}
        for chunk in chunks(files):
            keys = {(file.content, self._table(file.table)): file.key for file in chunk}
            for content, table, records in self.execute(
                'SELECT w.file, w."table", sum(l.records - l.rejected - l.skipped - l.suppressed) '
                f'FROM unnest(%s::text[], %s::text[], %s::text[]) AS w(file, "table", name) '
                f'JOIN {self.source} AS l ON l.file_name = w.name AND l."table" = w."table" '
                "AND l.file <> w.file GROUP BY 1, 2",
                (*self._columns(chunk), [file.name for file in chunk]),
            ):
                found[keys[content, table]] = int(records)
        return found

    def rows_missing(self, table: Table, entries: Sequence[Entry]) -> tuple[int, int] | None:
        """The rows that the ledger relies on and those that are there, if these are fewer.

        Rows are counted only where the table was made anew, truncated or rewritten since: the
        ledger knows it by its oid and its files. None: nothing is known to be missing.
        """
        relied = sum(entry.records - entry.counts.updated for entry in entries)
        name = self._table(table)
        if not relied:
            return None
        storage = self._storage(table)
        if all(entry.storage == storage for entry in entries if entry.batches):
            if self._one(f"SELECT EXISTS (SELECT FROM {name})"):
                return None
            return relied, 0
        there = int(self._one(f"SELECT count(*) FROM {name}"))
        return (relied, there) if there < relied else None

    def accounted(self, files: Sequence[LedgerFile]) -> dict[FileKey, int]:
        """How many records of each file are in committed batches, whatever became of them."""
        rows = self._select(files, "sum(l.records)", "GROUP BY 1, 2")
        return {key: int(records) for key, (records,) in rows}

    def writer_of(self, batch: BatchKey) -> str | None:
        """The run that has committed the batch; None if it is not committed."""
        if not self._exists():
            return None
        rows = self.execute(
            f'SELECT run FROM {self.name} WHERE file = %s AND "table" = %s AND first_record = %s',
            batch[:3],
        )
        return str(rows[0][0]) if rows else None

    def _read(self, files: Sequence[LedgerFile]) -> Iterator[tuple[FileKey, Entry]]:
        rows = self._select(
            files,
            "l.first_record, l.records, l.rejected, l.batch_size, l.skipped, l.updated, "
            "l.suppressed, l.storage, l.writers, l.partitions",
            "ORDER BY 1, 2, 3",
        )
        for key, group in groupby(rows, itemgetter(0)):
            yield key, _entry([row for _, row in group])

    def _select(
        self,
        files: Sequence[LedgerFile],
        columns: str,
        clauses: str,
        values: tuple[str, ...] = (),
    ) -> Iterator[tuple[FileKey, list[Any]]]:
        """The files' rows of the ledger, as l, each after its file's key.

        `columns` follow the file and the table, `values` are those of their placeholders.
        """
        for chunk in chunks(files):
            keys = {(file.content, self._table(file.table)): file.key for file in chunk}
            for content, table, *row in self.execute(
                f'SELECT l.file, l."table", {columns} FROM {self.source} AS l '
                "JOIN unnest(%s::text[], %s::text[]) AS w(file, t) "
                f'ON l.file = w.file AND l."table" = w.t {clauses}',
                (*values, *self._columns(chunk)),
            ):
                yield keys[content, table], row

    def _columns(self, files: Sequence[LedgerFile]) -> tuple[list[str], list[str]]:
        return [file.content for file in files], [self._table(file.table) for file in files]

    def _storage(self, table: Table) -> str:
        return str(self._one(_STORAGE, (self._table(table),)) or "")

    def _exists(self) -> bool:
        """Whether the database has a ledger; if so, remembers its name."""
        if self.name is None:
            self.name = find_ledger(self.connection)
            if self.name is not None:
                self.source = columns_of(self.name, self.connection)
        return self.name is not None

    def _table(self, table: Table) -> str:
        return qualified_name(table, self.connection)

    def execute(
        self, statement: str, values: tuple[Any, ...] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run a statement, which may name the ledger; returns its rows, if it has any."""
        if values is not None and self.name and "%" in self.name:
            escaped = self.name.replace("%", "%%")
            statement = statement.replace(self.name, escaped)
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _one(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        return self.execute(statement, values)[0][0]


def _entry(rows: list[list[Any]]) -> Entry:
    """The entry of a file from its rows, with the columns that `_read` selects."""
    batches = {row[0]: row[1] for row in rows if row[0]}
    rejected = sum(row[2] for row in rows)
    counts = RowCounts(*(sum(column) for column in zip(*(row[4:7] for row in rows), strict=True)))
    _, _, _, batch_size, _, _, _, storage, writers, partitions = rows[0]
    return Entry(
        batch_size=batch_size,
        batches=batches,
        starts=list(batches),
        records=sum(batches.values()) - rejected - counts.not_written,
        rejected=rejected,
        counts=counts,
        storage=storage,
        writers=writers,
        partitions=partitions,
    )


def chunks(files: Sequence[LedgerFile]) -> Iterator[Sequence[LedgerFile]]:
    """The files in parts, for one statement each."""
    for at in range(0, len(files), CHUNK):
        yield files[at : at + CHUNK]
