"""The batches of a migration, read once into what is shown of them: sums, and the slowest."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec

from pgload.contract import BATCHES, STATS
from pgload.report.watch import Stamp, stamp_of, text

STRETCHES = 20  # of a run, each with its throughput
DOTS = 400  # batches that are drawn, each the slowest of its stretch
SLOWEST = 50
RETRIED = 500
EPOCH = datetime.fromtimestamp(0, UTC)


class BatchLine(msgspec.Struct):
    """One batch, by the keys of its file; what an older file or another tool leaves out is 0."""

    batch_number: int = 0
    table_name: str = ""
    records_count: int = 0
    end_time: datetime = EPOCH
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


class _Stats(msgspec.Struct):
    batches: list[BatchLine] = []


@dataclass
class Total:
    """The batches of one file, table or worker."""

    table: str = ""
    records: int = 0
    batches: int = 0
    retried: int = 0  # batches that were tried more than once
    seconds: float = 0.0  # in batches, so summed over connections
    encode: float = 0.0
    write: float = 0.0
    commit: float = 0.0
    first: float = float("inf")  # POSIX times of the first batch's begin and the last one's end
    last: float = 0.0

    def add(self, batch: BatchLine, end: float) -> None:
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
    def rate(self) -> float:
        """Records a second from its first batch to its last."""
        return self.records / (self.last - self.first) if self.last > self.first else 0.0


@dataclass(frozen=True)
class Summary:
    """All that is shown of a run's batches. Seconds count from the first batch's begin."""

    whole: Total = field(default_factory=Total)
    files: Mapping[str, Total] = field(default_factory=dict)
    tables: Mapping[str, Total] = field(default_factory=dict)
    workers: Mapping[int, Total] = field(default_factory=dict)
    throughput: Sequence[tuple[float, float, float]] = ()  # begin and end of a stretch, records/s
    outline: Sequence[tuple[float, BatchLine]] = ()  # end → the slowest of a stretch
    slowest: Sequence[BatchLine] = ()
    retried: Sequence[BatchLine] = ()
    waited: float = 0.0  # seconds that encoded batches waited for a connection, summed
    latency: Mapping[str, float] = field(default_factory=dict)  # p50 … max → seconds
    broken: int = 0  # lines that could not be read


def read_summary(folder: Path) -> tuple[Summary, str | None]:
    """The batches of the run in `folder`, none where there is no file; and what stood in the way.

    While a run goes on, and after one that was killed, `batches.jsonl` knows more than the
    statistics, which are made of it from time to time.
    """
    for name in (BATCHES, STATS):
        path = folder / name
        stamp = stamp_of(path)
        if stamp is None:
            continue
        try:
            return _summary(path, stamp), None
        except FileNotFoundError:  # the run has just ended: its statistics are there
            continue
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            return Summary(), f"{name}: {text(error)}"
    return Summary(), None


@lru_cache(maxsize=4)
def _summary(path: Path, _stamp: Stamp) -> Summary:
    content = path.read_bytes()
    if path.name == STATS:
        return summarise(msgspec.json.decode(content, type=_Stats, strict=False).batches)
    batches, broken = [], 0
    decode = msgspec.json.Decoder(BatchLine, strict=False).decode
    whole, _, _ = content.rpartition(b"\n")  # a last line without an end is being written
    for line in whole.splitlines():
        try:
            batches.append(decode(line))
        except ValueError:
            broken += 1
    return summarise(batches, broken)


def summarise(batches: Sequence[BatchLine], broken: int = 0) -> Summary:
    """Sums over the batches, in the order in which they ended."""
    if not batches:
        return Summary(broken=broken)
    ended = [(batch.end, batch) for batch in batches]
    ended.sort(key=lambda each: each[0])
    whole = Total()
    files: dict[str, Total] = {}
    tables: dict[str, Total] = {}
    workers: dict[int, Total] = {}
    for end, batch in ended:
        whole.add(batch, end)
        for totals, key in ((files, batch.file), (tables, batch.table_name)):
            if key not in totals:
                totals[key] = Total(batch.table_name)
            totals[key].add(batch, end)
        if batch.worker not in workers:
            workers[batch.worker] = Total()
        workers[batch.worker].add(batch, end)
    return Summary(
        whole,
        files,
        dict(sorted(tables.items())),
        dict(sorted(workers.items())),
        _throughput(ended, whole),
        [(end - whole.first, batch) for end, batch in _outline(ended)],
        heapq.nlargest(SLOWEST, batches, key=lambda batch: batch.total_duration_seconds),
        [batch for _, batch in ended if batch.attempts > 1][:RETRIED],
        sum(batch.waited_seconds for batch in batches),
        _latency([batch.total_duration_seconds for batch in batches]),
        broken,
    )


def _throughput(
    ended: Sequence[tuple[float, BatchLine]], whole: Total
) -> list[tuple[float, float, float]]:
    """Records committed within equal stretches of the run, a second."""
    width = (whole.last - whole.first) / STRETCHES
    if width <= 0:
        return []
    records = [0] * STRETCHES
    for end, batch in ended:
        records[min(int((end - whole.first) / width), STRETCHES - 1)] += batch.records_count
    return [(n * width, (n + 1) * width, count / width) for n, count in enumerate(records)]


def _outline(ended: Sequence[tuple[float, BatchLine]]) -> Iterable[tuple[float, BatchLine]]:
    """Of many batches the slowest of each stretch: what is looked for is the one that waited."""
    stretch = -(-len(ended) // DOTS)
    for low in range(0, len(ended), stretch):
        yield max(ended[low : low + stretch], key=lambda each: each[1].total_duration_seconds)


def _latency(seconds: list[float]) -> dict[str, float]:
    seconds.sort()
    last = len(seconds) - 1
    return {f"p{p}": seconds[round(last * p / 100)] for p in (50, 95, 99)} | {"max": seconds[-1]}
