"""The sides of a comparison: saved runs grouped, their differences, and what can be compared.

A side is a cloud with all its runs, or one run of a cloud, or the runs of a day, of a version of
PostgreSQL or of an instance type.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgload.contract import Setting
from pgload.errors import UsageError
from pgload.report.measurement import DatasetSize, Measurement, pool
from pgload.report.saved import SavedRun

# Facts of a server that do not affect its speed, or that are listed one by one.
NOT_COMPARED = ("build", "price_per_hour", "settings")
# Where sides differ in one of these facts, it may explain their numbers better than the sides do.
DECISIVE = {
    "setting fsync": "durability",
    "setting synchronous_commit": "durability",
    "setting full_page_writes": "durability",
    "client cpu": "client machine",
    "client cores": "client machine",
    "server rtt_asked_ms": "distance",
}
# How much of the client's processors other programs used. It always differs a little.
OTHER_WORK, MIN_OTHER_WORK = "client busy with other work", 0.10
LISTED = 3  # settings named in a line; the table shows them all

# Name of the side → what it measured of one dataset. The first side is the baseline.
Sides = Mapping[str, Mapping[Setting, Measurement]]


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
        """The facts of its newest run, as `facts` gives them."""
        return facts(self.newest)


@dataclass(frozen=True)
class Difference:
    """One fact in which sides differ."""

    fact: str
    values: Mapping[str, str]  # side → value, of the sides that recorded it
    decides: str | None  # durability, client machine or distance; None: it is not decisive

    def __str__(self) -> str:
        """`durability: setting fsync on / off`."""
        kind = f"{self.decides}: " if self.decides else ""
        return f"{kind}{self.fact} {' / '.join(self.values.values())}"


def _run_number(run: SavedRun) -> str:
    return run.path.stem.split("_")[0]


# Names of sides by what `--by` asks for. Runs with the same name are one side.
NAMES: dict[str, Callable[[SavedRun], str]] = {
    "cloud": lambda run: run.cloud,
    "run": lambda run: f"{run.cloud} {_run_number(run)}",
    "date": lambda run: f"{run.cloud} {run.saved:%Y-%m-%d}",
    "version": lambda run: f"{run.cloud} PostgreSQL {run.server.get('version', '?')}",
    "instance": lambda run: f"{run.cloud} {run.server.get('instance_type') or '?'}",
}
AUTO = "auto"
BY = (AUTO, *NAMES)


def make_sides(runs: Sequence[SavedRun], by: str = AUTO) -> dict[str, Side]:
    """The sides by name, in the order of the runs; the first is the baseline.

    `by` is one of `BY`. `auto`: several clouds are compared as clouds, the runs of one cloud as
    runs. The runs of a cloud with different servers, settings or clients are not pooled: each is a
    side.
    """
    if by == AUTO:
        names = _auto_names(runs)
    elif by == "run":
        names = _run_names(runs)
    else:
        names = [NAMES[by](run) for run in runs]
    grouped: dict[str, list[SavedRun]] = {}
    for run, name in zip(runs, names, strict=True):
        grouped.setdefault(name, []).append(run)
    return {name: _side(name, of_side) for name, of_side in grouped.items()}


def _auto_names(runs: Sequence[SavedRun]) -> list[str]:
    by_cloud: dict[str, list[SavedRun]] = {}
    for run in runs:
        by_cloud.setdefault(run.cloud, []).append(run)
    if len(by_cloud) == 1 < len(runs):
        return _run_names(runs)
    pooled = {
        cloud
        for cloud, of_cloud in by_cloud.items()
        if all(alike(run, of_cloud[0]) for run in of_cloud)
    }
    return [
        run.cloud if run.cloud in pooled else name
        for run, name in zip(runs, _run_names(runs), strict=True)
    ]


def _run_names(runs: Sequence[SavedRun]) -> list[str]:
    """Cloud and number of each run; the path instead of a number that several files have."""
    names = [NAMES["run"](run) for run in runs]
    return [
        name if names.count(name) == 1 else f"{run.cloud} {run.path}"
        for run, name in zip(runs, names, strict=True)
    ]


def _side(name: str, runs: Sequence[SavedRun]) -> Side:
    measured: dict[DatasetSize, dict[Setting, Measurement]] = {}
    for each in pool(each for run in runs for each in run.measurements):
        measured.setdefault(each.dataset, {})[each.setting] = each
    return Side(name, tuple(runs), measured)


def with_baseline(sides: Mapping[str, Side], wanted: str | None) -> dict[str, Side]:
    """The sides with the wanted one first: the name of a side, its cloud or its run's number.

    Raises `UsageError` where no side is meant by it.
    """
    if wanted is None:
        return dict(sides)
    for matches in (
        lambda side: side.name,
        lambda side: side.cloud,
        lambda side: _run_number(side.runs[0]),
    ):
        for name, side in sides.items():
            if matches(side).casefold() == wanted.casefold():
                return {name: side, **sides}
    raise UsageError(f"--baseline {wanted} is none of the sides: {', '.join(sides)}")


def facts(run: SavedRun) -> dict[str, str]:
    """The facts of a run's server and client, each by a name such as `setting fsync`."""
    server = {name: value for name, value in run.server.items() if name not in NOT_COMPARED}
    settings = run.server.get("settings")
    by_kind = {
        "server": server,
        "setting": settings if isinstance(settings, dict) else {},
        "client": run.client,
    }
    found = {
        f"{kind} {name}": f"{value}"
        for kind, values in by_kind.items()
        for name, value in values.items()
        if value is not None
    }
    shares = [each.others_share for each in run.measurements if each.others_share is not None]
    if shares:
        found[OTHER_WORK] = f"{statistics.fmean(shares):.0%}"
    return found


def alike(one: SavedRun, other: SavedRun) -> bool:
    """Whether two runs are of one cloud, with the same server, settings and kind of client."""

    def compared(run: SavedRun) -> dict[str, str]:
        return {
            name: value
            for name, value in facts(run).items()
            if name in DECISIVE or not name.startswith("client ")
        }

    return one.cloud == other.cloud and compared(one) == compared(other)


def differences(by_side: Mapping[str, Mapping[str, str]]) -> list[Difference]:
    """The facts that differ between sides, given the facts of each; the decisive ones first.

    A fact that a side did not record does not count: older files hold fewer.
    """
    names = {name for known in by_side.values() for name in known}
    found: list[Difference] = []
    for name in sorted(names, key=lambda name: (name not in DECISIVE, name)):
        values = {side: known[name] for side, known in by_side.items() if name in known}
        if name == OTHER_WORK:
            shares = [float(value.rstrip("%")) / 100 for value in values.values()]
            if max(shares) - min(shares) >= MIN_OTHER_WORK:
                found.insert(0, Difference(name, values, "client machine"))
        elif len(set(values.values())) > 1:
            found.append(Difference(name, values, DECISIVE.get(name)))
    return found


def caveats(by_side: Mapping[str, Mapping[str, str]]) -> tuple[Difference, ...]:
    """The decisive differences, which are reported beside every verdict."""
    return tuple(each for each in differences(by_side) if each.decides)


def pair(sides: Mapping[str, Side]) -> dict[DatasetSize, Sides]:
    """What the sides measured, by dataset.

    The dataset that most sides measured comes first, then the one with most measurements, then the
    largest.
    """
    datasets = {dataset for side in sides.values() for dataset in side.measured}
    paired = {
        dataset: {
            name: side.measured[dataset] for name, side in sides.items() if dataset in side.measured
        }
        for dataset in datasets
    }

    def rank(dataset: DatasetSize) -> tuple[int, int, DatasetSize]:
        of_sides = paired[dataset]
        return len(of_sides), sum(len(measured) for measured in of_sides.values()), dataset

    return {dataset: paired[dataset] for dataset in sorted(paired, key=rank, reverse=True)}


def unpaired(paired: Mapping[DatasetSize, Sides], sides: Mapping[str, Side]) -> list[str]:
    """A line for each side that lacks a dataset or settings that another has, with the reasons."""
    lines = []
    for dataset, of_sides in paired.items():
        settings = sorted({setting for measured in of_sides.values() for setting in measured})
        for name, side in sides.items():
            if name not in of_sides:
                lines.append(f"{name}: loaded other data, not {dataset}")
            elif missing := [setting for setting in settings if setting not in of_sides[name]]:
                lines.append(
                    f"{name}: {len(missing)} of {len(settings)} settings with {dataset} were not "
                    f"measured: {_listed(missing, side)}"
                )
    return lines


def _listed(missing: Sequence[Setting], side: Side) -> str:
    """The first few settings, each with the reason that the run gave for skipping it."""
    reasons = {each.setting: each.reason for run in side.runs for each in run.not_measured}
    named = [
        f"{setting} ({reasons[setting]})" if setting in reasons else f"{setting}"
        for setting in missing[:LISTED]
    ]
    if len(missing) > LISTED:
        named.append(f"and {len(missing) - LISTED} more")
    return "; ".join(named)
