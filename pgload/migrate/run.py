"""`MigrationRun`: a migration that writes, from its plan to its final status."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from pgload.contract import REJECTS
from pgload.errors import LoadError, OutputError, PgloadError, SourceError, TargetError, UsageError
from pgload.load.loader import Loader, Work
from pgload.load.session import with_hint
from pgload.load.stats import BatchStat
from pgload.migrate.console import say, show_progress
from pgload.migrate.control import Control, interruptible
from pgload.migrate.counts import tables_that_may_suppress
from pgload.migrate.ledger import EMPTY, Entry, Ledger
from pgload.migrate.options import MigrateOptions
from pgload.migrate.outputs import Outputs
from pgload.migrate.plan import FilePlan, Plan
from pgload.migrate.progress import FileFacts, RunFacts, Status
from pgload.migrate.retry import RetryingWriter
from pgload.migrate.run_files import counted
from pgload.migrate.sqlstates import is_transient
from pgload.migrate.upsert import Upsert, make_upserts
from pgload.migrate.verify import VerifiedTable, describe, to_results, verify
from pgload.schema.table import Table, create_table
from pgload.source.reader import read_batches
from pgload.source.stores import without_secrets
from pgload.targets.cloud import LOCAL_CLOUDS
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

Result = TypeVar("Result")
# One commit that waits for the disk: with it every earlier commit is there, too, even where
# synchronous_commit is off. The message is what the transaction writes; nothing reads it.
MAKE_DURABLE = (
    "BEGIN; SET LOCAL synchronous_commit = on; "
    "SELECT pg_catalog.pg_logical_emit_message(true, 'pgload', 'loaded'); COMMIT"
)


class MigrationRun:
    """Writes what is planned.

    `make_plan_now` plans again, for tables that another migration has created in the meantime;
    `ignore_first_signal` is called once the rest takes no longer than stopping would.
    """

    def __init__(
        self,
        options: MigrateOptions,
        *,
        target: Target,
        control: Control,
        plan: Plan,
        make_plan_now: Callable[[], Plan],
        ledger: Ledger | None,
        ignore_first_signal: Callable[[], None],
    ) -> None:
        self._options = options
        self._target = target
        self._control = control
        self._plan = plan
        self._make_plan_now = make_plan_now
        self._ledger = ledger
        self._ignore_first_signal = ignore_first_signal
        self._entries: dict[Path, Entry] = {}
        self._shared: list[FilePlan] = []  # files that another migration writes as well
        self._read: dict[Path, int] = {}  # records that were read of each file
        self._repeated = False  # whether batches are written that were lost in a crash
        # Connections commit in no certain order, and of records with one key the last has to stay.
        self._connections = 1 if options.on_conflict == "update" else options.connections
        self._lock = Lock()
        # By file: batches that are handed out and not written, and one while it is being read.
        self._open = Counter[str]()
        self._read_errors: dict[str, str | None] = {}  # of the files that have been read

    def execute(self) -> Status:
        """Create tables, load the files, write the outputs; gives the final status.

        Raises `TargetError` and `UsageError` where no batch was written.
        """
        options, plan = self._options, self._plan
        files = self._facts_of_all_files()
        facts = RunFacts(
            cloud_provider=self._target.cloud,
            instance_type=self._target.instance_type,
            method=options.method,
            batch_size=options.batch_size,
            num_connections=self._connections,
            total_files=len(files),
            total_records=plan.records,
            resumed=options.resume,
            resume_command=self._resume_command(),
        )
        with Outputs(options.output_dir, facts, keep_runs=options.keep_runs) as out:
            try:
                out.files_planned(files)
                with self._transient_as_load_error():
                    upserts, may_suppress = self._on_server(out, lambda _: self._prepare(out))
                self._load(out, upserts, may_suppress)
                return self._end(out)
            except KeyboardInterrupt:
                self._end(out, "interrupted")
                return "interrupted"
            except PgloadError as error:
                self._ignore_first_signal()
                out.log.error(str(error))
                if isinstance(error, TargetError | UsageError) and not out.snapshot.current_batch:
                    self._end(out, "failed", str(error))
                    raise
                say(f"pgload: {error}")
                self._end(out, "failed", str(error))
                return "failed"

    def _resume_command(self) -> str | None:
        """The command line that resumes the run; None without a ledger, or for a local cloud."""
        if self._ledger is None or self._target.cloud in LOCAL_CLOUDS:
            return None
        given = map(without_secrets, self._options.command)
        words = [each for each in given if each not in ("--resume", "--restart")]
        return shlex.join([*words, "--resume"])

    def _facts_of_all_files(self) -> list[FileFacts]:
        plan = self._plan
        tables = {file.path: file.table.name for file in plan.files}
        paths = [*tables, *plan.duplicates, *plan.folder.empty, *plan.broken]
        return [FileFacts(path.name, tables.get(path, "")) for path in sorted(paths)]

    @contextmanager
    def _transient_as_load_error(self) -> Iterator[None]:
        """Transient errors that do not pass are not errors of the configuration."""
        import psycopg2

        try:
            yield
        except psycopg2.Error as error:
            if not is_transient(error):
                raise
            raise LoadError(f"{self._target.cloud}: {with_hint(error)}") from None

    def _on_server(self, out: Outputs, action: Callable[[Connection], Result]) -> Result:
        """Run `action` for the main thread; it is repeated after transient errors."""

        def run(connection: Connection) -> Result:
            if self._ledger:
                self._ledger.use(connection)
            return action(connection)

        return self._control.run(run, lambda text: self._note(out, text))

    def _prepare(self, out: Outputs) -> tuple[dict[Table, Upsert], set[Table]]:
        """Create what is missing, and read what the workers need; may be repeated."""
        self._create_tables(out)
        self._begin_files(out)
        tables, connection = [file.table for file in self._plan.files], self._control.connection
        with connection.cursor() as cursor:
            cursor.execute(MAKE_DURABLE)  # a crash must not take a table that batches were put into
        return (
            make_upserts(tables, self._options.on_conflict, connection),
            tables_that_may_suppress(tables, connection),
        )

    def _create_tables(self, out: Outputs) -> None:
        import psycopg2

        unique = self._options.on_conflict != "error"
        connection = self._control.connection
        if self._ledger:
            self._ledger.create()
        with connection.cursor() as cursor:
            while self._plan.create:
                table = self._plan.create[0]
                statements = [create_table(table, connection, unique_key=unique)]
                if self._ledger:
                    statements.append(self._ledger.delete_statement(table))
                try:
                    cursor.execute("; ".join(statements))  # one transaction
                except (psycopg2.errors.DuplicateTable, psycopg2.errors.UniqueViolation):
                    self._note(out, f"table {table.name} was just created by another migration")
                    self._plan_again(table)
                    continue
                del self._plan.create[0]
                out.log.info(f"created table {table.name}")

    def _plan_again(self, table: Table) -> None:
        """Plan with a table that exists by now. Raises `UsageError` if its name is taken."""
        self._plan = self._make_plan_now()
        problems = self._plan.problems
        if table.name in [each.name for each in self._plan.create]:
            problems.append(
                f"the name {table.name} is taken by a sequence, an index or a type: name another "
                "table in tables.toml"
            )
        if problems:
            raise UsageError("; ".join(problems)) from None

    def _begin_files(self, out: Outputs) -> None:
        """Record the files in the ledger, and read from it what is committed of them."""
        options, files = self._options, self._plan.files
        self._shared.clear()
        if self._ledger is None:
            self._entries = dict.fromkeys([file.path for file in files], EMPTY)
            return
        begun = self._ledger.begin(
            [file.in_ledger for file in files],
            options.batch_size,
            forget=options.writes_again,
            refuse_shared=options.restart,
        )
        for file in files:
            name = file.path.name
            entry, shared = begun[file.in_ledger.key]
            self._entries[file.path] = entry
            if shared:
                self._shared.append(file)
                self._note(out, f"{name}: another migration writes this file as well")
            if entry.batch_size != options.batch_size:
                self._note(out, f"{name}: continued with batch size {entry.batch_size:,}, as begun")
            if entry.rejected:
                rejects = options.output_dir / "runs" / "*" / REJECTS
                self._note(
                    out,
                    f"{name}: {entry.rejected:,} of its records were rejected by an earlier run: "
                    f"see {rejects}",
                )

    def _batches_left(self) -> int:
        """How many batches are to be written; batches of long records make it more."""
        size = self._options.batch_size
        return sum(
            max(ceil(file.scan.records / (entry.batch_size or size)) - len(entry.batches), 0)
            for file in self._plan.files
            for entry in [self._entries[file.path]]
        )

    def _load(self, out: Outputs, upserts: dict[Table, Upsert], may_suppress: set[Table]) -> None:
        options, plan = self._options, self._plan
        for path in (*plan.folder.empty, *plan.duplicates):
            out.file_started(FileFacts(path.name, ""))
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
            upserts=upserts,
            may_suppress=may_suppress,
            max_rejects=options.max_rejects,
            retry_timeout=options.retry_timeout,
        )
        with Loader(
            lambda: interruptible(self._target.connect),
            options.method,
            connections=self._connections,
            allow_fewer=True,
            writer=writer,
        ) as loader:
            if self._connections < options.connections:
                self._note(
                    out,
                    "--on-conflict update uses one connection, so that of records with the same "
                    "key the last one in the files stays",
                )
            if loader.connections < self._connections:
                self._note(
                    out,
                    f"{self._target.cloud}: the server gave {loader.connections} of "
                    f"{self._connections} connections: continuing with {loader.connections}",
                )
                for refused in range(loader.connections, self._connections):
                    out.connection_state(refused, "refused")
            sizes = {self._entries[file.path].batch_size for file in plan.files} - {0}
            size = sizes.pop() if len(sizes) == 1 else options.batch_size
            out.correct_facts(num_connections=loader.connections, batch_size=size)
            batches = self._batches_left()
            out.log.info(f"Connected to {self._target.cloud}: {loader.connections} connections")
            out.log.info(f"Writing {batches} batches over {loader.connections} connections")
            out.load_started()
            with show_progress(lambda: out.snapshot):
                files: Sequence[FilePlan] = plan.files
                while files:
                    loader.run(
                        self._open_batches(out, files),
                        on_batch=lambda stat: self._batch_written(out, stat),
                    )
                    files = self._lost_files(out)
                if options.verify:
                    self._verify(out)
                self._ignore_first_signal()
                out.finish(self._status(out))  # inside, so that the last state is shown

    def _lost_files(self, out: Outputs) -> list[FilePlan]:
        """Make all commits durable; gives the files of which committed batches were lost.

        With `synchronous_commit = off` a server that crashes loses commits that it has confirmed.
        """
        import psycopg2

        def check(connection: Connection) -> dict[Path, int]:
            with connection.cursor() as cursor:
                cursor.execute(MAKE_DURABLE)
            if self._ledger is None:
                return {}
            files = [file for file in self._plan.files if file.path in self._read]
            there = self._ledger.accounted([file.in_ledger for file in files])
            return {
                file.path: self._read[file.path] - there.get(file.in_ledger.key, 0)
                for file in files
                if there.get(file.in_ledger.key, 0) < self._read[file.path]
            }

        try:
            lost = self._on_server(out, check)
            files = [file for file in self._plan.files if file.path in lost]
            if not files or self._ledger is None:
                return []
            entries = self._ledger.look_up([file.in_ledger for file in files])
        except (psycopg2.Error, TargetError) as error:
            raise LoadError(
                f"every batch is committed, but it is unknown whether the server has written all "
                f"of them to its disk: {with_hint(error)}"
            ) from None
        self._repeated = True
        for file in files:
            self._entries[file.path] = entries.get(file.in_ledger.key, EMPTY)
            records, name = lost[file.path], file.path.name
            self._note(
                out,
                f"{name}: {records:,} records that were committed were lost when the server "
                "crashed (synchronous_commit is off): writing them again",
            )
            out.records_lost(name, file.table.name, records)
        return files

    def _verify(self, out: Outputs) -> None:
        """Compare the files with their tables, and report it."""

        def run(connection: Connection) -> list[VerifiedTable]:
            assert self._ledger is not None
            files = [file for file in self._plan.files if file.path in self._read]
            entries = self._ledger.look_up([file.in_ledger for file in files])
            return verify(files, entries, connection, by_key=self._options.on_conflict != "error")

        tables = self._on_server(out, run)
        out.verification = to_results(tables)
        for text in describe(tables):
            out.log.info(text)
            say(text)

    def _open_batches(self, out: Outputs, files: Sequence[FilePlan]) -> Iterator[Work]:
        """The batches that are not committed yet; after a file that fails comes the next one."""
        for file in files:
            name, entry = file.path.name, self._entries[file.path]
            if not self._repeated:
                out.file_started(
                    FileFacts(
                        name,
                        file.table.name,
                        records_before=entry.records,
                        rejected_before=entry.rejected,
                        not_written_before=entry.counts.not_written,
                    )
                )
            self._batch_opened(name)
            error, read = None, 0
            try:
                size = entry.batch_size or self._options.batch_size
                for batch in read_batches(file.scan.source, size, file.scan.stamp, file.scan.form):
                    if not entry.holds(batch):
                        self._batch_opened(name)
                        yield file.table, batch
                    read += len(batch.records)
                self._read[file.path] = read
            except SourceError as failure:
                error = str(failure)
                self._read.pop(file.path, None)
                say(f"pgload: {error}")
            self._read_errors[name] = error
            self._batch_closed(out, name)

    def _batch_written(self, out: Outputs, stat: BatchStat) -> None:
        out.batch(stat)
        self._batch_closed(out, stat.file)

    def _batch_opened(self, name: str) -> None:
        with self._lock:
            self._open[name] += 1

    def _batch_closed(self, out: Outputs, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            finished = not self._open[name]
        if finished and not self._repeated:
            out.file_finished(name, self._read_errors[name])

    def _status(self, out: Outputs) -> Status | None:
        """The status of a run that was not stopped; None: the outputs determine it."""
        before = any(entry.rejected for entry in self._entries.values())
        return "completed_with_errors" if self._report_others(out) or before else None

    def _report_others(self, out: Outputs) -> bool:
        """Report who wrote the shared files; gives whether records of them were rejected."""
        if self._ledger is None or not self._shared:
            return False
        import psycopg2

        rejected = False
        with suppress(psycopg2.Error, TargetError):  # without the connection this is not known
            written = self._ledger.written_by([file.in_ledger for file in self._shared])
            for file in self._shared:
                mine, others, bad = written.get(file.in_ledger.key, (0, 0, 0))
                others = max(others - self._entries[file.path].records, 0)
                out.written_by_others(file.path.name, others)
                self._note(
                    out,
                    f"{file.path.name}: {mine:,} records were written by this migration, "
                    f"{others:,} by another one at the same time",
                )
                rejected |= bad > 0
        return rejected

    def _note(self, out: Outputs, text: str) -> None:
        out.log.warning(text)
        say(text)

    def _end(self, out: Outputs, status: Status | None = None, error: str | None = None) -> Status:
        """Finish the outputs and print a summary; gives the final status."""
        results: dict[str, Any] = {}
        try:
            results = out.finish(status or self._status(out), error)
            final: Status = results["status"]
        except OutputError as output_error:
            say(f"pgload: {output_error}")
            final = "failed"
        last, output_dir = out.snapshot, self._options.output_dir
        counts = (
            f"; {counted(results)}"
            if results and any(results[name] for name in ("skipped", "updated", "suppressed"))
            else ""
        )
        say(
            f"{last.status.replace('_', ' ')}: {last.total_records_processed:,} of "
            f"{last.total_records:,} records in {last.elapsed_seconds:.1f} s "
            f"({last.average_records_per_second:,.1f} records/s){counts}"
        )
        if last.rejects:
            say(f"rejected: {last.rejects:,} records, with the reasons in {output_dir / REJECTS}")
        if status in ("interrupted", "failed") and self._ledger:
            if last.resume_command is None:
                say(f"{self._target.cloud} was removed with its data")
            else:
                say(f"resume with: {last.resume_command}")
        say(f"see {output_dir}{os.sep} for progress, statistics, results and log")
        return final
