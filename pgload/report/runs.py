"""Saved benchmark JSON → runs.

One file of pytest-benchmark gives one `Run` for each cloud in it. Only what its suite verified
counts; whatever is left out comes back as a problem, a line for the user that names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pgload.errors import SourceError
from pgload.report.saved import (
    LOAD_PARAMS,
    Measurement,
    is_load,
    measurement,
    pool,
)

NO_LOAD = f"no load in it, a benchmark with the parameters {', '.join(LOAD_PARAMS)}"
STORAGE = Path(".benchmarks")  # where pytest-benchmark saves: <machine>/NNNN_<name>.json


@dataclass(frozen=True)
class Run:
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


def load_runs(patterns: Sequence[str] = (), storage: Path = STORAGE) -> tuple[list[Run], list[str]]:
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


def read_runs(path: Path) -> list[Run]:
    """The runs in one saved file, one for each cloud that it has loads of.

    Raises `SourceError` for a file that pytest-benchmark did not save, or for another project.
    """
    saved = _saved_json(path)
    loads: dict[str, list[Mapping[str, Any]]] = {}
    for benchmark in saved["benchmarks"]:
        if isinstance(benchmark, dict) and is_load(benchmark):
            loads.setdefault(str(benchmark["params"]["cloud"]), []).append(benchmark)
    if not loads and "servers" not in _at(saved, "machine_info"):
        raise SourceError(f"not a run of pgload: {NO_LOAD}")
    saved_at = _saved_at(saved)
    runs = []
    for cloud, benchmarks in loads.items():
        measurements, problems = _measurements(benchmarks, str(path))
        skipped = _at(saved, "machine_info", "not_measured", kind=list)
        runs.append(
            Run(
                path,
                cloud,
                saved_at,
                _at(saved, "machine_info", "servers", cloud),
                measurements,
                problems,
                client=_client(saved),
                not_measured=tuple(
                    each
                    for each in skipped
                    if isinstance(each, dict) and each.get("cloud", cloud) == cloud
                ),
                drift=_at(saved, "machine_info", "run", "drift", cloud),
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
    client: dict[str, Any] = _at(saved, "machine_info", "client")
    if client:
        return client
    machine, cpu = _at(saved, "machine_info"), _at(saved, "machine_info", "cpu")
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


def _at(saved: Any, *keys: str, kind: type = dict) -> Any:
    """What stands at that place, or an empty one where nothing of that kind does."""
    for key in keys:
        saved = saved.get(key) if isinstance(saved, dict) else None
    found: Any = saved if isinstance(saved, kind) else kind()
    return found


def _newest(runs: Iterable[Run]) -> list[Run]:
    """For each cloud its newest run that measured something, and the newer ones that did not."""
    newest: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.saved, run.path), reverse=True):
        kept = newest.setdefault(run.cloud, [])
        if not any(each.measurements for each in kept):
            kept.append(run)
    return [run for _, kept in sorted(newest.items()) for run in kept]
