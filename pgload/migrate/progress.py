"""What a run has done so far: counted from its events, read as a `Snapshot`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from pgload.load.stats import BatchStat

Status = Literal["running", "completed", "completed_with_errors", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of a run before it begins. Totals count what an earlier run has done, too."""

    cloud_provider: str
    instance_type: str | None
    method: str
    batch_size: int
    num_connections: int
    total_files: int
    total_records: int | None = None  # None where counting them would take too long
    total_bytes: int | None = None  # of the files; tells how far the run is without total_records
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file when it is begun; `…_before` is what an earlier run committed."""

    name: str  # as in `BatchStat.file`
    table: str
    records: int | None = None
    bytes: int | None = None
    records_before: int = 0
    bytes_before: int = 0
    rejected_before: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What a connection is doing: `writing`, `waiting`, `lost`, or whatever its worker says."""

    worker: int
    state: str
    seconds: float  # in this state


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at one moment, as it stands in `migration_progress.json`. Times are ISO 8601."""

    status: Status
    current_file: str | None  # the one begun last
    current_batch: int  # the one that ended last, by its batch_number
    files_completed: int  # every record of theirs is in its table
    files_failed: int  # finished with, but for some records
    total_files: int
    total_records_processed: int  # committed, in this run and before it was resumed
    records_before: int  # of them, before it was resumed
    records_failed: int  # rejected
    rejects: int
    retries: int
    total_records: int | None
    percent: float | None  # done with, written or failed; None where no total is known
    records_per_second: float  # committed within the last seconds
    average_records_per_second: float  # since the run began
    eta_seconds: float | None  # at the present speed; None at a standstill
    elapsed_seconds: float
    batch_size: int
    num_connections: int
    connections: tuple[ConnectionState, ...]
    method: str
    cloud_provider: str
    instance_type: str | None
    resumed: bool
    start_time: str
    last_update: str  # old beside a `running` without its process: that was killed
    pid: int
    run: str  # its folder


# Seconds over which "now" is measured: a batch of 5000 records may take a few of them.
WINDOW = 10.0


@dataclass(slots=True)
class FileTally:
    """What became of one file."""

    file: str
    table: str
    status: Literal["unfinished", "completed", "completed_with_errors", "failed"] = "unfinished"
    records: int = 0  # committed in this run
    records_before: int = 0
    records_failed: int = 0
    rejects: int = 0
    batches: int = 0
    bytes: int = 0  # of the JSON text of `records`
    error: str | None = None


@dataclass(slots=True)
class TableTally:
    """What came into one table in this run."""

    table_name: str
    records: int = 0
    rejects: int = 0
    batches: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Tally:
    """Counts events. Not for several threads at once, except that `connections` may be set."""

    facts: RunFacts
    files: dict[str, FileTally] = field(default_factory=dict)
    tables: dict[str, TableTally] = field(default_factory=dict)
    connections: list[tuple[str, float]] = field(default_factory=list)  # state, since when
    current_file: str | None = None
    completed: int = 0  # files
    failed: int = 0
    batches: int = 0
    retries: int = 0
    records: int = 0  # committed in this run
    records_before: int = 0
    records_failed: int = 0
    rejects: int = 0
    bytes: int = 0  # of the files, done with in this run
    bytes_before: int = 0
    _begun: dict[str, FileFacts] = field(default_factory=dict)  # and not finished
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)  # when, records, work

    def file_started(self, facts: FileFacts) -> None:
        """A file is begun, perhaps where an earlier run has left it."""
        file = self._file(facts.name, facts.table)
        file.records_before = facts.records_before
        self.current_file = facts.name
        self.records_before += facts.records_before
        self.bytes_before += facts.bytes_before
        self._begun[facts.name] = facts

    def file_finished(self, name: str, error: str | None) -> None:
        """A file is finished with; `error` is why it ended early."""
        file = self._file(name, "")
        file.error = error
        facts = self._begun.pop(name, None)
        before = facts.rejected_before if facts else 0
        if error is None and not file.records_failed and not before:
            file.status = "completed"
            self.completed += 1
        else:
            file.status = "completed_with_errors" if error is None else "failed"
            self.failed += 1
        if facts is not None and facts.bytes is not None:
            # There is more in a file than its records, and failed ones are not in `bytes`.
            self.bytes += max(facts.bytes - facts.bytes_before - file.bytes, 0)

    def batch(self, stat: BatchStat) -> int:
        """A batch is committed. Gives its number in the run, from 1."""
        self.batches += 1
        for tally in (self._file(stat.file, stat.table), self._table(stat.table)):
            tally.records += stat.records
            tally.batches += 1
            tally.bytes += stat.bytes
        self.records += stat.records
        self.bytes += stat.bytes
        return self.batches

    def reject(self, file: str, table: str) -> None:
        """A record is in the rejects."""
        tally = self._file(file, table)
        tally.rejects += 1
        tally.records_failed += 1
        self._table(table).rejects += 1
        self.rejects += 1
        self.records_failed += 1

    def retry(self) -> None:
        """A batch is tried once more."""
        self.retries += 1

    def snapshot(self, status: Status, *, begin: float, now: float, **run: Any) -> Snapshot:
        """The run at `now`, which began at `begin` on the same clock.

        `run` is what else is in a `Snapshot`: start_time, last_update, pid, run.
        """
        total, before, work = self._work()
        # Rounded down, so that 100 means all of it.
        percent = min(before + work, total) * 10_000 // total / 100 if total else None
        rate, pace = self._speed(begin, now, work)
        elapsed = now - begin
        return Snapshot(
            status=status,
            current_file=self.current_file,
            current_batch=self.batches,
            files_completed=self.completed,
            files_failed=self.failed,
            total_files=self.facts.total_files,
            total_records_processed=self.records_before + self.records,
            records_before=self.records_before,
            records_failed=self.records_failed,
            rejects=self.rejects,
            retries=self.retries,
            total_records=self.facts.total_records,
            percent=percent,
            records_per_second=round(rate, 1),
            average_records_per_second=round(self.records / elapsed, 1) if elapsed > 0 else 0.0,
            eta_seconds=round(max(total - before - work, 0) / pace, 1) if total and pace else None,
            elapsed_seconds=round(elapsed, 3),
            batch_size=self.facts.batch_size,
            num_connections=self.facts.num_connections,
            connections=tuple(
                ConnectionState(worker, state, round(max(now - since, 0.0), 1))
                for worker, (state, since) in enumerate(self.connections)
            ),
            method=self.facts.method,
            cloud_provider=self.facts.cloud_provider,
            instance_type=self.facts.instance_type,
            resumed=self.facts.resumed,
            **run,
        )

    def _work(self) -> tuple[int, int, int]:
        """All there is to do, what an earlier run did of it, and this one: in records or bytes."""
        if self.facts.total_records is not None:
            return self.facts.total_records, self.records_before, self.records + self.records_failed
        return self.facts.total_bytes or 0, self.bytes_before, self.bytes

    def _speed(self, begin: float, now: float, work: int) -> tuple[float, float]:
        """Records, and units of work, a second within the window."""
        recent = self._recent
        if not recent:
            recent.append((begin, 0, 0))
        recent.append((now, self.records, work))
        while len(recent) > 2 and recent[1][0] <= now - WINDOW:
            recent.popleft()
        then, records, done = recent[0]
        seconds = now - then
        if seconds <= 0:
            return 0.0, 0.0
        return (self.records - records) / seconds, (work - done) / seconds

    def _file(self, name: str, table: str) -> FileTally:
        return self.files.setdefault(name, FileTally(name, table))

    def _table(self, name: str) -> TableTally:
        return self.tables.setdefault(name, TableTally(name))
