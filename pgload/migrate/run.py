"""`MigrationRun`: a migration that writes, from its plan to its final status."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pgload.contract import REJECTS
from pgload.errors import LoadError, OutputError, PgloadError, SourceError, TargetError, UsageError
from pgload.load.loader import Loader, Work
from pgload.load.session import with_hint
from pgload.load.stats import BatchStat
from pgload.migrate.console import say, show_progress
from pgload.migrate.ledger import EMPTY, Entry, Ledger
from pgload.migrate.options import MigrateOptions
from pgload.migrate.outputs import Outputs
from pgload.migrate.plan import Plan
from pgload.migrate.progress import FileFacts, RunFacts, Status
from pgload.migrate.retry import RetryingWriter
from pgload.migrate.upsert import Upsert, make_upserts
from pgload.schema.table import Table, create_table
from pgload.source.reader import read_batches
from pgload.targets.cloud import LOCAL_CLOUDS
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

TRANSIENT_STATES = ("25006", "53100")  # SQLSTATEs: a read-only server, a full disk


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
        control: Connection,
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
        self._shared: set[Path] = set()  # files that another migration writes as well
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
                    self._create_tables(out)
                    self._begin_files(out)
                    tables = [file.table for file in self._plan.files]
                    upserts = make_upserts(tables, options.on_conflict, self._control)
                self._load(out, upserts)
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
        words = [each for each in self._options.command if each not in ("--resume", "--restart")]
        return shlex.join([*words, "--resume"])

    def _facts_of_all_files(self) -> list[FileFacts]:
        plan = self._plan
        tables = {file.path: file.table.name for file in plan.files}
        paths = [*tables, *plan.duplicates, *plan.folder.empty, *plan.broken]
        return [FileFacts(path.name, tables.get(path, "")) for path in sorted(paths)]

    @contextmanager
    def _transient_as_load_error(self) -> Iterator[None]:
        """A read-only server and a full disk are transient, not errors of the configuration."""
        import psycopg2

        try:
            yield
        except psycopg2.Error as error:
            if error.pgcode not in TRANSIENT_STATES:
                raise
            raise LoadError(f"{self._target.cloud}: {with_hint(error)}") from None

    def _create_tables(self, out: Outputs) -> None:
        import psycopg2

        unique = self._options.on_conflict != "error"
        if self._ledger:
            self._ledger.create()
        with self._control.cursor() as cursor:
            for table in self._plan.create:
                statements = [create_table(table, self._control, unique_key=unique)]
                if self._ledger:
                    statements.append(self._ledger.delete_statement(table))
                try:
                    cursor.execute("; ".join(statements))  # one transaction
                except (psycopg2.errors.DuplicateTable, psycopg2.errors.UniqueViolation):
                    self._note(out, f"table {table.name} was just created by another migration")
                    self._plan_again(table)
                    return self._create_tables(out)
                out.log.info(f"created table {table.name}")
        return None

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
        options = self._options
        for file in self._plan.files:
            if self._ledger is None:
                self._entries[file.path] = EMPTY
                continue
            name = file.path.name
            entry, shared = self._ledger.begin(
                file.scan.content,
                name,
                file.table,
                options.batch_size,
                restart=options.writes_again,
            )
            self._entries[file.path] = entry
            if shared:
                self._shared.add(file.path)
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

    def _load(self, out: Outputs, upserts: dict[Table, Upsert]) -> None:
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
            max_rejects=options.max_rejects,
            retry_timeout=options.retry_timeout,
        )
        with Loader(
            self._target.connect,
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
            out.load_started()
            with show_progress(lambda: out.snapshot):
                loader.run(
                    self._open_batches(out), on_batch=lambda stat: self._batch_written(out, stat)
                )
                self._ignore_first_signal()
                out.finish(self._status())  # inside, so that the last state is shown

    def _open_batches(self, out: Outputs) -> Iterator[Work]:
        """The batches that are not committed yet; after a file that fails comes the next one."""
        for file in self._plan.files:
            name, entry = file.path.name, self._entries[file.path]
            out.file_started(
                FileFacts(
                    name,
                    file.table.name,
                    records_before=entry.records,
                    rejected_before=entry.rejected,
                )
            )
            self._batch_opened(name)
            error = None
            try:
                size = entry.batch_size or self._options.batch_size
                for batch in read_batches(file.path, size, file.scan.stamp, file.scan.form):
                    if not entry.holds(batch):
                        self._batch_opened(name)
                        yield file.table, batch
            except SourceError as failure:
                error = str(failure)
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
        if finished:
            out.file_finished(name, self._read_errors[name])

    def _status(self) -> Status | None:
        """The status of a run that was not stopped; None: the outputs determine it."""
        before = any(entry.rejected for entry in self._entries.values())
        return "completed_with_errors" if before or self._rejected_elsewhere() else None

    def _rejected_elsewhere(self) -> bool:
        """Whether another migration of the same files has rejected some of their records."""
        if self._ledger is None or not self._shared:
            return False
        import psycopg2

        with suppress(psycopg2.Error):  # without the connection this is not known
            for file in self._plan.files:
                entry = self._ledger.read(file.scan.content, file.table)
                if file.path in self._shared and entry is not None and entry.rejected:
                    return True
        return False

    def _note(self, out: Outputs, text: str) -> None:
        out.log.warning(text)
        say(text)

    def _end(self, out: Outputs, status: Status | None = None, error: str | None = None) -> Status:
        """Finish the outputs and print a summary; gives the final status."""
        try:
            final: Status = out.finish(status or self._status(), error)["status"]
        except OutputError as output_error:
            say(f"pgload: {output_error}")
            final = "failed"
        last, output_dir = out.snapshot, self._options.output_dir
        say(
            f"{last.status.replace('_', ' ')}: {last.total_records_processed:,} of "
            f"{last.total_records:,} records in {last.elapsed_seconds:.1f} s "
            f"({last.average_records_per_second:,.0f} records/s)"
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
