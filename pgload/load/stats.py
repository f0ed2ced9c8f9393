"""What a load was: one `BatchStat` for each batch, one `LoadResult` for the whole."""

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
    """One committed batch. In seconds; `start` and `end` count from the load's beginning.

    A batch is encoded a little ahead, so it may wait for a worker between `encode` and `write`.
    """

    number: int
    file: str
    table: str
    first_record: int
    records: int
    bytes: int
    worker: int
    start: float  # of its encoding
    encode: float
    write: float
    commit: float  # 0 where the write carried the commit with it
    end: float  # when it was committed
    wait: float = 0.0  # of the worker, for this batch to be encoded
    encode_cpu: float = 0.0  # CPU time of the thread that encoded it
    write_cpu: float = 0.0  # of the worker, while it was written and committed
    attempts: int = 1
    rejected: int = 0  # records of the batch that were not written
    error: str | None = None  # why the attempt before the last one failed

    @property
    def seconds(self) -> float:
        """The batch's latency: encoding, writing and committing, without the wait in between."""
        return self.encode + self.write + self.commit


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One dataset, written once. `batches` are in the order in which they were handed out."""

    method: str
    connections: int
    started: datetime
    seconds: float
    begin: float  # on the clock of `time.perf_counter`
    cpu_seconds: float  # of this process, all its threads, user and system
    batches: Sequence[BatchStat]

    @property
    def records(self) -> int:
        """Records committed."""
        return sum(batch.records for batch in self.batches)

    @property
    def bytes(self) -> int:
        """Bytes of their JSON text."""
        return sum(batch.bytes for batch in self.batches)

    @property
    def end(self) -> float:
        """When it was done, on the clock of `time.perf_counter`."""
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
        """Seconds of `encode`, `write`, `wait`, … over all batches and connections."""
        return float(sum(getattr(batch, part) for batch in self.batches))


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max of the seconds of batches.

    Percentiles interpolate linearly between the batches (definition 7 of Hyndman and Fan, 1996).
    """
    seconds = sorted(seconds)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else None
    found = {f"p{p}": cuts[p - 1] if cuts else seconds[0] for p in PERCENTILES}
    return found | {"max": seconds[-1]}


def timeline(result: LoadResult, most: int = TIMELINE_BATCHES) -> dict[str, list[Any]]:
    """The batches of a load one after the other, as columns; seconds, to 0.1 ms.

    `start` is when a connection took a batch, from the load's beginning, and `seconds` what it then
    took to write and commit it. Of more than `most` batches each of as many equal stretches is told
    by its slowest one, so that no stall is lost.
    """
    batches = sorted(result.batches, key=lambda batch: batch.end)
    stretch = max(1, math.ceil(len(batches) / most))
    told = [
        max(batches[n : n + stretch], key=lambda batch: batch.write + batch.commit)
        for n in range(0, len(batches), stretch)
    ]
    seconds = [batch.write + batch.commit for batch in told]
    return {
        "start": [round(batch.end - took, 4) for batch, took in zip(told, seconds, strict=True)],
        "seconds": [round(took, 4) for took in seconds],
        "connection": [batch.worker for batch in told],
        "records": [batch.records for batch in told],
    }


def profile(result: LoadResult) -> dict[str, float]:
    """Seconds of one load by what they went into, each summed over its threads.

    `encode` is one thread's. `write`, `commit` and `wait` are the connections' and add
    up to the load's seconds times their number: `wait` is what they waited for an encoded batch.
    """
    write, commit = result.total("write"), result.total("commit")
    return {
        "encode": result.total("encode"),
        "write": write,
        "commit": commit,
        "wait": max(0.0, result.seconds * result.connections - write - commit),
    }
