"""One measured load: a benchmark of the saved JSON as a `Measurement`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgload.errors import SourceError

PARTS = ("read", "encode", "write", "commit", "wait")  # where the time of a load goes
BOTTLENECKS = ("client", "network", "server_cpu", "wal", "io", "locks")
LOAD_PARAMS = ("cloud", "method", "batch_size", "connections")


@dataclass(frozen=True, order=True)
class Setting:
    """How a load was written; settings sort by method, then batch size, then connections."""

    method: str
    batch_size: int
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.method}, batch size {self.batch_size:,}, "
            f"{self.connections:,} connection{'s' if self.connections > 1 else ''}"
        )


@dataclass(frozen=True, order=True)
class Dataset:
    """What was loaded. Loads of different datasets are never set side by side."""

    records: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.records:,} records, {self.bytes / 1e6:,.1f} MB"


@dataclass(frozen=True)
class Latency:
    """Percentiles of the time that one batch took, in seconds."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Measurement:
    """What one cloud did with one setting and one dataset in one run."""

    cloud: str
    setting: Setting
    dataset: Dataset
    rounds: tuple[float, ...]  # seconds that each timed load took
    latency: Latency
    cpu_share: float  # client CPU seconds per second of load; 1.0 is one core kept busy
    encode: float  # seconds of a load, summed over its workers, as are the next two
    write: float
    commit: float
    rtt_ms: float | None  # None, here and below: could not be measured
    wal_bytes_per_record: float | None
    retries: int
    source: str  # the file, for messages
    # The rounds by pass; a setting that several tests measured has the passes of all of them.
    # One pass where none were saved. What follows is empty or None in older files.
    passes: tuple[tuple[float, ...], ...] = ()
    profile: Mapping[str, float] = field(default_factory=dict)  # part → seconds, as in PARTS
    bottleneck: str | None = None  # one of BOTTLENECKS: what held the load back most
    bottleneck_shares: Mapping[str, float] = field(default_factory=dict)  # sum about 1
    advice: str | None = None  # an English sentence, as is the next
    unstable: str | None = None  # why the number is not stable

    @property
    def throughput(self) -> float:
        """Records per second of the median round."""
        return self.dataset.records / statistics.median(self.rounds)

    @property
    def throughput_min(self) -> float:
        """Records per second of the slowest round."""
        return self.dataset.records / max(self.rounds)

    @property
    def throughput_max(self) -> float:
        """Records per second of the fastest round."""
        return self.dataset.records / min(self.rounds)


def is_load(benchmark: Mapping[str, Any]) -> bool:
    """Whether a saved benchmark is a load: its parameters name a cloud and a setting."""
    params = benchmark.get("params")
    return isinstance(params, dict) and all(name in params for name in LOAD_PARAMS)


def measurement(benchmark: Mapping[str, Any], source: str) -> Measurement:
    """One benchmark of the saved JSON's shape for which `is_load` holds, as a measurement.

    `source` says where it stands, for messages; a file's path, mostly.

    Raises `SourceError` with the reason, but not the benchmark's name, when the load was not
    verified or something that a report needs is missing or is no number.
    """
    params, extra = benchmark["params"], benchmark.get("extra_info", {})
    if _at(extra, "verified") is not True:
        raise SourceError("its rows were not verified, so it has no result; run it again")
    rounds = _at(benchmark, "stats", "data")
    if not isinstance(rounds, list) or not rounds:
        raise SourceError("stats.data holds no rounds; run it again with --benchmark-save-data")
    seconds = tuple(_checked(each, "a round") for each in rounds)
    if min(seconds) == 0:
        raise SourceError("a round of 0 s has no throughput; load more records")
    parts = [part for part in PARTS if part in extra]
    profile = _shares(extra, "profile", PARTS) or {part: _number(extra, part) for part in parts}
    latency = (_number(extra, "batch_latency", name) for name in ("p50", "p95", "p99", "max"))
    return Measurement(
        cloud=str(params["cloud"]),
        setting=Setting(
            method=str(params["method"]),
            batch_size=_count(params, "batch_size"),
            connections=_count(params, "connections"),
        ),
        dataset=Dataset(records=_count(extra, "records"), bytes=_count(extra, "bytes")),
        rounds=seconds,
        latency=Latency(*latency),
        cpu_share=_number(extra, "client", "cpu_share"),
        encode=_number(extra, "encode"),
        write=_number(extra, "write"),
        commit=_number(extra, "commit"),
        rtt_ms=_number_or_none(extra, "rtt_ms"),
        wal_bytes_per_record=_number_or_none(extra, "wal_bytes_per_record"),
        retries=int(_number(extra, "retries")),
        source=source,
        passes=_passes(extra, seconds),
        profile=profile,
        bottleneck=_text(extra, "bottleneck"),
        bottleneck_shares=_shares(extra, "bottleneck_shares", BOTTLENECKS),
        advice=_text(extra, "advice"),
        unstable=_text(extra, "unstable"),
    )


def pool(measurements: Iterable[Measurement]) -> list[Measurement]:
    """One measurement for each cloud, setting and dataset, which may have run under several tests.

    A round is pooled as it is; of what is saved for the test as a whole, percentiles included,
    the mean weighted by rounds stands for all, which is near where the tests are alike.
    """
    alike: dict[tuple[str, Dataset, Setting], list[Measurement]] = {}
    for each in measurements:
        alike.setdefault((each.cloud, each.dataset, each.setting), []).append(each)
    return [_pooled(parts) for parts in alike.values()]


def _pooled(parts: Sequence[Measurement]) -> Measurement:
    if len(parts) == 1:
        return parts[0]
    weights = [len(part.rounds) for part in parts]

    def mean(values: Iterable[float]) -> float:
        return statistics.fmean(values, weights)

    def mean_or_none(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return mean(known) if len(known) == len(values) else None

    def mean_by_name(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        common = [name for name in values[0] if all(name in each for each in values)]
        return {name: mean([each[name] for each in values]) for name in common}

    held_back = mean_by_name([part.bottleneck_shares for part in parts])
    return replace(
        parts[0],
        rounds=tuple(seconds for part in parts for seconds in part.rounds),
        latency=Latency(
            p50=mean(part.latency.p50 for part in parts),
            p95=mean(part.latency.p95 for part in parts),
            p99=mean(part.latency.p99 for part in parts),
            max=max(part.latency.max for part in parts),
        ),
        cpu_share=mean(part.cpu_share for part in parts),
        encode=mean(part.encode for part in parts),
        write=mean(part.write for part in parts),
        commit=mean(part.commit for part in parts),
        rtt_ms=mean_or_none([part.rtt_ms for part in parts]),
        wal_bytes_per_record=mean_or_none([part.wal_bytes_per_record for part in parts]),
        retries=sum(part.retries for part in parts),
        passes=tuple(seconds for part in parts for seconds in part.passes),
        profile=mean_by_name([part.profile for part in parts]),
        bottleneck=max(held_back, key=held_back.__getitem__) if held_back else None,
        bottleneck_shares=held_back,
        advice=next((part.advice for part in parts if part.advice), None),
        unstable=next((part.unstable for part in parts if part.unstable), None),
    )


def _passes(extra: Any, rounds: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """The rounds by pass, where they were saved so; otherwise they are one pass."""
    saved = extra.get("passes")
    if isinstance(saved, list) and all(isinstance(each, list) for each in saved):
        passes = tuple(tuple(each) for each in saved if each)
        if sorted(second for each in passes for second in each) == sorted(rounds):
            return passes
    return (rounds,)


def _shares(extra: Any, key: str, names: Sequence[str]) -> dict[str, float]:
    """What of `names` was saved as a number under `key`; nothing where it was not measured."""
    saved = extra.get(key)
    if not isinstance(saved, dict) or not any(saved.get(name) for name in names):
        return {}
    return {name: _number(saved, name) for name in names if name in saved}


def _text(extra: Any, key: str) -> str | None:
    saved = extra.get(key)
    return saved if isinstance(saved, str) and saved else None


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(values, Mapping) or key not in values:
            raise SourceError(f"it lacks {'.'.join(keys)}")
        values = values[key]
    return values


def _number(values: Any, *keys: str) -> float:
    return _checked(_at(values, *keys), ".".join(keys))


def _checked(value: Any, name: str) -> float:
    if (
        type(value) not in (int, float) or not math.isfinite(value) or value < 0
    ):  # True is no number
        raise SourceError(f"{name} is {value!r}, not a number of 0 or more")
    return float(value)


def _number_or_none(values: Any, *keys: str) -> float | None:
    return None if _at(values, *keys) is None else _number(values, *keys)


def _count(values: Any, *keys: str) -> int:
    value = _at(values, *keys)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SourceError(f"{'.'.join(keys)} is {value!r}, not a whole number of 1 or more")
    return value
