"""How far a run is: a `Tally` counts its events, a `Snapshot` is its state at one moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pgload.contract import FileStatus, Status
from pgload.load.stats import BatchStat
from pgload.migrate.counts import NONE, RowCounts

WINDOW = 10.0  # seconds that the current speed is measured over; a large batch takes a few of them


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of a run before it begins. Totals include what earlier runs have committed."""

    cloud_provider: str
    instance_type: str | None
    method: str
    batch_size: int
    num_connections: int
    total_files: int
    total_records: int
    resumed: bool = False
    resume_command: str | None = None  # None where nothing can be resumed


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file before it is loaded."""

    name: str  # as in `BatchStat.file`
    table: str  # empty for a file that is not loaded
    records_before: int = 0  # committed by earlier runs
    rejected_before: int = 0
    not_written_before: int = 0  # skipped or suppressed


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What a connection is doing: `writing`, `waiting`, `retrying`, `lost` or `refused`."""

    worker: int
    state: str
    seconds: float  # in this state


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at one moment: `migration_progress.json` without its `files`. Times are ISO 8601."""

    status: Status
    current_file: str | None  # the one begun last
    current_batch: int  # batch_number of the last one committed
    files_completed: int  # with every record in its table
    files_failed: int  # ended with rejects or an error
    total_files: int
    total_records_processed: int  # committed, by this run, by earlier ones and by others
    records_before: int  # of these, by earlier runs
    records_by_others: int  # of these, by migrations that ran at the same time
    skipped: int  # records whose key was in the table
    updated: int  # of the records committed by this run: those that replaced a row
    suppressed: int  # records that a trigger or a rule of the table has dropped
    rejects: int
    retries: int
    total_records: int
    percent: float  # of the records, whatever became of them
    records_per_second: float  # committed, within the last seconds
    average_records_per_second: float  # since the run began
    eta_seconds: float | None  # at the current speed; None while nothing is committed
    elapsed_seconds: float
    batch_size: int
    num_connections: int
    connections: tuple[ConnectionState, ...]
    method: str
    cloud_provider: str
    instance_type: str | None
    resumed: bool
    resume_command: str | None = None  # None where nothing can be resumed
    start_time: str
    last_update: str  # far in the past with status `running`: the process was killed
    pid: int
    run: str  # its folder


@dataclass(slots=True)
class FileState:
    """The state of one file, as it is in `files` of the progress and the results."""

    file: str
    table: str
    status: FileStatus = "pending"
    records: int = 0  # committed in this run
    records_before: int = 0  # committed by earlier runs
    records_by_others: int = 0  # committed by migrations that ran at the same time
    skipped: int = 0
    updated: int = 0  # of `records`
    suppressed: int = 0
    rejects: int = 0
    batches: int = 0
    bytes: int = 0  # of the JSON text of the batches
    error: str | None = None  # why it failed


@dataclass(slots=True)
class TableTotal:
    """What was written into one table in this run."""

    table_name: str
    records: int = 0
    skipped: int = 0
    updated: int = 0  # of `records`
    suppressed: int = 0
    rejects: int = 0
    batches: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Tally:
    """Counts a run's events. For one thread at a time; only `connections` may be set by others."""

    facts: RunFacts
    files: dict[str, FileState] = field(default_factory=dict)
    tables: dict[str, TableTotal] = field(default_factory=dict)
    connections: list[tuple[str, float]] = field(default_factory=list)  # state, since when
    current_file: str | None = None
    completed: int = 0  # files
    failed: int = 0
    batches: int = 0
    retries: int = 0
    records: int = 0  # committed in this run
    records_before: int = 0
    not_written_before: int = 0  # skipped or suppressed by earlier runs
    records_by_others: int = 0
    not_written_by_others: int = 0
    rejects_by_others: int = 0
    counts: RowCounts = NONE
    rejects: int = 0
    _rejected_before: dict[str, int] = field(default_factory=dict)  # file → by earlier runs
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)  # when, records, done

    def files_planned(self, files: Iterable[FileFacts]) -> None:
        """The files that the run is about to load."""
        for file in files:
            self._file(file.name, file.table)

    def file_started(self, facts: FileFacts) -> None:
        """A file is begun, perhaps where an earlier run has stopped."""
        file = self._file(facts.name, facts.table)
        file.status, file.table = "running", facts.table
        file.records_before = facts.records_before
        self.current_file = facts.name
        self.records_before += facts.records_before
        self.not_written_before += facts.not_written_before
        if facts.rejected_before:
            self._rejected_before[facts.name] = facts.rejected_before

    def file_finished(self, name: str, error: str | None) -> None:
        """A file has ended; `error` is why it ended early."""
        file = self._file(name, "")
        file.error = error
        if error is not None:
            file.status = "failed"
        elif file.rejects or name in self._rejected_before:
            file.status = "completed_with_errors"
        else:
            file.status = "completed"
        self.completed += file.status == "completed"
        self.failed += file.status != "completed"

    def batch(self, stat: BatchStat) -> int:
        """A batch is committed; returns its number in the run, from 1."""
        self.batches += 1
        for total in (self._file(stat.file, stat.table), self._table(stat.table)):
            total.records += stat.records
            total.batches += 1
            total.bytes += stat.bytes
        self.records += stat.records
        return self.batches

    def reject(self, file: str, table: str, records: int = 1) -> None:
        """Records of a committed batch were rejected."""
        self._file(file, table).rejects += records
        self._table(table).rejects += records
        self.rejects += records

    def count_rows(self, file: str, table: str, counts: RowCounts) -> None:
        """What became of records of a batch that were not inserted as rows of their own."""
        for total in (self._file(file, table), self._table(table)):
            for name, number in counts._asdict().items():
                setattr(total, name, getattr(total, name) + number)
        self.counts = self.counts.plus(counts)

    def records_lost(self, name: str, table: str, records: int, counts: RowCounts) -> None:
        """Of a file, only these of the run's records are still there after a crash."""
        file = self._file(name, table)
        lost = file.records - records
        for total in (file, self._table(table), self):
            total.records -= lost
        fewer = {field: n - getattr(file, field) for field, n in counts._asdict().items()}
        self.count_rows(name, table, RowCounts(**fewer))

    def written_by_others(self, name: str, records: int, not_written: int, rejects: int) -> None:
        """What became of records of a finished file by migrations that ran at the same time."""
        file = self._file(name, "")
        file.records_by_others = records
        self.records_by_others += records
        self.not_written_by_others += not_written
        self.rejects_by_others += rejects
        if rejects and file.status == "completed":
            file.status = "completed_with_errors"
            self.completed -= 1
            self.failed += 1

    def retry(self) -> None:
        """A batch is retried."""
        self.retries += 1

    def run_ended(self) -> None:
        """No further events: files that are still running are unfinished."""
        for file in self.files.values():
            if file.status == "running":
                file.status = "unfinished"

    @property
    def done(self) -> int:
        """The records that this run has written, rejected, skipped or suppressed."""
        return self.records + self.rejects + self.counts.not_written

    @property
    def rejects_before(self) -> int:
        """The records that earlier runs have rejected, of the files that are begun."""
        return sum(self._rejected_before.values())

    @property
    def left(self) -> int:
        """The records that no run has written, rejected, skipped or suppressed."""
        before = self.records_before + self.rejects_before + self.not_written_before
        others = self.records_by_others + self.rejects_by_others + self.not_written_by_others
        return max(self.facts.total_records - before - others - self.done, 0)

    def snapshot(self, status: Status, *, begin: float, now: float, **run: Any) -> Snapshot:
        """The run at `now`, which began at `begin`, both on the clock of `time.perf_counter`.

        `run` holds the other fields of a `Snapshot`: start_time, last_update, pid, run.
        """
        facts = self.facts
        total, before, done, left = facts.total_records, self.records_before, self.done, self.left
        records_per_second, done_per_second = self._speed(begin, now, done)
        elapsed = now - begin
        return Snapshot(
            status=status,
            current_file=self.current_file,
            current_batch=self.batches,
            files_completed=self.completed,
            files_failed=self.failed,
            total_files=facts.total_files,
            total_records_processed=before + self.records + self.records_by_others,
            records_before=before,
            records_by_others=self.records_by_others,
            **self.counts._asdict(),
            rejects=self.rejects,
            retries=self.retries,
            total_records=total,
            # Rounded down, so that 100 means all of them.
            percent=(total - left) * 10_000 // total / 100 if total else 100.0,
            records_per_second=round(records_per_second, 1),
            average_records_per_second=round(self.records / elapsed, 1) if elapsed > 0 else 0.0,
            eta_seconds=round(left / done_per_second, 1) if done_per_second else None,
            elapsed_seconds=round(elapsed, 3),
            batch_size=facts.batch_size,
            num_connections=facts.num_connections,
            connections=tuple(
                ConnectionState(worker, state, round(max(now - since, 0.0), 1))
                for worker, (state, since) in enumerate(self.connections)
            ),
            method=facts.method,
            cloud_provider=facts.cloud_provider,
            instance_type=facts.instance_type,
            resumed=facts.resumed,
            resume_command=facts.resume_command,
            **run,
        )

    def _speed(self, begin: float, now: float, done: int) -> tuple[float, float]:
        """Records committed, and records done with, per second within the window."""
        recent = self._recent
        if not recent:
            recent.append((begin, 0, 0))
        recent.append((now, self.records, done))
        while len(recent) > 2 and recent[1][0] <= now - WINDOW:
            recent.popleft()
        then, records, done_then = recent[0]
        seconds = now - then
        if seconds <= 0:
            return 0.0, 0.0
        return (self.records - records) / seconds, (done - done_then) / seconds

    def _file(self, name: str, table: str) -> FileState:
        if name not in self.files:
            self.files[name] = FileState(name, table)
        return self.files[name]

    def _table(self, name: str) -> TableTotal:
        if name not in self.tables:
            self.tables[name] = TableTotal(name)
        return self.tables[name]
