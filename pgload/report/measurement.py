"""A `Measurement`: one load of the saved JSON, or several pooled."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from pgload.contract import BOTTLENECKS, LOAD_PARAMS, PARTS, Setting
from pgload.errors import SourceError

Number = Annotated[float, Meta(ge=0, le=1e300)]  # refuses NaN and infinity, which JSON may hold
Seconds = Annotated[float, Meta(ge=1e-9, le=1e9)]  # of a round; 0 s would have no throughput
Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class DatasetSize(Struct, frozen=True, order=True):
    """What was loaded. Loads of different datasets are never compared."""

    records: Count
    bytes: Count

    def __str__(self) -> str:
        return f"{self.records:,} records, {self.bytes / 1e6:,.1f} MB"


class Latency(Struct, frozen=True):
    """Percentiles of the time that one batch took, in seconds."""

    p50: Number
    p95: Number
    p99: Number
    max: Number


@dataclass(frozen=True)
class SavedPass:
    """The rounds of a setting in one sweep over all settings."""

    run: str  # the file's path
    number: int  # from 1, in its run
    seconds: tuple[float, ...]  # of each round, to load the dataset once


@dataclass(frozen=True)
class Measurement:
    """What one cloud achieved with one setting and one dataset in one run, or in several, pooled.

    A round may load the dataset several times; all seconds but a batch's are for loading it once.
    """

    cloud: str
    setting: Setting
    dataset: DatasetSize
    passes: tuple[SavedPass, ...]
    latency: Latency
    profile: Mapping[str, float]  # part → seconds summed over the workers, in the order of PARTS
    cpu_share: float  # client CPU seconds per second of load; 1.0 is one core kept busy
    rtt_ms: float | None  # None, here and below: could not be measured
    wal_bytes_per_record: float | None
    retries: int
    source: str  # the file's path
    bottleneck: str | None = None  # one of BOTTLENECKS
    bottleneck_shares: Mapping[str, float] = field(default_factory=dict)  # sum about 1
    advice: str | None = None  # an English sentence
    unstable: str | None = None  # why the number is not stable, in English
    finals: tuple[SavedPass, ...] = ()  # measured again as one of the best settings
    repeats: int = 1  # of the dataset in a round
    others_share: float | None = None  # of the client's processors, used by other programs

    @property
    def fresh(self) -> Measurement:
        """The measurement by its finals alone, where there are any."""
        return replace(self, passes=self.finals) if self.finals else self

    @property
    def key(self) -> tuple[str, DatasetSize, Setting]:
        """What measurements have in common that may be pooled."""
        return self.cloud, self.dataset, self.setting

    @property
    def rounds(self) -> tuple[float, ...]:
        """The seconds of each round, over all passes."""
        return tuple(seconds for each in self.passes for seconds in each.seconds)

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

    @property
    def mb_per_second(self) -> float:
        """Megabytes of JSON per second of the median round."""
        return self.dataset.bytes / 1e6 / statistics.median(self.rounds)


class _Params(Struct):
    """`params` of a benchmark that is a load."""

    cloud: str
    method: str
    batch_size: Count
    connections: Count


class _Stats(Struct):
    data: tuple[Seconds, ...] = ()  # seconds of each round


class _Client(Struct):
    cpu_share: Number
    others_share: Number | None = None


class _Pass(Struct):
    number: Count
    seconds: tuple[Seconds, ...]


class _ExtraInfo(Struct):
    """What a report needs of `extra_info`; what has a default is absent from older files."""

    records: Count  # loaded in a round, as are the bytes
    bytes: Count
    batch_latency: Latency
    client: _Client
    encode: Number
    write: Number
    commit: Number
    rtt_ms: Number | None
    wal_bytes_per_record: Number | None
    retries: Annotated[int, Meta(ge=0)]
    dataset: DatasetSize | None = None  # which a round may have loaded repeatedly
    wait: Number | None = None
    idle: Number | None = None
    profile: dict[str, Number] | None = None
    # In an older file, a pass is only the list of its seconds.
    passes: list[_Pass | tuple[Seconds, ...]] | None = None
    bottleneck: str | None = None
    bottleneck_shares: dict[str, Number] | None = None
    advice: str | None = None
    unstable: str | None = None
    finals: list[_Pass] | None = None


class _Load(Struct):
    params: _Params
    stats: _Stats
    extra_info: _ExtraInfo


def is_load(benchmark: Mapping[str, Any]) -> bool:
    """Whether a saved benchmark is a load: its parameters name a cloud and a setting."""
    params = benchmark.get("params")
    return isinstance(params, dict) and all(name in params for name in LOAD_PARAMS)


def measurement(benchmark: Mapping[str, Any], source: str) -> Measurement:
    """A benchmark of the saved JSON for which `is_load` holds, as a measurement.

    `source` is the file's path. Raises `SourceError` with the reason, but without the benchmark's
    name, when the load was not verified or a value is missing or malformed.
    """
    extra_info = benchmark.get("extra_info")
    if not isinstance(extra_info, dict) or extra_info.get("verified") is not True:
        raise SourceError("its rows were not verified, so it has no result; run it again")
    try:
        load = msgspec.convert(benchmark, _Load)
    except msgspec.ValidationError as error:
        raise SourceError(f"{error}") from None
    if not load.stats.data:
        raise SourceError("stats.data holds no rounds; run it again with --benchmark-save-data")
    params, extra = load.params, load.extra_info
    dataset = extra.dataset or DatasetSize(extra.records, extra.bytes)
    if dataset.records > extra.records:
        raise SourceError("extra_info.dataset has more records than a round loaded")
    once = dataset.records / extra.records  # the share of a round that loads the dataset once
    parts: Mapping[str, float | None] = extra.profile or {
        name: getattr(extra, name, None) for name in PARTS
    }
    shares = extra.bottleneck_shares or {}
    if not any(shares.values()):  # nothing was observed
        shares = {}
    return Measurement(
        cloud=params.cloud,
        setting=Setting(params.method, params.batch_size, params.connections),
        dataset=dataset,
        passes=tuple(_passes(load, source, once)),
        latency=extra.batch_latency,
        profile={n: value * once for n in PARTS if (value := parts.get(n)) is not None},
        cpu_share=extra.client.cpu_share,
        rtt_ms=extra.rtt_ms,
        wal_bytes_per_record=extra.wal_bytes_per_record,
        retries=extra.retries,
        source=source,
        bottleneck=extra.bottleneck or None,
        bottleneck_shares={name: shares[name] for name in BOTTLENECKS if name in shares},
        advice=extra.advice or None,
        unstable=extra.unstable or None,
        finals=tuple(
            SavedPass(source, each.number, tuple(s * once for s in each.seconds))
            for each in extra.finals or ()
            if each.seconds
        ),
        repeats=round(extra.records / dataset.records),
        others_share=extra.client.others_share,
    )


def _passes(load: _Load, source: str, once: float) -> Iterator[SavedPass]:
    """The passes; one with all rounds where none were saved."""
    saved = load.extra_info.passes or [load.stats.data]
    passes = [
        each if isinstance(each, _Pass) else _Pass(number, each)
        for number, each in enumerate(saved, start=1)
    ]
    if sorted(s for each in passes for s in each.seconds) != sorted(load.stats.data):
        raise SourceError("extra_info.passes and stats.data do not hold the same rounds")
    for each in passes:
        if each.seconds:
            yield SavedPass(source, each.number, tuple(s * once for s in each.seconds))


def pool(measurements: Iterable[Measurement]) -> list[Measurement]:
    """One measurement for each cloud, setting and dataset, which several tests may have measured.

    All rounds are kept; of values that are saved for a test as a whole, percentiles included, the
    mean weighted by rounds is taken, which is close where the tests measured much the same.
    """
    groups: dict[tuple[str, DatasetSize, Setting], list[Measurement]] = {}
    for each in measurements:
        groups.setdefault(each.key, []).append(each)
    return [_pooled(group) if len(group) > 1 else group[0] for group in groups.values()]


def _pooled(group: Sequence[Measurement]) -> Measurement:
    weights = [len(each.rounds) for each in group]

    def mean(values: Iterable[float]) -> float:
        return statistics.fmean(values, weights)

    def mean_or_none(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return mean(known) if len(known) == len(values) else None

    def mean_by_name(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        common = [name for name in values[0] if all(name in each for each in values)]
        return {name: mean(each[name] for each in values) for name in common}

    shares = mean_by_name([each.bottleneck_shares for each in group])
    return replace(
        group[0],
        passes=tuple(one for each in group for one in each.passes),
        finals=tuple(one for each in group for one in each.finals),
        latency=Latency(
            p50=mean(each.latency.p50 for each in group),
            p95=mean(each.latency.p95 for each in group),
            p99=mean(each.latency.p99 for each in group),
            max=max(each.latency.max for each in group),
        ),
        profile=mean_by_name([each.profile for each in group]),
        cpu_share=mean(each.cpu_share for each in group),
        rtt_ms=mean_or_none([each.rtt_ms for each in group]),
        wal_bytes_per_record=mean_or_none([each.wal_bytes_per_record for each in group]),
        retries=sum(each.retries for each in group),
        repeats=max(each.repeats for each in group),
        others_share=mean_or_none([each.others_share for each in group]),
        bottleneck=max(shares, key=shares.__getitem__) if shares else None,
        bottleneck_shares=shares,
        advice=next((each.advice for each in group if each.advice), None),
        unstable=next((each.unstable for each in group if each.unstable), None),
    )


@dataclass(frozen=True)
class RoundTimeline:
    """The batches of a measurement's median round, in the order in which they were saved."""

    start: tuple[float, ...]  # seconds from the load's beginning
    seconds: tuple[float, ...]
    checkpoints: tuple[float, ...]  # of the server, seconds from the load's beginning


class _Batches(Struct):
    start: tuple[Number, ...]
    seconds: tuple[Number, ...]


class _TimelineInfo(Struct):
    """What a timeline needs of `extra_info`."""

    batches: _Batches
    checkpoints: tuple[Number, ...] = ()


def round_timeline(benchmark: Mapping[str, Any]) -> RoundTimeline | None:
    """The batches of the benchmark's median round; None where they are missing or malformed.

    They are not part of a `Measurement`: the batches of all measurements would fill the memory.
    """
    try:
        extra = msgspec.convert(benchmark["extra_info"], _TimelineInfo)
    except msgspec.ValidationError:
        return None  # the measurement does not depend on it
    start, seconds = extra.batches.start, extra.batches.seconds
    if not start or len(start) != len(seconds):
        return None
    return RoundTimeline(start, seconds, extra.checkpoints)
