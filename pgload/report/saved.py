"""Saved benchmark runs: the files of pytest-benchmark as `SavedRun`s, each with its measurements.

A file is read tolerantly and each of its loads strictly: a malformed load is left out, with the
reason, and does not cost the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pgload.contract import LOAD_PARAMS, STORAGE, Setting
from pgload.errors import SourceError
from pgload.report.measurement import (
    Measurement,
    RoundTimeline,
    is_load,
    measurement,
    pool,
    round_timeline,
)

NO_LOAD = f"no load in it, a benchmark with the parameters {', '.join(LOAD_PARAMS)}"


class SkippedSetting(msgspec.Struct, frozen=True):
    """A setting that a run did not measure, and why."""

    cloud: str
    method: str
    batch_size: int
    connections: int
    reason: str

    @property
    def setting(self) -> Setting:
        """The three values as one."""
        return Setting(self.method, self.batch_size, self.connections)


@dataclass(frozen=True)
class SavedRun:
    """All that one file holds of one cloud."""

    path: Path
    cloud: str
    saved: datetime  # by the file's content: its mtime changes with every copy
    server: Mapping[str, Any]  # facts such as version and instance_type; empty where unknown
    measurements: tuple[Measurement, ...]  # one for each setting and dataset
    problems: tuple[str, ...] = ()  # what was left out, each with the reason
    client: Mapping[str, Any] = field(default_factory=dict)  # cpu, cores, python, os, …
    not_measured: tuple[SkippedSetting, ...] = ()
    drift: Mapping[str, Any] = field(default_factory=dict)  # start, middle, end (records/s), note


def load_runs(
    patterns: Sequence[str] = (), storage: Path = STORAGE
) -> tuple[list[SavedRun], list[str]]:
    """The runs in the files that `patterns` name, in that order, and what was left out, with why.

    A pattern is a path, a glob, or the beginning of a file name below `storage` (`0001`), as
    pytest-benchmark takes it. Without patterns: the newest run of each cloud below `storage`,
    the clouds in alphabetical order.
    """
    paths: dict[Path, None] = {}  # a set that keeps the order
    problems: list[str] = []
    for pattern in patterns:
        found = _find(pattern, storage)
        if not found:
            problems.append(f"{pattern}: no such file, and no saved run of this name in {storage}")
        paths.update(dict.fromkeys(found))
    if not patterns:
        paths = dict.fromkeys(_sorted([*storage.glob("*.json"), *storage.glob("*/*.json")]))
    runs: list[SavedRun] = []
    for path in paths:
        try:
            of_file = read_runs(path)
        except SourceError as error:
            problems.append(f"{path}: {error}")
            continue
        if patterns and not of_file:  # a run without loads matters only where it was asked for
            problems.append(f"{path}: {NO_LOAD}")
        runs += of_file
    if not patterns:
        runs = _newest(runs)
    problems += [f"{run.path}: {problem}" for run in runs for problem in run.problems]
    return [run for run in runs if run.measurements], problems


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
    except (ValueError, IndexError):  # not a pattern that `glob` accepts; IndexError for '.'
        return []
    return _sorted(found)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted({each for each in paths if each.is_file()}, key=lambda each: (each.name, each))


def _newest(runs: Iterable[SavedRun]) -> list[SavedRun]:
    """For each cloud its newest run that measured something, and the newer ones that did not."""
    newest: dict[str, list[SavedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.saved, run.path), reverse=True):
        kept = newest.setdefault(run.cloud, [])
        if not any(each.measurements for each in kept):
            kept.append(run)
    return [run for _, kept in sorted(newest.items()) for run in kept]


def read_runs(path: Path) -> list[SavedRun]:
    """The runs in one saved file, one for each cloud that it has loads of.

    Raises `SourceError` for a file that pytest-benchmark did not save, or for another project.
    """
    saved = _read_json(path)
    machine = _mapping(saved, "machine_info")
    loads: dict[str, list[Mapping[str, Any]]] = {}
    for benchmark in _loads(saved):
        loads.setdefault(str(benchmark["params"]["cloud"]), []).append(benchmark)
    if not loads and not isinstance(machine.get("servers"), dict):
        raise SourceError(f"not a run of pgload: {NO_LOAD}")
    saved_at = _saved_at(saved)
    runs = []
    for cloud, benchmarks in loads.items():
        measurements, problems = [], []
        for benchmark in benchmarks:
            try:
                measurements.append(measurement(benchmark, str(path)))
            except SourceError as error:
                name = benchmark.get("fullname", "a benchmark without a name")
                problems.append(f"{name}: {error}")
        runs.append(
            SavedRun(
                path=path,
                cloud=cloud,
                saved=saved_at,
                server=_mapping(machine, "servers", cloud),
                measurements=tuple(pool(measurements)),
                problems=tuple(problems),
                client=_mapping(machine, "client"),
                not_measured=tuple(_skipped(machine, cloud)),
                drift=_mapping(machine, "run", "drift", cloud),
            )
        )
    return runs


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a file that has benchmarks in it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}") from None
    if not text.strip():
        raise SourceError("the file is empty")
    try:
        saved = json.loads(text)  # and not msgspec, for which one NaN costs the whole file
    except (ValueError, RecursionError) as error:  # ValueError: bytes that are not UTF-8 as well
        raise SourceError(f"not JSON: {error}") from None
    if not isinstance(saved, dict) or not isinstance(saved.get("benchmarks"), list):
        raise SourceError("not saved by pytest-benchmark: it has no list of benchmarks")
    if not saved["benchmarks"]:
        raise SourceError("its list of benchmarks is empty")
    return saved


def _loads(saved: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (each for each in saved["benchmarks"] if isinstance(each, dict) and is_load(each))


def _mapping(values: Any, *keys: str) -> Mapping[str, Any]:
    """The object at that place, or an empty one where there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _saved_at(saved: Mapping[str, Any]) -> datetime:
    text = saved.get("datetime")
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise SourceError(f"its datetime is {text!r}, not a time in ISO 8601") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)  # pytest-benchmark saves UTC


def _skipped(machine: Mapping[str, Any], cloud: str) -> Iterator[SkippedSetting]:
    found = machine.get("not_measured")
    for each in found if isinstance(found, list) else []:
        try:
            skipped = msgspec.convert(each, SkippedSetting)
        except msgspec.ValidationError:
            continue  # it only explains an absence, which is reported without it as well
        if skipped.cloud == cloud:
            yield skipped


def read_timeline(measured: Measurement) -> RoundTimeline | None:
    """The batches of a measurement; None where they were not saved, or the file has gone."""
    try:
        loads = _loads(_read_json(Path(measured.source)))
    except SourceError:
        return None  # the file was complete when it was compared; one chart less is not an error
    for benchmark in loads:
        try:
            same = measurement(benchmark, measured.source).key == measured.key
            if same and (found := round_timeline(benchmark)):
                return found
        except SourceError:
            continue
    return None
