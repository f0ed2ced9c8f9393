"""What stands in the files of a run. One thread at a time writes them, see `outputs.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pgload.contract import BATCHES, LOG, PROGRESS, REJECTS, RESULTS, STATS, one_line, to_json
from pgload.load.stats import BatchStat
from pgload.migrate.progress import RunFacts, Snapshot, Status, Tally
from pgload.migrate.run_dir import AppendFile, replace_file

# The statistics grow to 40 MB, and each time they are written as a whole. At most this share of the
# run goes into that: the longer it takes, the longer until the next time.
STATS_SHARE = 0.01


class RunFiles:
    """The files in a run's folder. Every method may raise `OutputError`."""

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        self._folder = folder
        self._facts = facts
        self.rejects = RejectFile(folder / REJECTS)
        self._log = AppendFile(folder / LOG)
        self._batches = AppendFile(folder / BATCHES)
        self._log_lines: list[str] = []
        self._batch_lines: list[bytes] = []
        self._format = logging.Formatter("%(asctime)s - %(levelname)s - %(message)s", _CLOCK)
        self._stats_size = -1
        self._stats_due = 0.0

    def add_log(self, record: logging.LogRecord) -> None:
        """A line of the log."""
        self._log_lines.append(one_line(self._format.format(record)) + "\n")

    def add_batch(self, stat: BatchStat, end: float, number: int, cumulative: int) -> None:
        """A batch, the `number`th to end, with so many records committed up to and with it.

        `end` is a POSIX time.
        """
        # A batch has waited between its encoding and its writing. Its time is without that, as
        # if it had been encoded right before, so that duration and times agree.
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
            "records_failed": stat.rejected,
            "bytes": stat.bytes,
            "worker": stat.worker,
            "method": self._facts.method,
            "encode_seconds": round(stat.encode, 6),
            "write_seconds": round(stat.write, 6),
            "commit_seconds": round(stat.commit, 6),
            "waited_seconds": round(max(stat.end - stat.start - seconds, 0.0), 6),
            "attempts": stat.attempts,
            "error": stat.error,
        }
        self._batch_lines.append(to_json(line) + b"\n")
        took = f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.3f}"
        said = f"{stat.records} records in {took}s ({rate:.1f} rec/s)"
        self.add_log(_record(logging.INFO, f"Batch {number} for {stat.table}: {said}", end))

    def append_lines(self) -> None:
        """Write what was added."""
        if self._batch_lines:
            self._batches.append(b"".join(self._batch_lines))
            self._batch_lines.clear()
        if self._log_lines:
            self._log.append("".join(self._log_lines).encode())
            self._log_lines.clear()

    def replace_progress(self, snapshot: Snapshot, *, durable: bool = False) -> None:
        """Write `migration_progress.json`."""
        content = to_json(asdict(snapshot), indent=2) + b"\n"
        replace_file(self._folder / PROGRESS, [content], durable=durable)

    def replace_stats_if_due(self) -> None:
        """Write `migration_stats.json` when there is something new, and not too often."""
        begin = time.perf_counter()
        if begin >= self._stats_due and self._batches.size != self._stats_size:
            self.replace_stats()
            end = time.perf_counter()
            self._stats_due = end + max(1.0, (end - begin) / STATS_SHARE)

    def replace_stats(self, *, durable: bool = False) -> None:
        """Write `migration_stats.json`."""
        self._stats_size = self._batches.size
        replace_file(self._folder / STATS, self._stats(), durable=durable)

    def write_results(self, results: dict[str, Any]) -> None:
        """Write `migration_results.json`."""
        content = to_json(results, indent=2) + b"\n"
        replace_file(self._folder / RESULTS, [content], durable=True)

    def close(self, *, complete: bool) -> None:
        """No more writing. `batches.jsonl` goes if the statistics are complete."""
        for file in (self.rejects, self._batches, self._log):
            file.close()
        if complete:
            with suppress(OSError):
                (self._folder / BATCHES).unlink()

    def _stats(self) -> Iterator[bytes]:
        """The statistics' head, and the lines of `batches.jsonl` with commas between them."""
        yield to_json(setting(self._facts), indent=2).removesuffix(b"\n}") + b',\n  "batches": ['
        before = b"\n"
        for piece in self._batches.read():
            yield before + piece.removesuffix(b"\n").replace(b"\n", b",\n")
            before = b",\n" if piece.endswith(b"\n") else b""
        yield b"\n  ]\n}\n"


def results(
    status: Status,
    tally: Tally,
    *,
    begin: float,
    seconds: float,
    folder: Path,
    error: str | None,
) -> dict[str, Any]:
    """The content of `migration_results.json`; `begin` is a POSIX time.

    Records and their rate are those of this run. What an earlier one did is in `records_before`.
    """
    return {
        "status": status,
        **setting(tally.facts),
        "total_files": tally.facts.total_files,
        "successful": tally.completed,  # files with every record in its table
        "failed": tally.failed,
        "total_records": tally.records,
        "total_duration_seconds": round(seconds, 6),
        "average_records_per_second": round(tally.records / seconds, 3) if seconds else 0.0,
        "start_time": iso(begin),
        "completion_time": iso(begin + seconds),
        "resumed": tally.facts.resumed,
        "records_before": tally.records_before,
        "records_failed": tally.records_failed,
        "rejects": tally.rejects,
        "retries": tally.retries,
        "batches": tally.batches,
        "error": error,  # why it ended early
        "run": str(folder),
        "files": [asdict(file) for file in tally.files.values()],
        "tables": [asdict(table) for table in tally.tables.values()],
    }


def setting(facts: RunFacts) -> dict[str, Any]:
    """How and where was loaded, as every file has it."""
    return {
        "batch_size": facts.batch_size,
        "num_connections": facts.num_connections,
        "cloud_provider": facts.cloud_provider,
        "instance_type": facts.instance_type,
        "method": facts.method,
    }


def iso(moment: float) -> str:
    """A POSIX time in ISO 8601: local, as in the log, with its distance from UTC."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="microseconds")


def first_line(facts: RunFacts) -> str:
    """What the log begins with."""
    return (
        f"Migration {'resumed' if facts.resumed else 'started'}: {facts.total_files} files to "
        f"{facts.cloud_provider} by {facts.method}, batch size {facts.batch_size}, "
        f"{facts.num_connections} connections"
    )


def last_line(results: dict[str, Any]) -> str:
    """What the log ends with."""
    return (
        f"Migration {results['status'].replace('_', ' ')}: {results['total_records']} records in "
        f"{results['total_duration_seconds']:.1f}s "
        f"({results['average_records_per_second']:.1f} rec/s), {results['records_failed']} failed"
    )


class LogHandler(logging.Handler):
    """Gives what is logged to `take`."""

    def __init__(self, take: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._take(record)


_CLOCK = "%Y-%m-%d %H:%M:%S"


def _record(level: int, text: str, when: float) -> logging.LogRecord:
    record = logging.LogRecord("pgload", level, "", 0, text, None, None)
    record.created = when
    return record


_any_json = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that the server, or pgload, did not take."""

    file: str
    record: int  # its number in the file, from 1
    offset: int | None  # of its first byte in the file; None where that is not known
    table: str
    column: str | None  # None where the server names none
    sqlstate: str | None  # None where the record did not come as far as the server
    message: str
    data: bytes | msgspec.Raw  # its JSON text


class RejectFile:
    """`rejects.jsonl`: one line for each reject, its keys those of `Reject`.

    `data` is the record itself, so that `jq -c .data rejects.jsonl` gives a file of records to mend
    and to migrate again. Text that is no JSON is kept as a string, under `text` instead.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendFile(path)

    def write(self, rejects: Iterable[Reject]) -> None:
        """Write the rejects of a batch; they are on the disk when it returns.

        So none is lost, if this is done before the batch is committed. May be called from any
        thread. Raises `OutputError`, after which none of them is in the file.
        """
        self._file.append(b"".join(map(_line, rejects)), durable=True)

    def close(self) -> None:
        """No more rejects."""
        self._file.close()


def _line(reject: Reject) -> bytes:
    facts = {
        name: getattr(reject, name)
        for name in ("file", "record", "offset", "table", "column", "sqlstate", "message")
    }
    data = bytes(reject.data)
    try:
        _any_json.decode(data)
    except (ValueError, RecursionError):
        return to_json(facts | {"text": data.decode("utf-8", "backslashreplace")}) + b"\n"
    # The text as it is, since a number may lose digits on its way through Python. Its line breaks
    # are between its tokens, where a space does as well.
    one_line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return to_json(facts)[:-1] + b', "data": ' + one_line + b"}\n"
