"""The real migration: from a folder's files into the user's own tables, completely."""

from __future__ import annotations

import os
import shlex
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import FrameType
from typing import TYPE_CHECKING, Literal

from pgload.errors import PgloadError, SourceError, TargetError, UsageError
from pgload.load.careful import CarefulWriter
from pgload.load.ledger import Entry, Ledger
from pgload.load.merge import Merge, OnConflict
from pgload.load.migrator import Migrator, Work
from pgload.load.outputs import Outputs
from pgload.load.progress import shown
from pgload.load.snapshot import FileFacts, RunFacts
from pgload.load.stats import BatchStat
from pgload.plan import FilePlan, Plan, describe_plan, make_plan
from pgload.source.files import read_batches, record_offsets
from pgload.source.tables import Table, create_table, qualified_name
from pgload.targets.cloud import environment
from pgload.targets.open import check_cloud, default_cloud, open_target
from pgload.targets.target import Target
from pgload.targets.trouble import check_server, one_line_errors

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

COMPLETE, INCOMPLETE, UNUSABLE, INTERRUPTED = 0, 1, 2, 130  # exit codes
TOUCHED = ("updatedAt", "updated_at")  # columns that an update sets anew


@dataclass(frozen=True, kw_only=True)
class Migration:
    """What the command line asks for."""

    data: Path
    cloud: str | None = None
    method: str = "values"
    batch_size: int = 1000
    connections: int = 1
    output_dir: Path = Path("migration_outputs")
    on_conflict: Literal["error", OnConflict] = "error"
    resume: bool = False
    restart: bool = False
    create_tables: bool = False
    ignore_unknown: bool = False
    dry_run: bool = False
    ledger: bool = True
    max_rejects: int | None = None
    keep_runs: int = 20
    command: Sequence[str] = ()  # how it was called, to say how to go on


def migrate(asked: Migration) -> int:
    """Migrate; gives the exit code. Raises `PgloadError` where nothing was begun."""
    variables = environment(Path.cwd())
    cloud = (asked.cloud or default_cloud(variables)).strip().upper()
    if "," in cloud:
        raise UsageError(f"--cloud {cloud}: a migration has one target; name one of them")
    check_cloud(cloud, variables, None)
    with ExitStack() as stack:
        target = stack.enter_context(open_target(cloud, variables))
        rights = "grant it to the user"
        stack.enter_context(one_line_errors(cloud, target.parameters, rights))
        control = target.connect()
        stack.callback(control.close)
        with control.cursor() as cursor:
            cursor.execute("SELECT version()")
            check_server(cloud, control.server_version, str(cursor.fetchall()[0][0]))
        _say(f"{cloud}: PostgreSQL {control.info.parameter_status('server_version')}")
        if cloud == "EMBEDDED":
            _say("EMBEDDED is a rehearsal: this server is removed when the migration has ended")
        plan = make_plan(
            asked.data,
            control,
            create_tables=asked.create_tables,
            ignore_unknown=asked.ignore_unknown,
            on_conflict=asked.on_conflict,
        )
        ledger = Ledger(control) if asked.ledger else None
        known = _known(plan, ledger, asked) if ledger else {}
        for line in describe_plan(plan, {path: _note(entry) for path, entry in known.items()}):
            _say(line)
        if plan.problems:
            raise UsageError("nothing was written\n" + "\n".join(plan.problems))
        if asked.dry_run:
            _say("dry run: nothing was written")
            return INCOMPLETE if plan.broken else COMPLETE
        return _Run(asked, target, control, plan, ledger).go()


def _known(plan: Plan, ledger: Ledger, asked: Migration) -> dict[Path, Entry]:
    """What the ledger says of the files; adds to the plan's problems what would do harm."""
    known: dict[Path, Entry] = {}
    for file in plan.files:
        entry = ledger.read(file.scan.content, file.table)
        if entry is None or not entry.batches or file.match is None or asked.restart:
            continue
        name, table = file.path.name, file.table.name
        if not asked.resume and asked.on_conflict != "error":
            continue  # its records are recognised by their key
        known[file.path] = entry
        if ledger.is_empty(file.table):
            plan.problems.append(
                f"{name}: by the ledger {entry.records:,} of its records are in {table}, which is "
                "empty: --restart forgets that, and begins again"
            )
        elif not asked.resume and not ledger.take_part(file.scan.content, file.table):
            plan.problems.append(
                f"{name}: {entry.records:,} of its {file.scan.records:,} records are in {table} "
                "already: --resume goes on with the rest, --restart loads all of them once more"
            )
    return known


def _note(entry: Entry) -> str:
    return f"{entry.records:,} are there already"


class _Run:
    """A migration that writes."""

    def __init__(
        self,
        asked: Migration,
        target: Target,
        control: Connection,
        plan: Plan,
        ledger: Ledger | None,
    ) -> None:
        self._asked = asked
        self._target = target
        self._control = control
        self._plan = plan
        self._ledger = ledger
        self._failed = False
        self._stamps = {file.path: file.scan.stamp for file in plan.files}

    def go(self) -> int:
        asked, plan = self._asked, self._plan
        facts = RunFacts(
            cloud_provider=self._target.cloud,
            instance_type=self._target.instance_type,
            method=asked.method,
            batch_size=asked.batch_size,
            num_connections=asked.connections,
            total_files=len(plan.files) + len(plan.empty) + len(plan.broken),
            total_records=plan.records,
            resumed=asked.resume,
        )
        with _interruptible(), Outputs(asked.output_dir, facts, keep_runs=asked.keep_runs) as out:
            try:
                self._create_tables(out)
                entries = self._begin_files(out)
                self._load(out, entries)
            except KeyboardInterrupt:
                out.finish("interrupted")
                self._tell(out)
                return INTERRUPTED
            except PgloadError as error:
                out.log.error(str(error))
                out.finish("failed")
                _say(f"pgload: {error}")
                self._tell(out)
                begun = out.snapshot.current_batch > 0
                return UNUSABLE if isinstance(error, TargetError) and not begun else INCOMPLETE
            complete = not (out.snapshot.records_failed or plan.broken or self._failed)
            out.finish("completed" if complete else "completed_with_errors")
            self._tell(out)
            return COMPLETE if complete else INCOMPLETE

    def _create_tables(self, out: Outputs) -> None:
        with self._control.cursor() as cursor:
            for table in self._plan.create:
                unique = self._asked.on_conflict != "error"
                cursor.execute(create_table(table, self._control, unique_key=unique))
                out.log.info(f"created table {table.name}")
        if self._ledger:
            self._ledger.create()

    def _begin_files(self, out: Outputs) -> dict[Path, Entry]:
        """Enter the files into the ledger, which says what of them is left to do."""
        entries: dict[Path, Entry] = {}
        for file in self._plan.files:
            content, name = file.scan.content, file.path.name
            if self._ledger is None:
                entries[file.path] = Entry(self._asked.batch_size, {}, 0, 0)
                continue
            shared = self._ledger.take_part(content, file.table)
            again = self._asked.on_conflict != "error" and not self._asked.resume
            if (self._asked.restart or again) and not shared:
                self._ledger.forget(content, file.table)
            entry = self._ledger.begin(content, name, file.table, self._asked.batch_size)
            entries[file.path] = entry
            if shared:
                self._note(out, f"{name}: another migration writes this file as well")
            if entry.batch_size != self._asked.batch_size:
                size = f"batches of {entry.batch_size:,}"
                self._note(out, f"{name}: was begun with {size} and goes on with them")
        return entries

    def _load(self, out: Outputs, entries: dict[Path, Entry]) -> None:
        asked = self._asked
        writer = CarefulWriter(
            out,
            ledger=self._ledger,
            file_ids={file.path: file.scan.content for file in self._plan.files},
            merges=self._merges(),
            offset_of=self._offset_of,
            max_rejects=asked.max_rejects,
        )
        files = _FilesInWork(out)
        for path in self._plan.empty:
            out.file_started(FileFacts(path.name, "", 0))
            out.file_finished(path.name)
        for path, error in self._plan.broken.items():
            out.file_started(FileFacts(path.name, ""))
            out.file_finished(path.name, str(error))
        if not self._plan.files:
            return
        with Migrator(
            self._target.connect,
            asked.method,
            connections=asked.connections,
            fewer_will_do=True,
            writer=writer,
        ) as migrator:
            if migrator.connections < asked.connections:
                self._note(
                    out,
                    f"{self._target.cloud}: the server gave {migrator.connections} of "
                    f"{asked.connections} connections: going on with these",
                )
            out.load_started()
            with shown(lambda: out.snapshot):
                migrator.run(self._work(files, entries), on_batch=files.written)
        self._failed = files.failed

    def _work(self, files: _FilesInWork, entries: dict[Path, Entry]) -> Iterator[Work]:
        """The batches that are not committed yet; a file that fails does not keep the next."""
        for file in self._plan.files:
            entry = entries[file.path]
            with files.work_on(file, entry):
                for batch in read_batches(file.path, entry.batch_size, file.scan.stamp):
                    if batch.first_record not in entry.batches:
                        files.handed_out(file.path)
                        yield file.table, batch

    def _merges(self) -> dict[Table, Merge]:
        on_conflict = self._asked.on_conflict
        if on_conflict == "error":
            return {}
        merges: dict[Table, Merge] = {}
        for file in self._plan.files:
            names = {column.name for column in file.table.columns}
            touched = [n for n in TOUCHED if n not in names and self._has_default(file.table, n)]
            merges[file.table] = Merge(
                file.table, file.table.key, on_conflict, len(merges), tuple(touched)
            )
        return merges

    def _has_default(self, table: Table, column: str) -> bool:
        with self._control.cursor() as cursor:
            cursor.execute(
                "SELECT atthasdef FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
                (qualified_name(table, self._control), column),
            )
            return (True,) in cursor.fetchall()

    def _offset_of(self, path: Path, record: int) -> int | None:
        with suppress(SourceError):  # it has changed meanwhile, which its reader will say
            return record_offsets(path, [record], self._stamps[path]).get(record)
        return None

    def _note(self, out: Outputs, text: str) -> None:
        out.log.warning(text)
        _say(text)

    def _tell(self, out: Outputs) -> None:
        """The end of a run, on the screen."""
        last, folder = out.snapshot, self._asked.output_dir
        of = f" of {last.total_records:,}" if last.total_records is not None else ""
        _say(
            f"{last.status.replace('_', ' ')}: {last.total_records_processed:,}{of} records in "
            f"{last.elapsed_seconds:.1f} s ({last.average_records_per_second:,.0f} records/s)"
        )
        if last.rejects:
            _say(f"rejected: {last.rejects:,}, with their reasons in {folder / 'rejects.jsonl'}")
        if last.status in ("interrupted", "failed") and self._ledger:
            words = [word for word in self._asked.command if word not in ("--resume", "--restart")]
            _say(f"go on with: {shlex.join([*words, '--resume'])}")
        _say(f"see {folder}{os.sep} for progress, statistics, results and log")


class _FilesInWork:
    """Tells the outputs of files as they are begun, written and done."""

    def __init__(self, out: Outputs) -> None:
        self._out = out
        self._lock = Lock()
        self._open = Counter[str]()  # batches of a file that are handed out and not written
        self._errors: dict[str, str | None] = {}  # of files that are handed out to their end
        self.failed = False

    @contextmanager
    def work_on(self, file: FilePlan, entry: Entry) -> Iterator[None]:
        name, error = file.path.name, None
        facts = FileFacts(
            name,
            file.table.name,
            file.scan.records,
            file.scan.bytes,
            records_before=entry.records,
            bytes_before=file.scan.bytes * entry.records // file.scan.records,
        )
        self._out.file_started(facts)
        self._open[name] += 1  # so that it is not done before it is handed out
        try:
            yield
        except SourceError as trouble:
            error, self.failed = str(trouble), True
            _say(f"pgload: {error}")
        with self._lock:
            self._errors[name] = error
        self._close(name)

    def handed_out(self, path: Path) -> None:
        with self._lock:
            self._open[path.name] += 1

    def written(self, stat: BatchStat) -> None:
        self._out.batch(stat, attempts=stat.attempts, rejected=stat.rejected)
        self._close(stat.file)

    def _close(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            done = not self._open[name]
        if done:
            self._out.file_finished(name, self._errors[name])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C, or being asked to end, stops in good order; a second time it ends at once."""
    asked_before = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_before
        if asked_before:
            os._exit(INTERRUPTED)  # the server rolls back what was not committed
        asked_before = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(text, flush=True)
