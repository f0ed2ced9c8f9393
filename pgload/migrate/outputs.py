"""The files of a migration: progress, statistics, results, log and rejects.

Workers only put events into a queue. One thread takes them out a few times a second, counts them,
appends their lines to the log and to `batches.jsonl`, and replaces the progress file; so a batch
costs its worker a few microseconds, and a reader never sees half a file.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Condition, Event, Thread
from types import TracebackType
from typing import Any, Self

from pgload.errors import OutputError
from pgload.load.stats import BatchStat
from pgload.migrate.progress import FileFacts, RunFacts, Snapshot, Status, Tally
from pgload.migrate.run_dir import make_run_folder, prune, show_as_newest
from pgload.migrate.run_files import (
    LogHandler,
    Reject,
    RunFiles,
    first_line,
    iso,
    last_line,
    results,
)

TICK = 0.25  # seconds between two replacements of the progress file
MOST_EVENTS = 10_000  # that may wait to be taken in: where a disk hangs, so does the migration
KEEP_RUNS = 20


class Outputs:
    """Keeps a run's files from `with` to `finish`, whatever happens to the run.

        with Outputs(Path("migration_outputs"), facts) as out:
            out.file_started(FileFacts("a.json", "a", records=5000))
            out.load_started()
            out.batch(stat)  # by the workers
            out.file_finished("a.json")
            out.finish("completed")

    Raises `OutputError` at the start where nothing can be written, and later from `batch`,
    `reject` and `finish`, since a migration that cannot be told of must not go on.
    Left by an exception, it finishes the run as `failed`, and by Ctrl-C as `interrupted`.

    `snapshot` is what the progress file says, `folder` the run's own folder, `log` its log.
    """

    def __init__(self, folder: Path, facts: RunFacts, *, keep_runs: int = KEEP_RUNS) -> None:
        self._outputs = folder.absolute()  # the process may go elsewhere meanwhile
        self._facts = facts
        self._keep_runs = keep_runs
        self._tally = Tally(facts)
        self._events = Ticking(self._write, seconds=TICK, most=MOST_EVENTS)
        self._results: dict[str, Any] | None = None
        # Not one of logging's tree: what other loggers of the process do is not our business.
        self.log = logging.Logger("pgload.migration", logging.INFO)

    def __enter__(self) -> Self:
        self._started, self._begin = datetime.now(UTC), time.perf_counter()
        self._load_began = self._begin
        self._tally.connections = [("waiting", self._begin)] * self._facts.num_connections
        self.folder = make_run_folder(self._outputs, self._started)
        self._files = RunFiles(self.folder, self._facts)
        self.log.addHandler(LogHandler(self._take_log))
        try:
            self.log.info(first_line(self._facts))
            self._events.do_all()
            self._write()
            show_as_newest(self.folder)
            prune(self.folder.parent, self._keep_runs)
            self._events.start()
        except BaseException:
            self._files.close(complete=False)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        else:
            with suppress(OutputError):  # the one in flight says more
                self.finish("failed" if isinstance(error, Exception) else "interrupted")

    # Told from any thread; it stands in the files within a tick.

    def load_started(self, started: datetime | None = None) -> None:
        """From now on a `BatchStat` counts its times from `started`, or from this moment."""
        now = datetime.now(UTC) if started is None else started
        self._load_began = self._begin + (now - self._started).total_seconds()

    def file_started(self, file: FileFacts) -> None:
        """A file is begun."""
        self._events.add(partial(self._tally.file_started, file))
        before = file.records_before
        so_far = f", where {before} of its records are committed" if before else ""
        self.log.info(f"{file.name} goes to {file.table}{so_far}")

    def file_finished(self, name: str, error: str | None = None) -> None:
        """All batches of a file were told of; `error` says why it ended early."""
        self._events.add(partial(self._tally.file_finished, name, error))
        if error is None:
            self.log.info(f"{name} is done")
        else:
            self.log.error(f"{name} failed: {error}")

    def batch(self, stat: BatchStat) -> None:
        """A batch is committed: `records` of it, while `rejected` are in the rejects."""
        end = self._posix(self._load_began + stat.end)
        self._events.put(partial(self._take_batch, stat, end))

    def reject(self, rejects: Sequence[Reject]) -> None:
        """Records of a batch cannot be written. To be called before the batch is committed:

        they are on the disk when it returns, so that a killed run has lost none of them.
        """
        self._events.check()
        self._files.rejects.write(rejects)
        for each in rejects:
            self._events.add(partial(self._tally.reject, each.file, each.table))
        if rejects:
            first = rejects[0]
            more = f" and {len(rejects) - 1} more" if len(rejects) > 1 else ""
            self.log.warning(
                f"Rejected: {first.file}, record {first.record}{more}: {first.message}"
            )

    def retry(self, worker: int, reason: str) -> None:
        """A batch is tried once more."""
        self._events.add(self._tally.retry)
        self.log.warning(f"Connection {worker} tries again: {reason}")

    def connection_state(self, worker: int, state: str) -> None:
        """What connection `worker`, counted from 0, does from now on."""
        self._tally.connections[worker] = (state, time.perf_counter())

    def finish(self, status: Status | None = None, error: str | None = None) -> dict[str, Any]:
        """Write all files for the last time and give the content of `migration_results.json`.

        Without a status the run is completed, with errors if there were any; `error` is why it
        ended early. A second call
        changes nothing. Raises `OutputError` if a file cannot be written, unless one was raised
        before; the others are written nevertheless.
        """
        if self._results is None:
            self._events.stop()
            self._results = self._finish(status, error)
            if not self._events.told:
                self._events.check()
        return self._results

    # Done by the one thread that keeps the files.

    def _write(self) -> None:
        self._files.append_lines()
        self._show("running")
        self._files.replace_stats_if_due()

    def _show(self, status: Status, *, durable: bool = False) -> None:
        now = time.perf_counter()
        self.snapshot: Snapshot = self._tally.snapshot(
            status,
            begin=self._begin,
            now=now,
            start_time=iso(self._posix(self._begin)),
            last_update=iso(self._posix(now)),
            pid=os.getpid(),
            run=str(self.folder),
        )
        self._files.replace_progress(self.snapshot, durable=durable)

    def _finish(self, status: Status | None, error: str | None) -> dict[str, Any]:
        seconds = time.perf_counter() - self._begin
        self._events.do_all()
        tally, begin = self._tally, self._posix(self._begin)
        if status is None:
            in_order = not tally.failed and not tally.records_failed
            status = "completed" if in_order else "completed_with_errors"
        found = results(
            status, tally, begin=begin, seconds=seconds, folder=self.folder, error=error
        )
        self.log.info(last_line(found))
        self._events.do_all()
        trouble = None
        for write in (
            self._files.append_lines,
            partial(self._files.replace_stats, durable=True),
            partial(self._files.write_results, found),
            # The last, so that who sees here that it is over finds the others complete.
            partial(self._show, status, durable=True),
        ):
            try:
                write()
            except OutputError as error:
                trouble = trouble or error
        self._files.close(complete=trouble is None)
        if trouble is not None or isinstance(self._events.trouble, OutputError):
            self._events.trouble = trouble  # or none any more: all was written after all
        return found

    def _take_batch(self, stat: BatchStat, end: float) -> None:
        number = self._tally.batch(stat)
        self._files.add_batch(stat, end, number, self._tally.records)

    def _take_log(self, record: logging.LogRecord) -> None:
        self._events.add(partial(self._files.add_log, record))

    def _posix(self, moment: float) -> float:
        """The POSIX time of a moment of `time.perf_counter`."""
        return self._started.timestamp() + moment - self._begin


Deed = Callable[[], None]


class Ticking:
    """Does what was put, in order, then `tick`, every `seconds`, until it is stopped.

    What goes wrong in it is its `trouble` and ends it; `put` raises that, so that a worker learns
    that nobody listens any more.
    """

    def __init__(self, tick: Deed, *, seconds: float, most: int) -> None:
        self._tick = tick
        self._seconds = seconds
        self._most = most
        self._waiting: deque[Deed] = deque()
        self._room = Condition()
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="pgload-outputs", daemon=True)
        self.trouble: Exception | None = None
        self.told = False  # of the trouble

    def start(self) -> None:
        """Begin; what was put before is done first."""
        self._thread.start()

    def add(self, deed: Deed) -> None:
        """Leave something to do, at once and whatever may be wrong."""
        self._waiting.append(deed)

    def put(self, deed: Deed) -> None:
        """Leave something to do; wait while there is too much of it. Raises the trouble."""
        if len(self._waiting) >= self._most:
            with self._room:
                self._room.wait_for(self._has_room)
        self.check()
        self._waiting.append(deed)

    def check(self) -> None:
        """Raise the trouble, if there is one."""
        if self.trouble is not None:
            self.told = True
            raise self.trouble

    def stop(self) -> None:
        """Let the thread end. What is left to do, `do_all` does."""
        self._stopped.set()
        self._thread.join()
        self._make_room()

    def do_all(self) -> None:
        """Do what was put up to now; for one thread at a time."""
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.do_all()
                self._tick()
            except Exception as trouble:  # a bug, too, must not go unnoticed
                self.trouble = trouble
                return
            finally:
                self._make_room()

    def _has_room(self) -> bool:
        going = self.trouble is None and not self._stopped.is_set()
        return not going or len(self._waiting) < self._most

    def _make_room(self) -> None:
        with self._room:
            self._room.notify_all()
