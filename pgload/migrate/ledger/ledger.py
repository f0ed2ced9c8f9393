"""The ledger: a table on the target that records which batches are committed.

A batch's ledger row is written in the batch's own transaction, so both are committed or neither.
Its primary key is the file's content, the table and the batch's first record: a second transaction
that writes the same batch waits for the first one and then fails. For that, all runs have to cut a
file into the same batches, so the batch size is recorded too, in a row for record 0, by the first
run that writes the file.

The rows for record 0 name the runs that write the file; `liveness` finds out which are alive.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.errors import SourceError, UsageError
from pgload.migrate.counts import NONE, RowCounts
from pgload.migrate.ledger.liveness import Liveness
from pgload.migrate.ledger.table import NAME, columns_of, create_statements, find_ledger
from pgload.schema.table import Table, literal, qualified_name
from pgload.source.reader import Batch
from pgload.targets.pooler import is_pooled

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CHUNK = 1000  # files in one statement
POLL = 0.1  # seconds between two attempts to take a lock; Ctrl-C is noticed in between
# Unique violation and duplicate table: another run created it at the same moment.
_ALREADY_CREATED = ("23505", "42P07", "42701")
_BEGIN_LOCK = int.from_bytes(blake2b(NAME.encode(), digest_size=8).digest(), signed=True)
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


class LedgerFile(NamedTuple):
    """A file as the ledger knows it."""

    content: str  # SHA-256
    name: str
    table: Table

    @property
    def key(self) -> FileKey:
        return self.content, self.table


FileKey = tuple[str, Table]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger records of a file and its table."""

    batch_size: int  # that the file is cut by; 0: none is recorded
    batches: Mapping[int, int]  # first record → records, of the committed batches
    starts: Sequence[int]  # their first records, sorted
    records: int  # committed: inserted or updated
    rejected: int
    counts: RowCounts = NONE
    storage: str = ""  # of the table when the file was last begun
    writers: Sequence[int] = ()  # the keys of the runs that have begun the file
    partitions: str = ""  # how the file's records are divided, if they are

    def holds(self, batch: Batch) -> bool:
        """Whether the batch is committed.

        Raises `SourceError` for a batch that is committed in part: the file was cut differently,
        by another version of pgload, and writing the batch would write that part twice.
        """
        first, last = batch.first_record, batch.numbers[-1]
        at = bisect_left(self.starts, first)
        within = list(self.starts[at : bisect_left(self.starts, last + 1)])
        before = self.starts[at - 1] if at else 0
        overlaps = before > 0 and before + self.batches[before] > first
        if batch.selected is not None:  # records of other batches are among them
            within, overlaps = [n for n in batch.selected if n in self.batches], False
        if within == [first] and self.batches[first] == len(batch.records):
            return True
        if within or overlaps:
            raise SourceError(
                f"{batch.path.name}: records {first} to {last} are committed in part, in "
                "batches that another version of pgload cut: resume with that version"
            )
        return False


EMPTY = Entry(batch_size=0, batches={}, starts=(), records=0, rejected=0)


class BatchKey(NamedTuple):
    """Which row of the ledger is a batch's, and the run that writes it."""

    file: str
    table: str
    first_record: int
    run: str


class CommittedBatch(NamedTuple):
    """A batch as the ledger records it."""

    first_record: int
    records: int  # whatever became of them
    rejected: int
    suppressed: int


class Begun(NamedTuple):
    """A file that this run has begun."""

    entry: Entry
    shared: bool  # whether another run writes it as well, or may do so
    certain: bool  # whether that run is known to be alive


class Ledger:
    """The ledger in a database, over the connection of the main thread.

    `connect` opens another one, which is needed only through a pooler; `note` is called before a
    wait with the reason.
    """

    def __init__(
        self,
        connection: Connection,
        connect: Callable[[], Connection],
        note: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._pooled = is_pooled(connection)
        self._liveness = Liveness(self._run, connect, note)
        self._run_id = self._liveness.run_id
        self._name: str | None = None  # with its schema: the workers' search path may differ
        self._source = ""  # the ledger in a FROM clause, with every column
        # Literals for the workers' statements, since this connection may be lost by then.
        self._literals: dict[FileKey, tuple[str, int]] = {}  # of the file's name; batch size
        self._tables: dict[Table, str] = {}
        self._names: dict[Table, str] = {}

    def use(self, connection: Connection) -> None:
        """Use this connection from now on, and hold the run's lock over it."""
        if connection is not self._connection:
            self._connection = connection
            self._pooled = is_pooled(connection)
            if self._literals and not self._pooled:
                self._liveness.lock()

    def close(self) -> None:
        """Show other runs that this one has ended."""
        self._liveness.close()

    def create(self) -> None:
        """Create the table in the first schema of the search path, unless one of them has it.

        Raises `UsageError` for a table of that name that cannot be trusted.
        """
        import psycopg2

        for statement in create_statements(self._connection):
            try:
                self._run(statement)
            except psycopg2.Error as error:
                if error.pgcode not in _ALREADY_CREATED:
                    raise
        self._name = None
        self._exists()

    def look_up(self, files: Sequence[LedgerFile]) -> dict[FileKey, Entry]:
        """What is recorded of each file's content; files that no run has begun are left out."""
        if not self._exists():
            return {}
        return {key: entry for chunk in chunks(files) for key, entry in self._read(chunk)}

    def batches(self, file: LedgerFile) -> list[CommittedBatch]:
        """The committed batches of a file, by their first records."""
        rows = self._run(
            f"SELECT l.first_record, l.records, l.rejected, l.suppressed FROM {self._source} AS l "
            f"{self._wanted} WHERE l.first_record > 0 ORDER BY 1",
            self._columns([file]),
        )
        return [CommittedBatch(*row) for row in rows]

    def has_conflicts(self, table: Table) -> bool:
        """Whether any run has skipped or updated rows of the table by their key."""
        return self._exists() and bool(
            self._one(
                f"SELECT EXISTS (SELECT FROM {self._source} AS l "
                'WHERE l."table" = %s AND l.skipped + l.updated > 0)',
                (self._table(table),),
            )
        )

    def records_of_other_versions(self, files: Sequence[LedgerFile]) -> dict[FileKey, int]:
        """How many records are committed of files with the same name and other content."""
        if not self._exists():
            return {}
        found: dict[FileKey, int] = {}
        for chunk in chunks(files):
            keys = {(file.content, self._table(file.table)): file.key for file in chunk}
            for content, table, records in self._run(
                'SELECT w.file, w."table", sum(l.records - l.rejected - l.skipped - l.suppressed) '
                f'FROM unnest(%s::text[], %s::text[], %s::text[]) AS w(file, "table", name) '
                f'JOIN {self._source} AS l ON l.file_name = w.name AND l."table" = w."table" '
                "AND l.file <> w.file GROUP BY 1, 2",
                (*self._columns(chunk), [file.name for file in chunk]),
            ):
                found[keys[content, table]] = int(records)
        return found

    def begin(
        self,
        files: Sequence[LedgerFile],
        batch_size: int,
        *,
        partitions: Mapping[FileKey, str] | None = None,
        forget: bool = False,
        refuse_shared: bool = False,
    ) -> dict[FileKey, Begun]:
        """Record the files. Gives what of each is committed, and whether another run writes it.

        A file that is recorded already keeps the batch size and the partitions that it has there.
        `forget` deletes what earlier runs have recorded of a file, unless another run writes it
        now. Raises `UsageError` for such a file with `refuse_shared`, before anything is changed.
        One run at a time is in this method.
        """
        begun: dict[FileKey, Begun] = {}
        if forget or refuse_shared:
            self.being_written(self.look_up(files))
        with self._exclusively():
            holders = self._liveness.holders()
            holders.pop(_BEGIN_LOCK, None)
            others = self._liveness.others(holders)
            shared = self._shared(files, others)
            if refuse_shared and shared:
                name, runs = next(iter(shared.values()))
                backends = [f" (backend {holders[run]})" for run in runs if run in holders]
                raise UsageError(
                    f"{name}: another migration is writing this file{''.join(backends[:1])}: wait "
                    "until it has ended, or join it without --restart"
                )
            self._liveness.begin(pooled=self._pooled)
            storages = {table: self._storage(table) for table in {file.table for file in files}}
            for chunk in chunks(files):
                if forget:
                    self._delete([file for file in chunk if file.key not in shared])
                self._insert_files(chunk, batch_size, partitions or {}, storages, list(others))
                for key, entry in self._read(chunk):
                    runs = shared[key][1] if key in shared else []
                    certain = any(self._liveness.is_certain(run, holders) for run in runs)
                    begun[key] = Begun(entry, key in shared, certain)
            for file in files:
                self._literals[file.key] = (
                    literal(file.name, self._connection),
                    begun[file.key].entry.batch_size,
                )
                self._names[file.table] = self._table(file.table)
                self._tables[file.table] = literal(self._names[file.table], self._connection)
        if self._pooled:
            self._liveness.start()
        return begun

    def delete_statement(self, table: Table) -> str:
        """The statement that deletes what is recorded of a table.

        It belongs into the transaction that creates the table: a new one is empty, whatever an
        earlier table of the same name held.
        """
        name = literal(self._table(table), self._connection)
        return f'DELETE FROM {self._name} WHERE "table" = {name}'

    def being_written(self, entries: Mapping[FileKey, Entry]) -> set[FileKey]:
        """The files that another run writes now; through a pooler it may take seconds to know."""
        alive = self._liveness.find({run for entry in entries.values() for run in entry.writers})
        return {key for key, entry in entries.items() if alive.intersection(entry.writers)}

    def rows_missing(self, table: Table, entries: Sequence[Entry]) -> tuple[int, int] | None:
        """How many rows the ledger relies on, and how many are there, if these are fewer.

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
        found: dict[FileKey, int] = {}
        for chunk in chunks(files):
            keys = {(file.content, self._table(file.table)): file.key for file in chunk}
            for content, table, records in self._run(
                f'SELECT l.file, l."table", sum(l.records) FROM {self._source} AS l '
                f"{self._wanted} GROUP BY 1, 2",
                self._columns(chunk),
            ):
                found[keys[content, table]] = int(records)
        return found

    def written_by(self, files: Sequence[LedgerFile]) -> dict[FileKey, tuple[int, int, int]]:
        """By file: records that this run and that other runs have committed; records rejected."""
        found: dict[FileKey, tuple[int, int, int]] = {}
        if not self._exists():
            return found
        for chunk in chunks(files):
            keys = {(file.content, self._table(file.table)): file.key for file in chunk}
            written = "l.records - l.rejected - l.skipped - l.suppressed"
            for content, table, *counts in self._run(
                f'SELECT l.file, l."table", '
                f"coalesce(sum({written}) FILTER (WHERE l.run = %s), 0), "
                f"coalesce(sum({written}) FILTER (WHERE l.run <> %s), 0), sum(l.rejected) "
                f"FROM {self._source} AS l {self._wanted} GROUP BY 1, 2",
                (self._run_id, self._run_id, *self._columns(chunk)),
            ):
                mine, others, rejected = map(int, counts)
                found[keys[content, table]] = (mine, others, rejected)
        return found

    def writer_of(self, batch: BatchKey) -> str | None:
        """The run that has committed the batch; None if it is not committed."""
        if not self._exists():
            return None
        rows = self._run(
            f'SELECT run FROM {self._name} WHERE file = %s AND "table" = %s AND first_record = %s',
            batch[:3],
        )
        return str(rows[0][0]) if rows else None

    # Statements that the workers run over their own connections.

    def key_of(self, file: str, table: Table, batch: Batch) -> BatchKey:
        """The key of a batch's row."""
        return BatchKey(file, self._names[table], batch.first_record, self._run_id)

    def insert_statement(self, file: str, table: Table, batch: Batch) -> bytes:
        """Records a batch."""
        name, batch_size = self._literals[file, table]
        return (
            f'INSERT INTO {self._name} (file, "table", file_name, run, batch_size, rejected, '
            f"first_record, records) VALUES ('{file}', {self._tables[table]}, {name}, "
            f"'{self._run_id}', {batch_size}, 0, {batch.first_record}, {len(batch.records)})"
        ).encode()

    def rejected_statement(self, file: str, table: Table, batch: Batch, count: int) -> bytes:
        """Records how many of a batch's records were rejected."""
        where = self._where(file, table, batch)
        return f"UPDATE {self._name} SET rejected = {count} WHERE {where}".encode()

    def counts_statement(self, file: str, table: Table, batch: Batch, counts: str) -> str:
        """Adds the one row of relation `counts`, a `RowCounts`, to a batch's row."""
        sums = ", ".join(f"{name} = l.{name} + c.{name}" for name in RowCounts._fields)
        return (
            f"UPDATE {self._name} AS l SET {sums} FROM {counts} AS c "
            f"WHERE {self._where(file, table, batch)} AND c.skipped + c.updated + c.suppressed > 0"
        )

    def select_statement(self, file: str, table: Table, batch: Batch) -> bytes:
        """Gives a batch's records, rejects and `RowCounts`; no row if another run wrote it."""
        where = self._where(file, table, batch)
        return (
            f"SELECT records, rejected, skipped, updated, suppressed FROM {self._name} "
            f"WHERE {where} AND run = '{self._run_id}'"
        ).encode()

    def _where(self, file: str, table: Table, batch: Batch) -> str:
        return (
            f"file = '{file}' AND \"table\" = {self._tables[table]} "
            f"AND first_record = {batch.first_record}"
        )

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """A transaction; other runs wait for its end before they begin theirs."""
        import psycopg2

        while True:
            # Each statement sees what other runs have committed, whatever the role's default is.
            self._run("BEGIN ISOLATION LEVEL READ COMMITTED")
            if self._one("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", (_BEGIN_LOCK,)):
                break
            self._run("ROLLBACK")
            time.sleep(POLL)
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with suppress(psycopg2.Error):  # the connection may be lost
                self._run("ROLLBACK")
            raise

    def _shared(
        self, files: Sequence[LedgerFile], others: Collection[int]
    ) -> dict[FileKey, tuple[str, list[int]]]:
        """The files that other runs write, each with its name and those runs."""
        shared: dict[FileKey, tuple[str, list[int]]] = {}
        for chunk in chunks(files) if others else ():
            names = {file.key: file.name for file in chunk}
            for key, entry in self._read(chunk):
                if runs := [run for run in entry.writers if run in others]:
                    shared[key] = (names[key], runs)
        return shared

    def _delete(self, files: Sequence[LedgerFile]) -> None:
        self._run(
            f"DELETE FROM {self._name} AS l USING unnest(%s::text[], %s::text[]) AS w(file, t) "
            'WHERE l.file = w.file AND l."table" = w.t',
            self._columns(files),
        )

    def _insert_files(
        self,
        files: Sequence[LedgerFile],
        batch_size: int,
        partitions: Mapping[FileKey, str],
        storages: Mapping[Table, str],
        others: list[int],
    ) -> None:
        """Add the rows for record 0, or this run to their writers."""
        self._run(
            f'INSERT INTO {self._name} AS l (file, "table", first_record, records, rejected, '
            "batch_size, file_name, run, writers, storage, partitions) "
            "SELECT w.file, w.t, 0, 0, 0, %s, w.name, %s, ARRAY[%s::bigint], w.storage, w.p "
            "FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) "
            "AS w(file, t, name, storage, p) ORDER BY 1, 2 "
            'ON CONFLICT (file, "table", first_record) DO UPDATE SET storage = EXCLUDED.storage, '
            "writers = EXCLUDED.writers || ARRAY(SELECT w FROM unnest(l.writers) AS w "
            "WHERE w = ANY(%s::bigint[]) AND w <> ALL(EXCLUDED.writers))",
            (
                batch_size,
                self._run_id,
                self._liveness.key,
                *self._columns(files),
                [file.name for file in files],
                [storages[file.table] for file in files],
                [partitions.get(file.key, "") for file in files],
                others,
            ),
        )

    def _read(self, files: Sequence[LedgerFile]) -> Iterator[tuple[FileKey, Entry]]:
        keys = {(file.content, self._table(file.table)): file.key for file in files}
        rows = self._run(
            f'SELECT l.file, l."table", l.first_record, l.records, l.rejected, l.batch_size, '
            f"l.skipped, l.updated, l.suppressed, l.storage, l.writers, l.partitions "
            f"FROM {self._source} AS l {self._wanted} ORDER BY 1, 2, 3",
            self._columns(files),
        )
        for found, group in groupby(rows, lambda row: row[:2]):
            yield keys[found], _entry(list(group))

    @property
    def _wanted(self) -> str:
        """The join that restricts the ledger, as l, to the files in `_columns`."""
        return (
            "JOIN unnest(%s::text[], %s::text[]) AS w(file, t) "
            'ON l.file = w.file AND l."table" = w.t'
        )

    def _columns(self, files: Sequence[LedgerFile]) -> tuple[list[str], list[str]]:
        return [file.content for file in files], [self._table(file.table) for file in files]

    def _storage(self, table: Table) -> str:
        return str(self._one(_STORAGE, (self._table(table),)) or "")

    def _exists(self) -> bool:
        """Whether the database has a ledger; if so, remembers its name."""
        if self._name is None:
            self._name = find_ledger(self._connection)
            if self._name is not None:
                self._source = columns_of(self._name, self._connection)
                self._liveness.name, self._liveness.source = self._name, self._source
        return self._name is not None

    def _table(self, table: Table) -> str:
        return qualified_name(table, self._connection)

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        if values is not None and self._name and "%" in self._name:
            escaped = self._name.replace("%", "%%")
            statement = statement.replace(self._name, escaped)
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _one(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        return self._run(statement, values)[0][0]


def _entry(rows: list[tuple[Any, ...]]) -> Entry:
    """The entry of a file from its rows: file, table, first record, records, rejected, batch size,
    the columns of `RowCounts`, storage, writers, partitions."""
    batches = {row[2]: row[3] for row in rows if row[2]}
    rejected = sum(row[4] for row in rows)
    counts = RowCounts(*(sum(column) for column in zip(*(row[6:9] for row in rows), strict=True)))
    return Entry(
        batch_size=rows[0][5],
        batches=batches,
        starts=list(batches),
        records=sum(batches.values()) - rejected - counts.not_written,
        rejected=rejected,
        counts=counts,
        storage=rows[0][9],
        writers=rows[0][10],
        partitions=rows[0][11],
    )


def chunks(files: Sequence[LedgerFile]) -> Iterator[Sequence[LedgerFile]]:
    """The files in parts, for one statement each."""
    for at in range(0, len(files), CHUNK):
        yield files[at : at + CHUNK]


def is_already_committed(error: Exception) -> bool:
    """Whether the server refused a ledger row because the batch is recorded already."""
    diag = getattr(error, "diag", None)
    return (
        getattr(error, "pgcode", None) == "23505"
        and getattr(diag, "table_name", None) == NAME
        and getattr(diag, "constraint_name", None) == f"{NAME}_pkey"
    )
