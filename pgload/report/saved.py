"""One measured load: a benchmark of the saved JSON as a `Measurement`."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pgload.contract import BOTTLENECKS, LOAD_PARAMS, PARTS, STORAGE, Setting
from pgload.errors import SourceError


@dataclass(frozen=True, order=True)
class DatasetSize:
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
class SavedPass:
    """The timed rounds of a setting in one sweep over all settings."""

    run: str  # its file
    number: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """What one cloud did with one setting and one dataset in one run."""

    cloud: str
    setting: Setting
    dataset: DatasetSize
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
    passes: tuple[SavedPass, ...] = ()
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
        dataset=DatasetSize(records=_count(extra, "records"), bytes=_count(extra, "bytes")),
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
        passes=tuple(
            SavedPass(source, number, each)
            for number, each in enumerate(_passes(extra, seconds), 1)
        ),
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
    alike: dict[tuple[str, DatasetSize, Setting], list[Measurement]] = {}
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
        passes=tuple(each for part in parts for each in part.passes),
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


NO_LOAD = f"no load in it, a benchmark with the parameters {', '.join(LOAD_PARAMS)}"


@dataclass(frozen=True)
class SavedRun:
    """All that one file holds of one cloud."""

    path: Path
    cloud: str
    saved: datetime  # when, by the file's own word: its mtime changes with every copy
    server: Mapping[str, Any]  # facts such as version and instance_type; empty where unknown
    measurements: tuple[Measurement, ...]  # one for each setting and dataset
    problems: tuple[str, ...]  # benchmarks left out, each with the reason
    client: Mapping[str, Any] = field(default_factory=dict)  # cpu, cores, python, os, …
    not_measured: tuple[Mapping[str, Any], ...] = ()  # settings the suite skipped, with `reason`
    drift: Mapping[str, Any] = field(default_factory=dict)  # start, middle, end (records/s), note


def load_runs(
    patterns: Sequence[str] = (), storage: Path = STORAGE
) -> tuple[list[SavedRun], list[str]]:
    """The runs in the files that `patterns` name, in that order, and what had to be left out.

    A pattern is a path, a glob, or the beginning of a file name below `storage` (`0001`), as
    pytest-benchmark takes it. Without patterns: the newest run of each cloud below `storage`,
    the clouds in alphabetical order.
    """
    if patterns:
        paths, problems = _named(patterns, storage)
    else:
        paths, problems = _sorted([*storage.glob("*.json"), *storage.glob("*/*.json")]), []
    runs = []
    for path in paths:
        try:
            found = read_runs(path)
        except SourceError as error:
            problems.append(f"{path}: {error}")
            continue
        if patterns and not found:  # unasked, a run of the suite without loads is passed over
            problems.append(f"{path}: {NO_LOAD}")
        runs += found
    if not patterns:
        runs = _newest(runs)
    problems += [f"{run.path}: {problem}" for run in runs for problem in run.problems]
    return [run for run in runs if run.measurements], problems


def read_runs(path: Path) -> list[SavedRun]:
    """The runs in one saved file, one for each cloud that it has loads of.

    Raises `SourceError` for a file that pytest-benchmark did not save, or for another project.
    """
    saved = _saved_json(path)
    loads: dict[str, list[Mapping[str, Any]]] = {}
    for benchmark in saved["benchmarks"]:
        if isinstance(benchmark, dict) and is_load(benchmark):
            loads.setdefault(str(benchmark["params"]["cloud"]), []).append(benchmark)
    if not loads and "servers" not in _section(saved, "machine_info"):
        raise SourceError(f"not a run of pgload: {NO_LOAD}")
    saved_at = _saved_at(saved)
    runs = []
    for cloud, benchmarks in loads.items():
        measurements, problems = _measurements(benchmarks, str(path))
        skipped = _section(saved, "machine_info", "not_measured", kind=list)
        runs.append(
            SavedRun(
                path,
                cloud,
                saved_at,
                _section(saved, "machine_info", "servers", cloud),
                measurements,
                problems,
                client=_client(saved),
                not_measured=tuple(
                    each
                    for each in skipped
                    if isinstance(each, dict) and each.get("cloud", cloud) == cloud
                ),
                drift=_section(saved, "machine_info", "run", "drift", cloud),
            )
        )
    return runs


def _measurements(
    loads: Iterable[Mapping[str, Any]], source: str
) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """What the loads of one cloud measured, and the ones left out, with the reason."""
    measured, problems = [], []
    for load in loads:
        try:
            measured.append(measurement(load, source))
        except SourceError as error:
            problems.append(f"{load.get('fullname', 'a benchmark without a name')}: {error}")
    return tuple(pool(measured)), tuple(problems)


def _named(patterns: Sequence[str], storage: Path) -> tuple[list[Path], list[str]]:
    paths: dict[Path, None] = {}  # a set that keeps the order
    problems = []
    for pattern in patterns:
        found = _find(pattern, storage)
        if not found:
            problems.append(f"{pattern}: no such file, and no saved run of this name in {storage}")
        paths.update(dict.fromkeys(found))
    return list(paths), problems


def _find(pattern: str, storage: Path) -> list[Path]:
    """The files that a pattern means, sorted by name, so that 0009 comes before 0010."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    try:
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not path.is_absolute():
            # As pytest-benchmark does: the beginning of a name is enough, with or without the
            # machine's folder before it.
            beginning = pattern.removesuffix(".json").rstrip("*")
            found += storage.glob(f"{beginning}*.json")
            found += storage.glob(f"*/{beginning}*.json")
    except (ValueError, IndexError):  # no pattern that `glob` can follow; IndexError for '.'
        return []
    return _sorted(found)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted({each for each in paths if each.is_file()}, key=lambda each: (each.name, each))


def _saved_json(path: Path) -> dict[str, Any]:
    """The content of a file that has benchmarks in it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}") from None
    if not text.strip():
        raise SourceError("the file is empty")
    try:
        saved = json.loads(text)
    except ValueError as error:  # bytes that are not UTF-8 as well
        raise SourceError(f"not JSON: {error}") from None
    if not isinstance(saved, dict) or not isinstance(saved.get("benchmarks"), list):
        raise SourceError("not saved by pytest-benchmark: it has no list of benchmarks")
    if not saved["benchmarks"]:
        raise SourceError("its list of benchmarks is empty")
    return saved


def _saved_at(saved: Mapping[str, Any]) -> datetime:
    text = saved.get("datetime")
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise SourceError(f"its datetime is {text!r}, not a time in ISO 8601") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)  # pytest-benchmark saves UTC


def _client(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The machine that loaded: by pgload's own word, otherwise by pytest-benchmark's."""
    client: dict[str, Any] = _section(saved, "machine_info", "client")
    if client:
        return client
    machine, cpu = _section(saved, "machine_info"), _section(saved, "machine_info", "cpu")
    facts = {
        "cpu": cpu.get("brand_raw"),
        "cores": cpu.get("count"),
        "python": " ".join(
            str(machine[name])
            for name in ("python_implementation", "python_version")
            if name in machine
        ),
    }
    return {name: value for name, value in facts.items() if value}


def _section(saved: Any, *keys: str, kind: type = dict) -> Any:
    """What stands at that place, or an empty one where nothing of that kind does."""
    for key in keys:
        saved = saved.get(key) if isinstance(saved, dict) else None
    found: Any = saved if isinstance(saved, kind) else kind()
    return found


def _newest(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """For each cloud its newest run that measured something, and the newer ones that did not."""
    newest: dict[str, list[SavedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.saved, run.path), reverse=True):
        kept = newest.setdefault(run.cloud, [])
        if not any(each.measurements for each in kept):
            kept.append(run)
    return [run for _, kept in sorted(newest.items()) for run in kept]


@dataclass(frozen=True)
class Batches:
    """The batches of the median round, in the order in which they were saved."""

    start: tuple[float, ...]  # seconds from the load's beginning
    seconds: tuple[float, ...]
    checkpoints: tuple[float, ...]  # of the server, seconds from the load's beginning


def read_batches(measured: Measurement) -> Batches | None:
    """The batches of a measurement; None where they were not saved, or the file is gone."""
    setting = measured.setting
    wanted = (measured.cloud, setting.method, setting.batch_size, setting.connections)
    try:
        saved = json.loads(Path(measured.source).read_bytes())
        for benchmark in saved["benchmarks"]:
            params, extra = benchmark.get("params") or {}, benchmark.get("extra_info") or {}
            if (
                tuple(params.get(name) for name in LOAD_PARAMS) == wanted
                and extra.get("records") == measured.dataset.records
                and (batches := _batches(extra)) is not None
            ):
                return batches
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the file was complete when it was compared; a chart less is no error
    return None


def _batches(extra: Mapping[str, Any]) -> Batches | None:
    saved = extra.get("batches")
    if not saved:
        return None
    start, seconds = (tuple(map(float, saved[name])) for name in ("start", "seconds"))
    if not start or len(start) != len(seconds):
        return None
    return Batches(start, seconds, tuple(map(float, extra.get("checkpoints") or ())))
