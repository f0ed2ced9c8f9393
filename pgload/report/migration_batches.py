"""The batches of a migration: totals by file, table and worker, throughput, the slowest batches."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec

from pgload.contract import BATCHES, STATS

INTERVALS = 20  # of a run, each with its throughput
DOTS = 400  # batches in a chart
SLOWEST = 50
RETRIED = 500
FAILED = 200
EPOCH = datetime.fromtimestamp(0, UTC)

FileVersion = tuple[int, int]  # time of the last change in ns, size
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def file_version(path: Path) -> FileVersion | None:
    """What differs after every change of a file, so that it is read once; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class BatchLine(msgspec.Struct, frozen=True):
    """One batch, with the keys of its file; a missing number is 0."""

    batch_number: int = 0
    table_name: str = ""
    records_count: int = 0
    end_time: Moment = EPOCH
    total_duration_seconds: float = 0.0
    records_per_second: float = 0.0
    file: str = ""
    first_record: int = 0
    worker: int = 0
    encode_seconds: float = 0.0
    write_seconds: float = 0.0
    commit_seconds: float = 0.0
    waited_seconds: float = 0.0
    attempts: int = 1
    error: str | None = None

    @property
    def end(self) -> float:
        """A POSIX time."""
        return self.end_time.timestamp()


class _Stats(msgspec.Struct, frozen=True):
    batches: list[BatchLine] = []


@dataclass
class Total:
    """The batches of one table or worker, or of the whole run."""

    records: int = 0
    batches: int = 0
    retried: int = 0  # batches with more than one attempt
    seconds: float = 0.0  # in batches, summed over connections
    encode: float = 0.0
    write: float = 0.0
    commit: float = 0.0
    first: float = float("inf")  # POSIX time at which the first batch began
    last: float = 0.0  # POSIX time at which the last batch ended

    def add(self, batch: BatchLine, end: float) -> None:
        """Count a batch that ended at that POSIX time."""
        self.records += batch.records_count
        self.batches += 1
        self.retried += batch.attempts > 1
        self.seconds += batch.total_duration_seconds
        self.encode += batch.encode_seconds
        self.write += batch.write_seconds
        self.commit += batch.commit_seconds
        self.first = min(self.first, end - batch.total_duration_seconds)
        self.last = max(self.last, end)

    @property
    def in_parts(self) -> float:
        """Seconds that were encoding, writing or committing."""
        return self.encode + self.write + self.commit

    @property
    def rate(self) -> float:
        """Records per second from the first batch to the last."""
        return self.records / (self.last - self.first) if self.last > self.first else 0.0


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """All that is shown of a run's batches. Times are seconds since the first batch began."""

    whole: Total = field(default_factory=Total)
    tables: Mapping[str, Total] = field(default_factory=dict)
    workers: Mapping[int, Total] = field(default_factory=dict)
    throughput: Sequence[tuple[float, float, float]] = ()  # begin, end, records per second
    drawn: Sequence[tuple[float, BatchLine]] = ()  # end, the slowest batch of an interval
    slowest: Sequence[BatchLine] = ()
    retried: Sequence[BatchLine] = ()
    failed: Sequence[BatchLine] = ()  # with an error
    waited: float = 0.0  # seconds that encoded batches waited for a connection, summed
    latency: Mapping[str, float] = field(default_factory=dict)  # p50, p95, p99, max, in seconds
    broken: int = 0  # lines that cannot be read


def read_batch_summary(folder: Path) -> tuple[BatchSummary, str | None]:
    """The batches of the run in `folder`, none without a file; and why its file cannot be read.

    In a run that has not ended, or was killed, `batches.jsonl` is more recent than the statistics,
    which are made from it.
    """
    for name in (BATCHES, STATS):
        path = folder / name
        version = file_version(path)
        if version is None:
            continue
        try:
            return _read(path, version), None
        except FileNotFoundError:  # the run has just ended: its statistics are there
            continue
        except OSError as error:
            return BatchSummary(), f"{name}: {error.strerror}"
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            return BatchSummary(), f"{name}: {error}"
    return BatchSummary(), None


@lru_cache(maxsize=16)
def _read(path: Path, _version: FileVersion) -> BatchSummary:
    content = path.read_bytes()
    if path.name == STATS:
        return summarise(msgspec.json.decode(content, type=_Stats, strict=False).batches)
    batches, broken = [], 0
    decode = msgspec.json.Decoder(BatchLine, strict=False).decode
    complete, _, _ = content.rpartition(b"\n")  # the last line may be half written
    for line in complete.splitlines():
        try:
            batches.append(decode(line))
        except ValueError:
            broken += 1
    return summarise(batches, broken)


def summarise(batches: Sequence[BatchLine], broken: int = 0) -> BatchSummary:
    """The summary of batches in any order."""
    if not batches:
        return BatchSummary(broken=broken)
    ended = [(batch.end, batch) for batch in batches]
    ended.sort(key=lambda each: each[0])
    whole = Total()
    tables: defaultdict[str, Total] = defaultdict(Total)
    workers: defaultdict[int, Total] = defaultdict(Total)
    for end, batch in ended:
        for total in (whole, tables[batch.table_name], workers[batch.worker]):
            total.add(batch, end)
    return BatchSummary(
        whole=whole,
        tables=dict(sorted(tables.items())),
        workers=dict(sorted(workers.items())),
        throughput=_throughput(ended, whole),
        drawn=[(end - whole.first, batch) for end, batch in _slowest_of_intervals(ended)],
        slowest=heapq.nlargest(SLOWEST, batches, key=lambda batch: batch.total_duration_seconds),
        retried=[batch for _, batch in ended if batch.attempts > 1][:RETRIED],
        failed=[batch for _, batch in ended if batch.error][:FAILED],
        waited=sum(batch.waited_seconds for batch in batches),
        latency=_latency([batch.total_duration_seconds for batch in batches]),
        broken=broken,
    )


def _throughput(
    ended: Sequence[tuple[float, BatchLine]], whole: Total
) -> list[tuple[float, float, float]]:
    """Records committed per second, in intervals of equal length."""
    width = (whole.last - whole.first) / INTERVALS
    if width <= 0:
        return []
    records = [0] * INTERVALS
    for end, batch in ended:
        records[min(int((end - whole.first) / width), INTERVALS - 1)] += batch.records_count
    return [(n * width, (n + 1) * width, count / width) for n, count in enumerate(records)]


def _slowest_of_intervals(
    ended: Sequence[tuple[float, BatchLine]],
) -> Iterable[tuple[float, BatchLine]]:
    """At most `DOTS` batches: of more, the slowest of each interval, since outliers matter."""
    length = -(-len(ended) // DOTS)
    for low in range(0, len(ended), length):
        yield max(ended[low : low + length], key=lambda each: each[1].total_duration_seconds)


def _latency(seconds: list[float]) -> dict[str, float]:
    seconds.sort()
    last = len(seconds) - 1
    return {f"p{p}": seconds[round(last * p / 100)] for p in (50, 95, 99)} | {"max": seconds[-1]}
