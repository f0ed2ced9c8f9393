"""The content of a run's files. One thread at a time writes all of them but the rejects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pgload.contract import (
    BATCHES,
    LOG,
    PROGRESS,
    REJECTS,
    RESULTS,
    STATS,
    one_line,
    to_json,
)
from pgload.load.stats import BatchStat
from pgload.migrate.outputs.files import AppendFile, replace_file
from pgload.migrate.outputs.progress import FileState, RunFacts, Snapshot
from pgload.migrate.outputs.rejects import RejectFile

# Statistics grow to 40 MB, progress with thousands of files to 4 MB, and both are replaced as a
# whole. So the longer that takes, the longer until the next time: at most this share of the run.
STATS_SHARE = 0.01
PROGRESS_SHARE = 0.02
STATS_EVERY = 1.0  # seconds at least


class RunFiles:
    """The files in a run's directory. Every method may raise `OutputError`."""

    def __init__(self, run_dir: Path, facts: RunFacts) -> None:
        self._run_dir = run_dir
        self.facts = facts
        self.rejects = RejectFile(run_dir / REJECTS)
        self._log = AppendFile(run_dir / LOG)
        self._batches = AppendFile(run_dir / BATCHES)
        self._log_lines: list[str] = []
        self._batch_lines: list[bytes] = []
        self._format = logging.Formatter("%(asctime)s - %(levelname)s - %(message)s", _CLOCK)
        self._stats_size = -1
        self._stats_pace = Pace(STATS_SHARE, STATS_EVERY)
        self._progress_pace = Pace(PROGRESS_SHARE)

    def add_log(self, record: logging.LogRecord) -> None:
        """Add a line to the log; `append_lines` writes it."""
        self._log_lines.append(one_line(self._format.format(record)) + "\n")

    def add_batch(self, stat: BatchStat, end: float, number: int, cumulative: int) -> None:
        """Add a batch to the log and the statistics; `append_lines` writes it.

        `number` counts the run's batches in the order of their ends, `end` is a POSIX time, and
        `cumulative` the records committed up to and with this batch.
        """
        # Between encoding and writing a batch waits for a worker. Its duration leaves that out, and
        # its start is set so that duration and times agree.
        seconds = stat.seconds
        rate = stat.records / seconds if seconds else 0.0
        line = {
            "batch_number": number,
            "table_name": stat.table,
            "records_count": stat.records,
            "start_time": iso(end - seconds),
            "end_time": iso(end),
            "total_duration_seconds": round(seconds, 6),
            "records_per_second": round(rate, 3),
            "cumulative_records": cumulative,
            "file": stat.file,
            "first_record": stat.first_record,
            "rejects": stat.rejected,
            "bytes": stat.bytes,
            "worker": stat.worker,
            "method": self.facts.method,
            "encode_seconds": round(stat.encode, 6),
            "write_seconds": round(stat.write, 6),
            "commit_seconds": round(stat.commit, 6),
            "waited_seconds": round(max(stat.end - stat.start - seconds, 0.0), 6),
            "attempts": stat.attempts,
            "error": stat.error,
        }
        self._batch_lines.append(to_json(line) + b"\n")
        took = f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.3f}"
        text = f"{stat.records} records in {took}s ({rate:.1f} rec/s)"
        record = logging.LogRecord(
            "pgload", logging.INFO, "", 0, f"Batch {number} for {stat.table}: {text}", None, None
        )
        record.created = end
        self.add_log(record)

    def append_lines(self) -> None:
        """Write the lines that were added."""
        if self._batch_lines:
            self._batches.append(b"".join(self._batch_lines))
            self._batch_lines.clear()
        if self._log_lines:
            self._log.append("".join(self._log_lines).encode())
            self._log_lines.clear()

    def replace_progress_if_due(self, snapshot: Snapshot, files: Iterable[FileState]) -> None:
        """Write `migration_progress.json`, unless it was written just now; see `Pace`."""
        self._progress_pace.run(lambda: self.replace_progress(snapshot, files))

    def replace_progress(
        self, snapshot: Snapshot, files: Iterable[FileState], *, durable: bool = False
    ) -> None:
        """Write `migration_progress.json`."""
        content = msgspec.to_builtins(snapshot) | {"files": msgspec.to_builtins(list(files))}
        self._replace(PROGRESS, content, durable=durable)

    def replace_stats_if_due(self) -> None:
        """Write `migration_stats.json` if batches were added, unless it was written just now."""
        if self._batches.size != self._stats_size:
            self._stats_pace.run(self.replace_stats)

    def replace_stats(self, *, durable: bool = False) -> None:
        """Write `migration_stats.json`."""
        self._stats_size = self._batches.size
        replace_file(self._run_dir / STATS, self._stats(), durable=durable)

    def write_results(self, results: dict[str, Any]) -> None:
        """Write `migration_results.json`."""
        self._replace(RESULTS, results, durable=True)

    def close(self, *, complete: bool) -> None:
        """Close the files; remove `batches.jsonl` if the statistics are complete."""
        for file in (self.rejects, self._batches, self._log):
            file.close()
        if complete:
            with suppress(OSError):
                (self._run_dir / BATCHES).unlink()

    def _replace(self, name: str, content: dict[str, Any], *, durable: bool) -> None:
        replace_file(self._run_dir / name, [to_json(content, indent=2), b"\n"], durable=durable)

    def _stats(self) -> Iterator[bytes]:
        """The head of the statistics, and the lines of `batches.jsonl` with commas between them."""
        head = to_json(setting(self.facts), indent=2)
        yield head.removesuffix(b"\n}") + b',\n  "batches": ['
        before = b"\n"
        for piece in self._batches.read():
            yield before + piece.removesuffix(b"\n").replace(b"\n", b",\n")
            before = b",\n" if piece.endswith(b"\n") else b""
        yield b"\n  ]\n}\n"


class Pace:
    """Limits how often a file is written, so that this takes at most `share` of the run."""

    def __init__(self, share: float, at_least: float = 0.0) -> None:
        self._share = share
        self._at_least = at_least  # seconds between two times
        self._due = 0.0

    def run(self, write: Callable[[], None]) -> None:
        """Call `write` if it is due."""
        begin = time.perf_counter()
        if begin >= self._due:
            write()
            end = time.perf_counter()
            self._due = end + max(self._at_least, (end - begin) / self._share)


def setting(facts: RunFacts) -> dict[str, Any]:
    """The keys that statistics and results share: how the data was loaded, and where."""
    return {
        "batch_size": facts.batch_size,
        "num_connections": facts.num_connections,
        "cloud_provider": facts.cloud_provider,
        "instance_type": facts.instance_type,
        "method": facts.method,
    }


def iso(moment: float) -> str:
    """A POSIX time in ISO 8601: local time, as in the log, with its offset from UTC."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="microseconds")


def first_line(facts: RunFacts) -> str:
    """The first line of the log."""
    return (
        f"Migration {'resumed' if facts.resumed else 'started'}: {facts.total_files} files to "
        f"{facts.cloud_provider} by {facts.method}, batch size {facts.batch_size}, "
        f"{facts.num_connections} connections"
    )


_CLOCK = "%Y-%m-%d %H:%M:%S"
