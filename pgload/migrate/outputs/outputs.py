"""The files of a run, written by one thread from a queue of events.

Workers only put events into the queue. The thread takes them out a few times a second, counts them,
appends lines to the log and to `batches.jsonl`, and replaces the progress file. So a batch costs
its worker a few microseconds, and a reader never sees half a file.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from pgload.contract import Status
from pgload.errors import OutputError
from pgload.load.stats import BatchStat
from pgload.migrate.counts import RowCounts
from pgload.migrate.ledger.entries import BatchKey
from pgload.migrate.options import KEEP_RUNS
from pgload.migrate.outputs.held_rejects import HeldRejects
from pgload.migrate.outputs.progress import FileFacts, RunFacts, Snapshot, Tally
from pgload.migrate.outputs.rejects import Reject
from pgload.migrate.outputs.results import last_line, results
from pgload.migrate.outputs.run_dir import link_as_latest, make_run_dir, prune
from pgload.migrate.outputs.run_files import RunFiles, first_line, iso

TICK = 0.25  # seconds between two replacements of the progress file
MAX_EVENTS = 10_000  # in the queue; while a disk hangs, the workers wait


class Outputs:
    """Keeps a run's files from `with` to `finish`, however the run ends.

        with Outputs(Path("migration_outputs"), facts) as out:
            out.files_planned([FileFacts("a.json", "a")])
            out.file_started(FileFacts("a.json", "a"))
            out.load_started()
            out.batch(stat)  # by the workers
            out.file_finished("a.json")
            out.finish("completed")

    Raises `OutputError` at the start where nothing can be written, and later from `batch`,
    `reject` and `finish`: a migration whose files cannot be written has to stop. Left by an
    exception, it finishes the run as `failed`, by Ctrl-C as `interrupted`.

    `snapshot` is the run's state at the last tick, `run_dir` the run's own directory, `log` a
    logger for its log; all methods may be called from any thread. `command_started` is the POSIX
    time from which `wall_seconds` count, instead of the run's begin.
    """

    def __init__(
        self,
        output_dir: Path,
        facts: RunFacts,
        *,
        keep_runs: int = KEEP_RUNS,
        command_started: float | None = None,
    ) -> None:
        self._output_dir = output_dir.absolute()  # the process may change its directory
        self._facts = facts
        self._keep_runs = keep_runs
        self._command_started = command_started
        self._tally = Tally(facts)
        self._events: Queue[Callable[[], object] | logging.LogRecord] = Queue(MAX_EVENTS)
        self._waiting: list[Event] = []  # to be set when the snapshot has all events before them
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="pgload-outputs", daemon=True)
        self._error: Exception | None = None  # why the files cannot be written
        self._error_raised = False
        self.verification: dict[str, Any] = {"verified": None}  # keys of the results
        self._results: dict[str, Any] | None = None
        # Outside logging's tree, so that other loggers' settings do not apply.
        self.log = logging.Logger("pgload.migration", logging.INFO)

    def __enter__(self) -> Self:
        self._started, self._begin = datetime.now(UTC), time.perf_counter()
        self._load_began = self._begin
        self._load: tuple[float, float | None] | None = None  # its begin and end
        self._tally.connections = [("waiting", self._begin)] * self._facts.num_connections
        self.run_dir = make_run_dir(self._output_dir, self._started)
        self._files = RunFiles(self.run_dir, self._facts)
        self._held = HeldRejects(self.run_dir)
        self.log.addHandler(_QueueHandler(self._events))
        try:
            self.log.info(first_line(self._facts))
            self._take_events()
            self._write()
            link_as_latest(self.run_dir)
            prune(self.run_dir.parent, self._keep_runs)
            self._thread.start()
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
            with suppress(OutputError):  # `error` is the one to report
                self.finish("failed" if isinstance(error, Exception) else "interrupted")

    # Events. They are in the files within a tick.

    def correct_facts(self, **changes: Any) -> None:
        """Replace fields of the run's facts, before the first batch."""
        self._facts = self._tally.facts = self._files.facts = replace(self._facts, **changes)

    def files_planned(self, files: Iterable[FileFacts]) -> None:
        """The files that will be loaded: they are `pending` until `file_started`."""
        self._events.put(partial(self._tally.files_planned, list(files)))

    def load_started(self, started: datetime | None = None) -> None:
        """The times of a `BatchStat` count from `started`, or from this moment."""
        now = datetime.now(UTC) if started is None else started
        self._load_began = self._begin + (now - self._started).total_seconds()
        self._load = self._load_began, None

    def load_finished(self) -> None:
        """The last batch is committed, for now."""
        self._load = self._load_began, time.perf_counter()

    def catch_up(self) -> None:
        """Wait, for a second at most, until all events so far are in `snapshot`."""
        counted = Event()
        self._events.put(lambda: self._waiting.append(counted))
        counted.wait(4 * TICK)

    def file_started(self, file: FileFacts) -> None:
        """A file is begun."""
        self._events.put(partial(self._tally.file_started, file))
        before = file.records_before
        committed = f"; {before} of its records are committed already" if before else ""
        if file.table:
            self.log.info(f"{file.name}: loading into {file.table}{committed}")

    def file_finished(self, name: str, error: str | None = None) -> None:
        """All batches of a file were reported; `error` is why it ended early."""
        self._events.put(partial(self._tally.file_finished, name, error))
        if error is None:
            self.log.info(f"{name}: completed")
        else:
            self.log.error(f"{name}: failed: {error}")

    def batch(self, stat: BatchStat) -> None:
        """A batch is committed: `records` of it, while `rejected` are in the rejects."""
        self._raise_error()
        end = self._posix(self._load_began + stat.end)
        self._events.put(partial(self._count_batch, stat, end))

    def hold_rejects(self, worker: int, batch: BatchKey | None, rejects: Sequence[Reject]) -> None:
        """Keep records that cannot be written, instead of those that the worker has held before.

        Called before the batch is committed: they are on the disk when this returns, so that a
        killed run has lost none of them. `batch` is None without a ledger.
        """
        self._raise_error()
        self._held.hold(worker, batch, rejects)

    def confirm_rejects(self, worker: int) -> None:
        """The batch is committed whose rejects the worker holds: they go to `rejects.jsonl`."""
        self.reject(self._held.get(worker))
        self._held.drop(worker)

    def drop_rejects(self, worker: int) -> None:
        """The batch was not committed whose rejects the worker holds, if it holds any."""
        self._held.drop(worker)

    def reject(self, rejects: Sequence[Reject]) -> None:
        """Records of a committed batch were not written."""
        self._raise_error()
        self._files.rejects.write(rejects)
        if rejects:
            first = rejects[0]
            self._events.put(partial(self._tally.reject, first.file, first.table, len(rejects)))
            more = f" and {len(rejects) - 1} more" if len(rejects) > 1 else ""
            self.log.warning(
                f"Rejected: {first.file}, record {first.record}{more}: {first.message}"
            )

    def count_rows(self, file: str, table: str, counts: RowCounts) -> None:
        """Records of a batch that is about to be reported were skipped, updated or suppressed."""
        self._events.put(partial(self._tally.count_rows, file, table, counts))

    def records_lost(self, file: str, table: str, records: int, counts: RowCounts) -> None:
        """Committed batches of a file were lost in a crash, and will be written again.

        `records` and `counts` are of those batches of this run that are still there.
        """
        self._events.put(partial(self._tally.records_lost, file, table, records, counts))

    def written_by_others(self, file: str, records: int, not_written: int, rejects: int) -> None:
        """A migration that ran at the same time has committed batches of a file."""
        counts = (records, not_written, rejects)
        self._events.put(partial(self._tally.written_by_others, file, *counts))

    def retry(self, worker: int, reason: str) -> None:
        """A batch is retried."""
        self._events.put(self._tally.retry)
        self.log.warning(f"Connection {worker} retries: {reason}")

    def connection_state(self, worker: int, state: str) -> None:
        """What connection `worker`, counted from 0, does from now on."""
        self._tally.connections[worker] = (state, time.perf_counter())

    def finish(self, status: Status | None = None, error: str | None = None) -> dict[str, Any]:
        """Write all files for the last time; returns the content of `migration_results.json`.

        Without a status the run is completed, with errors if there were any; `error` is why it
        ended early. A second call changes nothing. Raises `OutputError` if a file cannot be
        written, unless an error was raised before; the other files are written nevertheless.
        """
        if self._results is None:
            self._stopped.set()
            self._thread.join()
            self._results = self._write_all(status, error)
            if not self._error_raised:
                self._raise_error()
        return self._results

    def _raise_error(self) -> None:
        if self._error is not None:
            self._error_raised = True
            raise self._error

    def _posix(self, moment: float) -> float:
        """The POSIX time of a moment of `time.perf_counter`."""
        return self._started.timestamp() + moment - self._begin

    # Run by one thread: the one below, and before and after it the one that owns the `Outputs`.

    def _run(self) -> None:
        while not self._stopped.wait(TICK):
            try:
                self._take_events()
                if self._error is None:
                    self._write()
            except Exception as error:  # a bug has to stop the migration, too
                # From now on events are only counted, so that nobody waits for room in the queue.
                self._error = self._error or error

    def _take_events(self) -> None:
        """Count the events that are in the queue."""
        with suppress(Empty):
            for _ in range(MAX_EVENTS):
                event = self._events.get_nowait()
                if isinstance(event, logging.LogRecord):
                    self._files.add_log(event)
                else:
                    event()

    def _count_batch(self, stat: BatchStat, end: float) -> None:
        number = self._tally.batch(stat)
        self._files.add_batch(stat, end, number, self._tally.records)

    def _write(self) -> None:
        self._files.append_lines()
        snapshot = self._make_snapshot("running")
        self._files.replace_progress_if_due(snapshot, self._tally.files.values())
        self._files.replace_stats_if_due()
        self.snapshot = snapshot
        while self._waiting:
            self._waiting.pop().set()

    def _make_snapshot(self, status: Status, now: float | None = None) -> Snapshot:
        now = time.perf_counter() if now is None else now
        return self._tally.snapshot(
            status,
            begin=self._begin,
            now=now,
            start_time=iso(self._posix(self._begin)),
            last_update=iso(self._posix(now)),
            pid=os.getpid(),
            run=str(self.run_dir),
        )

    def _write_all(self, status: Status | None, error: str | None) -> dict[str, Any]:
        """Write every file for the last time, even if one of them fails; returns the results."""
        seconds = time.perf_counter() - self._begin
        self._take_events()
        tally = self._tally
        tally.run_ended()
        end = self._begin + seconds  # one duration, and one average, on the screen and in the files
        if status is None:
            bad = tally.failed or tally.rejects or self.verification["verified"] is False
            status = "completed_with_errors" if bad else "completed"
        load_began, load_ended = self._load or (end, end)
        began = self._posix(self._begin)
        content = results(
            status,
            tally,
            begin=began,
            seconds=seconds,
            load_seconds=(end if load_ended is None else load_ended) - load_began,
            wall_seconds=began - (self._command_started or began) + seconds,
            run_dir=self.run_dir,
            error=error,
        )
        content |= self.verification
        self.log.info(last_line(content))
        self._take_events()
        self.snapshot = self._make_snapshot(status, end)
        files = tally.files.values()
        output_error: OutputError | None = None
        for write in (
            self._files.append_lines,
            partial(self._files.replace_stats, durable=True),
            partial(self._files.write_results, content),
            # Last, so that who reads here that the run has ended finds the other files complete.
            partial(self._files.replace_progress, self.snapshot, files, durable=True),
        ):
            try:
                write()
            except OutputError as failure:
                output_error = output_error or failure
        self._files.close(complete=output_error is None)
        if output_error is not None or isinstance(self._error, OutputError):
            self._error = output_error  # None: a write that failed before has succeeded now
        return content


class _QueueHandler(QueueHandler):
    """Puts log records into a bounded queue, waiting where it is full."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.put(record)  # type: ignore[attr-defined]
