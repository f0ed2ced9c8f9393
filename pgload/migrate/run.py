"""A migration that writes: from its plan to its exit code."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pgload.errors import LoadError, OutputError, PgloadError, SourceError, TargetError, UsageError
from pgload.load.loader import Loader, Work
from pgload.load.session import with_hint
from pgload.load.stats import BatchStat
from pgload.migrate.console import say, shown
from pgload.migrate.ledger import NOTHING, Entry, Ledger
from pgload.migrate.outputs import Outputs
from pgload.migrate.plan import FilePlan, MigrateOptions, Plan
from pgload.migrate.progress import FileFacts, RunFacts, Status
from pgload.migrate.retry import RetryingWriter
from pgload.migrate.stopping import INTERRUPTED, Stopping
from pgload.migrate.upsert import Merge, make_merges
from pgload.schema.table import Table, create_table
from pgload.source.reader import read_batches
from pgload.targets.cloud import LOCAL_CLOUDS
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

COMPLETE, INCOMPLETE, UNUSABLE = 0, 1, 2  # exit codes, beside INTERRUPTED
NOT_NOW = ("25006", "53100")  # a server that takes no writes, a full disk


class MigrationRun:
    """Writes what is planned; `plan_again` is for tables that another run has made meanwhile."""

    def __init__(
        self,
        asked: MigrateOptions,
        target: Target,
        control: Connection,
        plan: Plan,
        plan_again: Callable[[], Plan],
        ledger: Ledger | None,
    ) -> None:
        self._asked = asked
        self._target = target
        self._control = control
        self._plan = plan
        self._plan_again = plan_again
        self._ledger = ledger
        self._entries: dict[Path, Entry] = {}
        self._shared: set[Path] = set()  # files that another migration writes as well
        # Connections commit in no certain order, and of records with one key the last has to stay.
        self._connections = 1 if asked.on_conflict == "update" else asked.connections

    def go(self) -> int:
        """Do it; gives the exit code. Raises `PgloadError` only where nothing was begun."""
        asked, plan = self._asked, self._plan
        facts = RunFacts(
            cloud_provider=self._target.cloud,
            instance_type=self._target.instance_type,
            method=asked.method,
            batch_size=asked.batch_size,
            num_connections=self._connections,
            total_files=sum(
                map(len, (plan.files, plan.duplicates, plan.folder.empty, plan.broken))
            ),
            total_records=plan.records,
            resumed=asked.resume,
        )
        with (
            Stopping() as stopping,
            Outputs(asked.output_dir, facts, keep_runs=asked.keep_runs) as out,
        ):
            try:
                with self._hindrances():
                    self._create_tables(out)
                    self._begin_files(out)
                    tables = [file.table for file in self._plan.files]
                    merges = make_merges(tables, asked.on_conflict, self._control)
                self._load(out, merges, stopping)
                return self._end(out)
            except KeyboardInterrupt:
                self._end(out, "interrupted")
                return INTERRUPTED
            except PgloadError as error:
                stopping.ignore_first_signal()
                out.log.error(str(error))
                say(f"pgload: {error}")
                self._end(out, "failed", str(error))
                unusable = isinstance(error, TargetError | UsageError)
                return UNUSABLE if unusable and not out.snapshot.current_batch else INCOMPLETE

    @contextmanager
    def _hindrances(self) -> Iterator[None]:
        """What keeps a usable server from being written to now is no wrong configuration."""
        import psycopg2

        try:
            yield
        except psycopg2.Error as error:
            if error.pgcode not in NOT_NOW:
                raise
            raise LoadError(f"{self._target.cloud}: {with_hint(error)}") from None

    def _create_tables(self, out: Outputs) -> None:
        import psycopg2

        unique = self._asked.on_conflict != "error"
        if self._ledger:
            self._ledger.create()
        with self._control.cursor() as cursor:
            for table in self._plan.create:
                statements = [create_table(table, self._control, unique_key=unique)]
                if self._ledger:
                    statements.append(self._ledger.forget(table))
                try:
                    cursor.execute("; ".join(statements))  # one transaction
                except (psycopg2.errors.DuplicateTable, psycopg2.errors.UniqueViolation):
                    self._note(out, f"table {table.name} was made by another migration meanwhile")
                    self._plan = self._plan_again()
                    if table.name in [each.name for each in self._plan.create]:
                        self._plan.problems.append(
                            f"something else is called {table.name} (a sequence, an index, a "
                            "type): name another table in tables.toml"
                        )
                    if self._plan.problems:
                        raise UsageError("; ".join(self._plan.problems)) from None
                    return self._create_tables(out)
                out.log.info(f"created table {table.name}")
        return None

    def _begin_files(self, out: Outputs) -> None:
        """Enter the files into the ledger, which says what of them is left to do."""
        asked = self._asked
        for file in self._plan.files:
            if self._ledger is None:
                self._entries[file.path] = NOTHING
                continue
            name = file.path.name
            entry, shared = self._ledger.begin(
                file.scan.content, name, file.table, asked.batch_size, anew=asked.writes_again
            )
            self._entries[file.path] = entry
            if shared:
                self._shared.add(file.path)
                self._note(out, f"{name}: another migration writes this file as well")
            if entry.batch_size != asked.batch_size:
                size = f"batches of {entry.batch_size:,}"
                self._note(out, f"{name}: was begun with {size} and goes on with them")
            if entry.rejected:
                self._note(
                    out,
                    f"{name}: {entry.rejected:,} of its records were rejected before; they are in "
                    f"an earlier run's {asked.output_dir / 'runs' / '*' / 'rejects.jsonl'}",
                )

    def _load(self, out: Outputs, merges: dict[Table, Merge], stopping: Stopping) -> None:
        asked, plan = self._asked, self._plan
        for path in (*plan.folder.empty, *plan.duplicates):
            out.file_started(FileFacts(path.name, "", 0))
            out.file_finished(path.name)
        for path, error in plan.broken.items():
            out.file_started(FileFacts(path.name, ""))
            out.file_finished(path.name, str(error))
        if not plan.files:
            return
        writer = RetryingWriter(
            out,
            ledger=self._ledger,
            file_ids={file.path: file.scan.content for file in plan.files},
            merges=merges,
            max_rejects=asked.max_rejects,
            patience=asked.patience,
        )
        with Loader(
            self._target.connect,
            asked.method,
            connections=self._connections,
            fewer_will_do=True,
            writer=writer,
        ) as loader:
            if self._connections < asked.connections:
                self._note(
                    out,
                    "--on-conflict update: one connection, so that of records with one key the "
                    "last in the files stays",
                )
            if loader.connections < self._connections:
                self._note(
                    out,
                    f"{self._target.cloud}: the server gave {loader.connections} of "
                    f"{self._connections} connections: going on with these",
                )
                for missing in range(loader.connections, self._connections):
                    out.connection_state(missing, "refused")
            out.load_started()
            files = OpenFiles(out)
            with shown(lambda: out.snapshot):
                loader.run(self._work(files), on_batch=files.written)
                stopping.ignore_first_signal()
                out.finish(self._status())  # while it is shown, so that the last word is right

    def _status(self) -> Status | None:
        """How a run ends that has come to its end; None for what the outputs know themselves."""
        before = any(entry.rejected for entry in self._entries.values())
        return "completed_with_errors" if before or self._rejected_elsewhere() else None

    def _rejected_elsewhere(self) -> bool:
        """Whether another migration of the same files has rejected some of their records."""
        if self._ledger is None or not self._shared:
            return False
        import psycopg2

        with suppress(psycopg2.Error):  # a connection that is gone has nothing to add
            for file in self._plan.files:
                entry = self._ledger.read(file.scan.content, file.table)
                if file.path in self._shared and entry is not None and entry.rejected:
                    return True
        return False

    def _work(self, files: OpenFiles) -> Iterator[Work]:
        """The batches that are not committed yet; a file that fails does not keep the next."""
        for file in self._plan.files:
            entry = self._entries[file.path]
            size = entry.batch_size or self._asked.batch_size
            with files.handing_out(_facts(file, entry)):
                for batch in read_batches(file.path, size, file.scan.stamp):
                    if not entry.holds(batch):
                        files.handed_out(file.path.name)
                        yield file.table, batch

    def _note(self, out: Outputs, text: str) -> None:
        out.log.warning(text)
        say(text)

    def _end(self, out: Outputs, status: Status | None = None, error: str | None = None) -> int:
        """Finish the files, and tell the end on the screen."""
        code = INCOMPLETE
        try:
            if out.finish(status or self._status(), error)["status"] == "completed":
                code = COMPLETE
        except OutputError as trouble:
            say(f"pgload: {trouble}")
        last, folder = out.snapshot, self._asked.output_dir
        of = f" of {last.total_records:,}" if last.total_records is not None else ""
        say(
            f"{last.status.replace('_', ' ')}: {last.total_records_processed:,}{of} records in "
            f"{last.elapsed_seconds:.1f} s ({last.average_records_per_second:,.0f} records/s)"
        )
        if last.rejects:
            say(f"rejected: {last.rejects:,}, with their reasons in {folder / 'rejects.jsonl'}")
        if status in ("interrupted", "failed") and self._ledger:
            if self._target.cloud in LOCAL_CLOUDS:
                say(f"{self._target.cloud} is gone with what was in it")
            else:
                words = [w for w in self._asked.command if w not in ("--resume", "--restart")]
                say(f"go on with: {shlex.join([*words, '--resume'])}")
        say(f"see {folder}{os.sep} for progress, statistics, results and log")
        return code


def _facts(file: FilePlan, entry: Entry) -> FileFacts:
    before = entry.records + entry.rejected
    return FileFacts(
        file.path.name,
        file.table.name,
        file.scan.records,
        file.scan.bytes,
        records_before=entry.records,
        bytes_before=file.scan.bytes * before // file.scan.records,
        rejected_before=entry.rejected,
    )


class OpenFiles:
    """Tells the outputs of files as they are begun, written and done."""

    def __init__(self, out: Outputs) -> None:
        self._out = out
        self._lock = Lock()
        self._open = Counter[str]()  # batches of a file that are handed out and not written
        self._errors: dict[str, str | None] = {}  # of files that are handed out to their end

    @contextmanager
    def handing_out(self, file: FileFacts) -> Iterator[None]:
        """Around the reading of one file. One that cannot be read further keeps no other file."""
        error = None
        self._out.file_started(file)
        self.handed_out(file.name)  # so that it is not done before it is handed out to its end
        try:
            yield
        except SourceError as trouble:
            error = str(trouble)
            say(f"pgload: {error}")
        self._errors[file.name] = error
        self._close(file.name)

    def handed_out(self, name: str) -> None:
        """A batch of the file is on its way."""
        with self._lock:
            self._open[name] += 1

    def written(self, stat: BatchStat) -> None:
        """A batch is done with."""
        self._out.batch(stat)
        self._close(stat.file)

    def _close(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            done = not self._open[name]
        if done:
            self._out.file_finished(name, self._errors[name])
