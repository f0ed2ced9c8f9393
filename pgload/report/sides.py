"""Runs → sides: what stands beside another in a comparison.

A side is a cloud with all its runs, or one run of a cloud, or the runs of a day, of a version of
PostgreSQL or of an instance type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgload.errors import UsageError
from pgload.report.context import alike, facts
from pgload.report.runs import Run
from pgload.report.saved import Dataset, Measurement, Setting, pool


@dataclass(frozen=True)
class Side:
    """One side, and all that it measured; the measurements of several runs are pooled."""

    name: str
    runs: tuple[Run, ...]
    measured: Mapping[Dataset, Mapping[Setting, Measurement]]

    @property
    def cloud(self) -> str:
        return self.runs[0].cloud

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(run.path for run in self.runs)

    @property
    def newest(self) -> Run:
        return max(self.runs, key=lambda run: run.saved)

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known of its server and client, by the newest run."""
        return facts(self.newest)


def _number(run: Run) -> str:
    return run.path.stem.split("_")[0]


NAMES: dict[str, Callable[[Run], str]] = {
    "cloud": lambda run: run.cloud,
    "run": lambda run: f"{run.cloud} {_number(run)}",
    "date": lambda run: f"{run.cloud} {run.saved:%Y-%m-%d}",
    "version": lambda run: f"{run.cloud} PostgreSQL {run.server.get('version', '?')}",
    "instance": lambda run: f"{run.cloud} {run.server.get('instance_type') or '?'}",
}
AUTO = "auto"
BY = (AUTO, *NAMES)


def make_sides(runs: Sequence[Run], by: str = AUTO) -> dict[str, Side]:
    """The sides by name, in the order of the runs; the first is the baseline.

    `auto`: several clouds are compared as clouds, the runs of one cloud as runs. A cloud whose
    runs were made with different servers, settings or clients is not pooled: its runs stay apart.
    """
    grouped: dict[str, list[Run]] = {}
    for run, name in zip(runs, _names(runs, by), strict=True):
        grouped.setdefault(name, []).append(run)
    return {name: _side(name, of_side) for name, of_side in grouped.items()}


def with_baseline(sides: Mapping[str, Side], wanted: str | None) -> dict[str, Side]:
    """The sides with the wanted one first, which is a side's name, its cloud or its run's number.

    Raises `UsageError` where there is none.
    """
    if wanted is None:
        return dict(sides)
    for matches in (
        lambda side: side.name,
        lambda side: side.cloud,
        lambda side: _number(side.runs[0]),
    ):
        for name, side in sides.items():
            if matches(side).casefold() == wanted.casefold():
                return {name: side, **sides}
    raise UsageError(f"--baseline {wanted} is none of the sides: {', '.join(sides)}")


def _names(runs: Sequence[Run], by: str) -> list[str]:
    clouds = [run.cloud for run in runs]
    if by != AUTO:
        names = [NAMES[by](run) for run in runs]
        return names if by != "run" else _apart(runs, names)
    if len(set(clouds)) == 1 < len(runs):
        apart = set(clouds)
    else:
        contexts: dict[str, list[Mapping[str, str]]] = {}
        for run in runs:
            contexts.setdefault(run.cloud, []).append(facts(run))
        apart = {
            cloud
            for cloud, each in contexts.items()
            if not all(alike(one, each[0]) for one in each)
        }
    numbered = _apart(runs, [NAMES["run"](run) for run in runs])
    return [
        number if run.cloud in apart else run.cloud
        for run, number in zip(runs, numbered, strict=True)
    ]


def _apart(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """The names, and the whole path in those that several files have."""
    return [
        name if names.count(name) == 1 else f"{run.cloud} {run.path}"
        for run, name in zip(runs, names, strict=True)
    ]


def _side(name: str, runs: Sequence[Run]) -> Side:
    measured: dict[Dataset, dict[Setting, Measurement]] = {}
    for each in pool(each for run in runs for each in run.measurements):
        measured.setdefault(each.dataset, {})[each.setting] = each
    return Side(name, tuple(runs), measured)
