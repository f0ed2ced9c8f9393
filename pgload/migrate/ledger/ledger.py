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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from pgload.errors import UsageError
from pgload.migrate.counts import RowCounts
from pgload.migrate.ledger.entries import Begun, Entry, FileKey, LedgerFile, Share, Written
from pgload.migrate.ledger.liveness import Liveness
from pgload.migrate.ledger.queries import LedgerQueries, chunks
from pgload.migrate.ledger.statements import BatchStatements
from pgload.migrate.ledger.table import NAME, create_statements
from pgload.schema.table import Table, literal
from pgload.targets.pooler import is_pooled

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

POLL = 0.1  # seconds between two attempts to take a lock; Ctrl-C is noticed in between
# Unique violation and duplicate table: another run created it at the same moment.
_ALREADY_CREATED = ("23505", "42P07", "42701")
_BEGIN_LOCK = int.from_bytes(blake2b(NAME.encode(), digest_size=8).digest(), signed=True)


class Ledger(LedgerQueries):
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
        super().__init__(connection)
        self._pooled = is_pooled(connection)
        self._liveness = Liveness(self, connect, note)
        self.statements = BatchStatements(self._liveness.run_id)
        self._has_begun = False

    def use(self, connection: Connection) -> None:
        """Use this connection from now on, and hold the run's lock over it."""
        if connection is not self.connection:
            self.connection = connection
            self._pooled = is_pooled(connection)
            if self._has_begun and not self._pooled:
                self._liveness.lock()

    def close(self) -> None:
        """Show other runs that this one has ended."""
        self._liveness.close()

    def create(self) -> None:
        """Create the table in the first schema of the search path, unless one of them has it.

        Raises `UsageError` for a table of that name that cannot be trusted.
        """
        import psycopg2

        for statement in create_statements(self.connection):
            try:
                self.execute(statement)
            except psycopg2.Error as error:
                if error.pgcode not in _ALREADY_CREATED:
                    raise
        self.name = None
        self._exists()

    def begin(
        self,
        files: Sequence[LedgerFile],
        batch_size: int,
        *,
        partitions: Mapping[FileKey, str] | None = None,
        forget: bool = False,
        refuse_shared: bool = False,
    ) -> dict[FileKey, Begun]:
        """Record the files; returns what of each is committed, and whether another run writes it.

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
                size = begun[file.key].entry.batch_size
                self.statements.add_file(file, size, self.connection)
            self.statements.ledger = self.name
            self._has_begun = True
        if self._pooled:
            self._liveness.start()
        return begun

    def delete_statement(self, table: Table) -> str:
        """The statement that deletes what is recorded of a table.

        It belongs in the transaction that creates the table: a new one is empty, whatever an
        earlier table of the same name held.
        """
        name = literal(self._table(table), self.connection)
        return f'DELETE FROM {self.name} WHERE "table" = {name}'

    def being_written(self, entries: Mapping[FileKey, Entry]) -> set[FileKey]:
        """The files that another run writes now; through a pooler it may take seconds to know."""
        alive = self._liveness.find({run for entry in entries.values() for run in entry.writers})
        return {key for key, entry in entries.items() if alive.intersection(entry.writers)}

    def written_by(self, files: Sequence[LedgerFile]) -> dict[FileKey, Written]:
        """What this run and what others have committed of each file that is recorded."""
        found: dict[FileKey, Written] = {}
        if not self._exists():
            return found
        sums = [f"sum(l.{name})" for name in ("records", "rejected", *RowCounts._fields)]
        rows = self._select(
            files,
            f"l.run = %s, {', '.join(sums)}",
            "GROUP BY 1, 2, 3",
            (self._liveness.run_id,),
        )
        for key, (mine, records, rejected, *counts) in rows:
            rows_of = RowCounts(*map(int, counts))
            share = Share(int(records - rejected) - rows_of.not_written, int(rejected), rows_of)
            written = found.get(key, Written())
            found[key] = written._replace(**{"mine" if mine else "others": share})
        return found

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """A transaction; other runs wait for its end before they begin theirs."""
        import psycopg2

        while True:
            # Each statement sees what other runs have committed, whatever the role's default is.
            self.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            if self._one("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", (_BEGIN_LOCK,)):
                break
            self.execute("ROLLBACK")
            time.sleep(POLL)
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(psycopg2.Error):  # the connection may be lost
                self.execute("ROLLBACK")
            raise

    def _shared(
        self, files: Sequence[LedgerFile], others: Collection[int]
    ) -> dict[FileKey, tuple[str, list[int]]]:
        """The files that other runs write, each with its name and those runs."""
        shared: dict[FileKey, tuple[str, list[int]]] = {}
        if others:
            names = {file.key: file.name for file in files}
            for key, entry in self._read(files):
                if runs := [run for run in entry.writers if run in others]:
                    shared[key] = (names[key], runs)
        return shared

    def _delete(self, files: Sequence[LedgerFile]) -> None:
        self.execute(
            f"DELETE FROM {self.name} AS l USING unnest(%s::text[], %s::text[]) AS w(file, t) "
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
        self.execute(
            f'INSERT INTO {self.name} AS l (file, "table", first_record, records, rejected, '
            "batch_size, file_name, run, writers, storage, partitions) "
            "SELECT w.file, w.t, 0, 0, 0, %s, w.name, %s, ARRAY[%s::bigint], w.storage, w.p "
            "FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) "
            "AS w(file, t, name, storage, p) ORDER BY 1, 2 "
            'ON CONFLICT (file, "table", first_record) DO UPDATE SET storage = EXCLUDED.storage, '
            "writers = EXCLUDED.writers || ARRAY(SELECT w FROM unnest(l.writers) AS w "
            "WHERE w = ANY(%s::bigint[]) AND w <> ALL(EXCLUDED.writers))",
            (
                batch_size,
                self._liveness.run_id,
                self._liveness.key,
                *self._columns(files),
                [file.name for file in files],
                [storages[file.table] for file in files],
                [partitions.get(file.key, "") for file in files],
                others,
            ),
        )
