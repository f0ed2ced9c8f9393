"""A migration that writes, from its plan to its final status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pgload.contract import Status
from pgload.errors import LoadError, OutputError, PgloadError, TargetError, UsageError
from pgload.load.loader import Loader
from pgload.load.session import with_hint
from pgload.migrate.console import say, show
from pgload.migrate.control import Control, interruptible
from pgload.migrate.durability import lost_records, make_durable
from pgload.migrate.ledger.entries import EMPTY, Written
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.options import MigrateOptions
from pgload.migrate.outputs.display import display
from pgload.migrate.outputs.held_rejects import settle_rejects
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import FileFacts, RunFacts
from pgload.migrate.outputs.results import summary
from pgload.migrate.plan import FilePlan, Plan
from pgload.migrate.prepare import Preparation, Prepared
from pgload.migrate.sqlstates import is_transient
from pgload.migrate.verification.results import describe, to_results
from pgload.migrate.verification.verify import verify
from pgload.migrate.writing.pending import PendingBatches, in_order
from pgload.migrate.writing.retry import RetryingWriter
from pgload.targets.cloud import LOCAL_CLOUDS
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

Result = TypeVar("Result")


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

    def execute(self) -> Status:
        """Create tables, load the files, write the outputs; returns the final status.

        Raises `TargetError` and `UsageError` where no batch was written.
        """
        options, plan = self._options, self._plan
        files = self._facts_of_all_files()
        facts = RunFacts(
            cloud_provider=self._target.cloud,
            instance_type=self._target.instance_type,
            method=options.method,
            batch_size=options.batch_size,
            num_connections=options.connections,
            total_files=len(files),
            total_records=plan.records,
            resumed=options.resume,
            resume_command=self._resume_command(),
        )
        with Outputs(
            options.output_dir,
            facts,
            keep_runs=options.keep_runs,
            command_started=options.started,
        ) as out:
            try:
                out.files_planned(files)
                prepared = self._prepare(out)
                self._plan = prepared.plan
                pending = PendingBatches(
                    out, prepared.entries, options.batch_size, prepared.partitionings
                )
                return self._end(out, self._load(out, prepared, pending))
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
        return self._options.resume_command

    def _facts_of_all_files(self) -> list[FileFacts]:
        plan = self._plan
        tables = {file.path: file.table.name for file in plan.files}
        paths = [*tables, *plan.duplicates, *plan.folder.empty, *plan.broken]
        return [FileFacts(path.name, tables.get(path, "")) for path in sorted(paths)]

    def _prepare(self, out: Outputs) -> Prepared:
        import psycopg2

        try:
            return self._on_server(
                out,
                lambda connection: Preparation(
                    self._options,
                    self._ledger,
                    connection,
                    self._make_plan_now,
                    lambda text: self._note(out, text),
                ).run(self._plan),
            )
        except psycopg2.Error as error:  # a transient one is not an error of the configuration
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

    def _load(self, out: Outputs, prepared: Prepared, pending: PendingBatches) -> Status | None:
        """Write all batches; returns the status, or None where the outputs determine it."""
        options, plan = self._options, prepared.plan
        for path in (*plan.folder.empty, *plan.duplicates):
            out.file_started(FileFacts(path.name, ""))
            out.file_finished(path.name)
        for path, error in plan.broken.items():
            out.file_started(FileFacts(path.name, ""))
            out.file_finished(path.name, str(error))
        if not plan.files:
            return None
        writer = RetryingWriter(
            out,
            ledger=self._ledger,
            file_ids={file.path: file.scan.content for file in plan.files},
            upserts=prepared.upserts,
            may_suppress=prepared.may_suppress,
            max_rejects=options.max_rejects,
            retry_timeout=options.retry_timeout,
        )
        connections = options.connections
        if options.on_conflict == "update":  # a partition is written over one connection
            partitions = max(each.count for each in prepared.partitionings.values())
            connections = min(connections, partitions)
        with Loader(
            lambda: interruptible(self._target.connect),
            options.method,
            connections=connections,
            allow_fewer=True,
            writer=writer,
        ) as loader:
            if loader.connections < connections:
                self._note(
                    out,
                    f"{self._target.cloud}: the server gave {loader.connections} of "
                    f"{connections} connections: continuing with {loader.connections}",
                )
                for refused in range(loader.connections, connections):
                    out.connection_state(refused, "refused")
            sizes = {pending.batch_size(file) for file in plan.files}
            size = sizes.pop() if len(sizes) == 1 else options.batch_size
            out.correct_facts(num_connections=loader.connections, batch_size=size)
            batches = pending.estimate(plan.files)
            out.log.info(f"Connected to {self._target.cloud}: {loader.connections} connections")
            out.log.info(f"Writing {batches} batches over {loader.connections} connections")
            out.load_started()
            with show(lambda: display(out.snapshot)):
                files: Sequence[FilePlan] = plan.files
                while files:
                    for part in in_order(files, prepared.partitionings):
                        loader.run(pending.open(part), on_batch=pending.written)
                    out.load_finished()
                    files = self._lost_files(out, pending)
                # Others may have begun a file after this run.
                shared = [
                    file
                    for file in plan.files
                    if file in prepared.shared or file.path in writer.written_by_others
                ]
                if not options.verify:  # inside, so that the last state is shown
                    return self._finish(out, prepared, shared)
                out.catch_up()
        self._verify(out, pending)
        return self._finish(out, prepared, shared)

    def _finish(
        self, out: Outputs, prepared: Prepared, shared: Sequence[FilePlan]
    ) -> Status | None:
        self._ignore_first_signal()
        rejected = any(entry.rejected for entry in prepared.entries.values())
        rejected |= self._report_others(out, prepared, shared)
        rejected |= bool(self._settle_rejects(out))
        status: Status | None = "completed_with_errors" if rejected else None
        out.finish(status)
        return status

    def _settle_rejects(self, out: Outputs) -> list[str]:
        """Decide what became of rejects that killed runs have held, now that all is written."""
        import psycopg2

        notes: list[str] = []
        if self._ledger is not None:
            with suppress(psycopg2.Error, TargetError):  # then a later run decides
                notes += settle_rejects(self._options.output_dir, self._ledger)
        for text in notes:
            self._note(out, text)
        return notes

    def _lost_files(self, out: Outputs, pending: PendingBatches) -> list[FilePlan]:
        """Make all commits durable; returns the files of which committed batches were lost."""
        import psycopg2

        read = self._read_files(pending)

        def check(connection: Connection) -> dict[Path, int]:
            make_durable(connection)
            return lost_records(read, pending.read, self._ledger) if self._ledger else {}

        try:
            lost = self._on_server(out, check)
            files = [file for file in read if file.path in lost]
            if not files or self._ledger is None:
                return []
            entries = self._ledger.look_up([file.in_ledger for file in files])
            written = self._ledger.written_by([file.in_ledger for file in files])
        except (psycopg2.Error, TargetError) as error:
            raise LoadError(
                f"every batch is committed, but it is unknown whether the server has written all "
                f"of them to its disk: {with_hint(error)}"
            ) from None
        for file in files:
            records, name = lost[file.path], file.path.name
            pending.entries[file.path] = entries.get(file.in_ledger.key, EMPTY)
            self._note(
                out,
                f"{name}: {records:,} records that were committed were lost when the server "
                "crashed (synchronous_commit is off) or a standby took over that had not received "
                "them: writing them again",
            )
            mine = written.get(file.in_ledger.key, Written()).mine
            out.records_lost(name, file.table.name, mine.records, mine.counts)
        return files

    def _read_files(self, pending: PendingBatches) -> list[FilePlan]:
        """The files that have been read to their end."""
        return [file for file in self._plan.files if file.path in pending.read]

    def _verify(self, out: Outputs, pending: PendingBatches) -> None:
        """Compare the files with their tables, and report it."""
        import psycopg2

        try:
            tables = verify(
                self._read_files(pending),
                lambda action: self._on_server(out, action),
                self._ledger,
                by_key=True if self._options.on_conflict != "error" else None,
                output_dir=self._options.output_dir,
                progressed=self._control.progressed,
            )
        except (psycopg2.Error, TargetError) as error:
            raise LoadError(
                f"every batch is committed, but not verified: {with_hint(error)}"
            ) from None
        plan = self._plan
        unread = [file.path for file in plan.files if file.path not in pending.read]
        omitted = sorted([*plan.broken, *unread])
        for path in omitted:
            self._note(out, f"not compared: {path.name}, since it could not be read")
        out.verification = to_results(tables, complete=not omitted)
        for text in describe(tables):
            out.log.info(text)
            say(text)

    def _report_others(self, out: Outputs, prepared: Prepared, shared: Sequence[FilePlan]) -> bool:
        """Report who wrote the shared files; returns whether others rejected records of them."""
        if self._ledger is None or not shared:
            return False
        import psycopg2

        rejected = False
        with suppress(psycopg2.Error, TargetError):  # without the connection this is not known
            written = self._ledger.written_by([file.in_ledger for file in shared])
            for file in shared:
                if (found := written.get(file.in_ledger.key)) is None:
                    continue
                name, others = file.path.name, found.others_since(prepared.entries[file.path])
                out.written_by_others(
                    name, others.records, others.counts.not_written, others.rejected
                )
                if others.records:
                    self._note(
                        out,
                        f"{name}: {found.mine.records:,} records were written by this migration, "
                        f"{others.records:,} by another one at the same time",
                    )
                rejected |= others.rejected > 0
        return rejected

    def _note(self, out: Outputs, text: str) -> None:
        out.log.warning(text)
        say(text)

    def _end(self, out: Outputs, status: Status | None = None, error: str | None = None) -> Status:
        """Finish the outputs and print a summary; returns the final status."""
        try:
            results = out.finish(status, error)
            final: Status = results["status"]
        except OutputError as output_error:
            say(f"pgload: {output_error}")
            results = out.finish()  # that is raised once
            final = "failed"
        for text in summary(final, results, self._options.output_dir):
            say(text)
        if status in ("interrupted", "failed") and self._ledger:
            command = results["resume_command"]
            removed = f"{self._target.cloud} was removed with its data"
            say(removed if command is None else f"resume with: {command}")
        return final
