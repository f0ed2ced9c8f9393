"""Runs → sides: what stands beside another in a comparison.

A side is a cloud with all its runs, or one run of a cloud, or the runs of a day, of a version of
PostgreSQL or of an instance type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgload.contract import Setting
from pgload.errors import UsageError
from pgload.report.saved import DatasetSize, Measurement, SavedRun, pool

# Facts that say nothing about speed, or that stand elsewhere in the report.
ELSEWHERE = ("build", "price_per_hour", "price_date", "settings", "non_default")
# Where sides differ in one of these, the numbers compare it rather than the sides.
DECISIVE = {
    "setting fsync": "durability",
    "setting synchronous_commit": "durability",
    "setting full_page_writes": "durability",
    "client cpu": "client machine",
    "client cores": "client machine",
    "server rtt_asked_ms": "distance",
}


@dataclass(frozen=True)
class Difference:
    """One fact in which sides differ."""

    fact: str
    values: Mapping[str, str]  # side → value, of the sides that recorded it
    decides: str | None  # durability, client machine, distance; None: worth knowing

    def __str__(self) -> str:
        """`durability: setting fsync on / off`."""
        kind = f"{self.decides}: " if self.decides else ""
        return f"{kind}{self.fact} {' / '.join(self.values.values())}"


def facts(run: SavedRun) -> dict[str, str]:
    """What is known of a run's server and client, flat: `setting fsync` → `on`."""
    server = {name: value for name, value in run.server.items() if name not in ELSEWHERE}
    settings = {**_mapping(run.server.get("non_default")), **_mapping(run.server.get("settings"))}
    known = {f"server {name}": value for name, value in server.items()}
    known |= {f"setting {name}": value for name, value in settings.items()}
    known |= {f"client {name}": value for name, value in run.client.items()}
    return {name: f"{value}" for name, value in known.items() if value is not None}


def differences(by_side: Mapping[str, Mapping[str, str]]) -> list[Difference]:
    """In what the sides' facts differ, the decisive first.

    What a side did not record is not a difference: older files hold less.
    """
    names = {name for known in by_side.values() for name in known}
    found = []
    for name in sorted(names, key=lambda name: (name not in DECISIVE, name)):
        values = {side: known[name] for side, known in by_side.items() if name in known}
        if len(set(values.values())) > 1:
            found.append(Difference(name, values, DECISIVE.get(name)))
    return found


def alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two runs of a cloud may be pooled: the same server, settings and kind of client."""

    def server(known: Mapping[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in known.items()
            if name in DECISIVE or not name.startswith("client ")
        }

    return server(one) == server(other)


def caveats(by_side: Mapping[str, Mapping[str, str]]) -> tuple[Difference, ...]:
    """In what the sides differ that decides the result, so that a verdict has to say it."""
    return tuple(each for each in differences(by_side) if each.decides)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


LISTED = 3  # settings that a line names, so that it stays one; the table shows them all

# Name of the side → what it measured of one dataset. The first side is the baseline.
Sides = Mapping[str, Mapping[Setting, Measurement]]


def pair(sides: Mapping[str, Side]) -> dict[DatasetSize, Sides]:
    """What the sides measured, by dataset.

    The dataset that compares most comes first: by sides, then by measurements, then by records.
    """
    datasets = {dataset for side in sides.values() for dataset in side.measured}
    paired = {
        dataset: {
            name: side.measured[dataset] for name, side in sides.items() if dataset in side.measured
        }
        for dataset in datasets
    }

    def compares(dataset: DatasetSize) -> tuple[int, int, DatasetSize]:
        of_sides = paired[dataset]
        return len(of_sides), sum(len(measured) for measured in of_sides.values()), dataset

    return {dataset: paired[dataset] for dataset in sorted(paired, key=compares, reverse=True)}


def unpaired(paired: Mapping[DatasetSize, Sides], sides: Mapping[str, Side]) -> list[str]:
    """A line for each side that lacks a dataset, or settings that another has, and why it does."""
    lines = []
    for dataset, of_sides in paired.items():
        settings = sorted({setting for measured in of_sides.values() for setting in measured})
        for name, side in sides.items():
            if name not in of_sides:
                lines.append(f"{name}: loaded other data, not {dataset}")
            elif missing := [setting for setting in settings if setting not in of_sides[name]]:
                reasons = _reasons(side)
                listed = "; ".join(
                    f"{setting}" + (f" ({reasons[setting]})" if setting in reasons else "")
                    for setting in missing[:LISTED]
                )
                more = f"; and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
                lines.append(
                    f"{name}: {len(missing)} of {len(settings)} settings with {dataset} were not "
                    f"measured: {listed}{more}"
                )
    return lines


def _reasons(side: Side) -> dict[Setting, str]:
    """Why the suite did not measure a setting, by its own word."""
    found = {}
    for run in side.runs:
        for each in run.not_measured:
            method, size, connections = (each.get(name) for name in Setting.__match_args__)
            if isinstance(size, int) and isinstance(connections, int) and each.get("reason"):
                found[Setting(str(method), size, connections)] = str(each["reason"])
    return found


@dataclass(frozen=True)
class Side:
    """One side, and all that it measured; the measurements of several runs are pooled."""

    name: str
    runs: tuple[SavedRun, ...]
    measured: Mapping[DatasetSize, Mapping[Setting, Measurement]]

    @property
    def cloud(self) -> str:
        return self.runs[0].cloud

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(run.path for run in self.runs)

    @property
    def newest(self) -> SavedRun:
        return max(self.runs, key=lambda run: run.saved)

    @property
    def facts(self) -> Mapping[str, str]:
        """What is known of its server and client, by the newest run."""
        return facts(self.newest)


def _number(run: SavedRun) -> str:
    return run.path.stem.split("_")[0]


NAMES: dict[str, Callable[[SavedRun], str]] = {
    "cloud": lambda run: run.cloud,
    "run": lambda run: f"{run.cloud} {_number(run)}",
    "date": lambda run: f"{run.cloud} {run.saved:%Y-%m-%d}",
    "version": lambda run: f"{run.cloud} PostgreSQL {run.server.get('version', '?')}",
    "instance": lambda run: f"{run.cloud} {run.server.get('instance_type') or '?'}",
}
AUTO = "auto"
BY = (AUTO, *NAMES)


def make_sides(runs: Sequence[SavedRun], by: str = AUTO) -> dict[str, Side]:
    """The sides by name, in the order of the runs; the first is the baseline.

    `auto`: several clouds are compared as clouds, the runs of one cloud as runs. A cloud whose
    runs were made with different servers, settings or clients is not pooled: its runs stay apart.
    """
    grouped: dict[str, list[SavedRun]] = {}
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


def _names(runs: Sequence[SavedRun], by: str) -> list[str]:
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


def _apart(runs: Sequence[SavedRun], names: Sequence[str]) -> list[str]:
    """The names, and the whole path in those that several files have."""
    return [
        name if names.count(name) == 1 else f"{run.cloud} {run.path}"
        for run, name in zip(runs, names, strict=True)
    ]


def _side(name: str, runs: Sequence[SavedRun]) -> Side:
    measured: dict[DatasetSize, dict[Setting, Measurement]] = {}
    for each in pool(each for run in runs for each in run.measurements):
        measured.setdefault(each.dataset, {})[each.setting] = each
    return Side(name, tuple(runs), measured)
