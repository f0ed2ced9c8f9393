"""Statistics of a load: a `BatchStat` for each batch, a `LoadResult` for the whole."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

PERCENTILES = (50, 95, 99)
TIMELINE_BATCHES = 2000


@dataclass(frozen=True, slots=True)
class BatchStat:
    """One committed batch. Times are in seconds; `start` and `end` since the load's beginning.

    A batch is encoded a little ahead, so it may wait for a worker between `encode` and `write`.
    """

    number: int
    file: str
    table: str
    first_record: int
    records: int
    bytes: int  # of JSON text
    worker: int
    start: float  # of its encoding
    encode: float
    write: float
    commit: float  # 0 where the commit was part of the write
    end: float  # when it was committed
    wait: float = 0.0  # of the worker, for this encoded batch: since its last one, or the beginning
    encode_cpu: float = 0.0  # CPU time of the thread that encoded it
    write_cpu: float = 0.0  # CPU time of the worker while it was written and committed
    attempts: int = 1
    rejected: int = 0  # records of the batch that were not written
    error: str | None = None  # why the attempt before the last one failed

    @property
    def seconds(self) -> float:
        """The batch's latency: encoding, writing and committing, without the wait in between."""
        return self.encode + self.write + self.commit


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One load; `batches` are in the order in which they were encoded."""

    method: str
    connections: int
    started: datetime
    seconds: float
    begin: float  # on the clock of `time.perf_counter`
    cpu_seconds: float  # of this process: all its threads, user and system
    batches: Sequence[BatchStat]

    @property
    def records(self) -> int:
        """Records committed."""
        return sum(batch.records for batch in self.batches)

    @property
    def bytes(self) -> int:
        """Bytes of the JSON text of the batches."""
        return sum(batch.bytes for batch in self.batches)

    @property
    def end(self) -> float:
        """When the load ended, on the clock of `time.perf_counter`."""
        return self.begin + self.seconds

    @property
    def records_per_second(self) -> float:
        """Throughput over the whole load."""
        return self.records / self.seconds

    @property
    def cpu_share(self) -> float:
        """Client CPU seconds per second; 1.0 is one core, about all that Python code can use."""
        return self.cpu_seconds / self.seconds

    def total(self, part: str) -> float:
        """The sum over all batches of a field in seconds: `encode`, `write`, `wait`, …"""
        return float(sum(getattr(batch, part) for batch in self.batches))


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max of the latencies of batches, in the unit given.

    Percentiles interpolate linearly between the batches (definition 7 of Hyndman and Fan, 1996).
    """
    seconds = sorted(seconds)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else None
    found = {f"p{p}": cuts[p - 1] if cuts else seconds[0] for p in PERCENTILES}
    return found | {"max": seconds[-1]}


def profile(result: LoadResult) -> dict[str, float]:
    """The seconds of each part of a load, summed over its threads.

    `encode` is the time of the one encoding thread. `write`, `commit`, `wait` and `idle` are those
    of the workers, and add up to the load's seconds times the number of connections: `wait` is for
    an encoded batch, `idle` what remains, from a worker's last batch to the load's end.
    """
    parts = {name: result.total(name) for name in ("encode", "write", "commit", "wait")}
    working = parts["write"] + parts["commit"] + parts["wait"]
    return parts | {"idle": max(0.0, result.seconds * result.connections - working)}


def timeline(result: LoadResult, limit: int = TIMELINE_BATCHES) -> dict[str, list[Any]]:
    """The batches of a load in the order of their commits, as columns; seconds, to 0.1 ms.

    `seconds` is the latency of a batch: encoding, writing and committing it; `start` is that long
    before its commit, from the load's beginning. More than `limit` batches are downsampled: of each
    bucket of equal size the slowest batch is kept, so that no stall is lost.
    """
    batches = sorted(result.batches, key=lambda batch: batch.end)
    bucket = max(1, math.ceil(len(batches) / limit))
    kept = [
        max(batches[n : n + bucket], key=lambda batch: batch.seconds)
        for n in range(0, len(batches), bucket)
    ]
    return {
        "start": [round(batch.end - batch.seconds, 4) for batch in kept],
        "seconds": [round(batch.seconds, 4) for batch in kept],
        "connection": [batch.worker for batch in kept],
        "records": [batch.records for batch in kept],
    }
