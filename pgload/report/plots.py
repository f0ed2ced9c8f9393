"""What is drawn: a decision → plots, which `charts.py` turns into SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pgload.contract import BOTTLENECKS, PARTS, Setting
from pgload.report.decision import Decision
from pgload.report.i18n import Words
from pgload.report.measurement import Measurement, RoundTimeline
from pgload.report.saved import read_timeline
from pgload.report.sides import Sides

LOGARITHMIC, LINEAR, BARS, STACKED, DOTS, SCATTER = "log line", "line", "bar", "stack", "dot", "xy"


@dataclass(frozen=True)
class Point:
    """A value, its spread where it has one, and what its tooltip says beside it."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """One chart before it is drawn."""

    name: str  # of its file
    kind: str
    title: str
    subtitle: str
    x_title: str
    y_title: str
    unit: str  # a format for the values: `{:,.0f} records/s`
    series: Mapping[str, Mapping[Any, Point]]  # name → position or label → point
    by_side: bool = True  # a series is a side and has its cloud's colour
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)  # side → checkpoints, in s
    mark: str = ""  # what they are called
    side: str | None = None  # the one it is about, where that is not a series

    @property
    def positions(self) -> list[Any]:
        """All positions in order; labels stay in the order in which they come."""
        found = dict.fromkeys(position for points in self.series.values() for position in points)
        return list(found) if any(isinstance(each, str) for each in found) else sorted(found)


PARAMETERS = ("method", "batch_size", "connections")


@dataclass(frozen=True)
class Slice:
    """Measurements of settings that differ in one parameter alone."""

    parameter: str  # the one that differs: method, batch_size or connections
    fixed: Mapping[str, Any]  # the others
    lines: Mapping[str, Mapping[Any, Measurement]]  # side → value of the parameter → measurement

    @property
    def values(self) -> list[Any]:
        """The values of the parameter that differs, in order."""
        return sorted({value for line in self.lines.values() for value in line})

    @property
    def measurements(self) -> list[Measurement]:
        return [each for line in self.lines.values() for each in line.values()]


def widest_slice(sides: Sides, parameter: str) -> Slice:
    """Of all slices along a parameter the one with most values of it.

    Among equals the one with most measurements counts, then the one with the fastest load.
    """
    slices: dict[tuple[Any, ...], dict[str, dict[Any, Measurement]]] = {}
    others = [each for each in PARAMETERS if each != parameter]
    for name, measured in sides.items():
        for setting, each in sorted(measured.items()):
            fixed = tuple(getattr(setting, other) for other in others)
            lines = slices.setdefault(fixed, {})
            lines.setdefault(name, {})[getattr(setting, parameter)] = each

    def width(candidate: Slice) -> tuple[int, int, float]:
        measured = candidate.measurements
        return len(candidate.values), len(measured), max(each.throughput for each in measured)

    return max(
        (
            Slice(parameter, dict(zip(others, fixed, strict=True)), lines)
            for fixed, lines in slices.items()
        ),
        key=width,
    )


SHOWN_BATCHES = 250  # of each side over a load
PERCENTILES = (50, 90, 95, 99, 100)


def plots(decision: Decision, words: Words) -> tuple[list[Plot], list[str]]:
    """The plots of a decision, and the names of those with nothing to show, with the reason."""
    drawn = decision.shown
    sides = {name: decision.sides[name] for name in drawn}
    best = {name: decision.best[name].measurement for name in drawn}
    dataset = decision.dataset
    data = words("dataset", records=f"{dataset.records:,}", size=f"{dataset.bytes / 1e6:,.1f}")
    found: list[Plot] = []
    missing: list[str] = []
    for parameter in ("batch_size", "connections", "method"):
        name = f"throughput_by_{parameter}"
        shown = widest_slice(sides, parameter)
        if len(shown.values) > 1:
            found.append(_throughput(name, shown, data, words))
        else:
            axis = parameter.replace("_", " ")
            missing.append(f"{name}: no two settings differ in {axis} alone")
    grids = [plot for name in drawn if (plot := _grid(name, sides[name], data, words)) is not None]
    found += grids
    if not grids:
        missing.append("throughput_grid: no grid of batch sizes and connections was measured")
    batches = {name: each for name in drawn if (each := read_timeline(best[name])) is not None}
    found.append(_latency(best, batches, data, words))
    if batches:
        found.append(_over_load(best, batches, data, words))
    else:
        missing.append("batches_over_load: no file holds single batches")
    profiles = {side: each.profile for side, each in best.items()}
    held_back = {side: each.bottleneck_shares for side, each in best.items()}
    for name, parts, by_side in (
        ("time_by_part", PARTS, profiles),
        ("bottleneck", BOTTLENECKS, held_back),
    ):
        if known := {side: each for side, each in by_side.items() if sum(each.values())}:
            found.append(_stacked(name, parts, known, best, data, words))
        else:
            missing.append(f"{name}: not recorded in these files")
    if cost := _cost(decision, drawn, data, words):
        found.append(cost)
    else:
        missing.append("cost: no price is known; set <CLOUD>_PRICE_PER_HOUR before a run")
    return found, missing


def _throughput(name: str, shown: Slice, data: str, words: Words) -> Plot:
    kinds = {"batch_size": LOGARITHMIC, "connections": LINEAR, "method": BARS}
    fixed = ", ".join(
        f"{words(name)} {value:,}" if isinstance(value, int) else f"{words(name)} {value}"
        for name, value in shown.fixed.items()
    )
    return Plot(
        name,
        kinds[shown.parameter],
        words(name),
        f"{fixed}; {data}; {words('median_and_range')}",
        words(f"axis_{shown.parameter}"),
        words("axis_throughput"),
        "{:,.0f} " + words("records_per_second"),
        {
            side: {value: _rate(line[value], words) for value in shown.values if value in line}
            for side, line in shown.lines.items()
        },
    )


def _rate(each: Measurement, words: Words) -> Point:
    low, high = each.throughput_min, each.throughput_max
    note = words("min_max_rounds", low=f"{low:,.0f}", high=f"{high:,.0f}", n=len(each.rounds))
    return Point(each.throughput, low, high, note)


def _grid(
    side: str, measured: Mapping[Setting, Measurement], data: str, words: Words
) -> Plot | None:
    """Batch size × connections of the method that has most cells, if it spans two of both."""
    cells: dict[str, dict[int, dict[int, Point]]] = {}
    for setting, each in sorted(measured.items()):
        rows = cells.setdefault(setting.method, {})
        rows.setdefault(setting.connections, {})[setting.batch_size] = _rate(each, words)
    squares = {
        method: rows
        for method, rows in cells.items()
        if sum(len(row) > 1 for row in rows.values()) > 1
    }
    if not squares:
        return None
    method = max(squares, key=lambda method: sum(map(len, squares[method].values())))
    sizes = sorted({size for row in squares[method].values() for size in row})
    return Plot(
        f"throughput_grid_{_file_name(side)}",
        DOTS,
        f"{words('throughput_grid')}: {side}",
        f"{words('method')} {method}; {data}; {words('axis_throughput')}",
        words("axis_batch_size_plain"),
        words("axis_connections"),
        "{:,.0f} " + words("records_per_second"),
        {
            f"{connections:,}": {f"{size:,}": row[size] for size in sizes if size in row}
            for connections, row in sorted(squares[method].items(), reverse=True)
        },
        by_side=False,
        side=side,
    )


def _file_name(side: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in side)


def _at_best(best: Mapping[str, Measurement], data: str, words: Words) -> str:
    """The setting that each side is shown with, where there is room to say it."""
    settings = {each.setting for each in best.values()}
    if len(settings) == 1:
        return f"{next(iter(settings)).short}; {data}"
    if len(best) <= 2:
        each = ", ".join(f"{name} {each.setting.short}" for name, each in best.items())
        return f"{each}; {data}"
    return f"{words('each_at_best')}; {data}"


def _latency(
    best: Mapping[str, Measurement], batches: Mapping[str, RoundTimeline], data: str, words: Words
) -> Plot:
    def points(name: str) -> dict[str, Point]:
        each, note = best[name], best[name].setting.short
        if len(batches) == len(best):  # otherwise what all files hold
            seconds = sorted(batches[name].seconds)
            last = len(seconds) - 1
            values = {
                "max" if p == 100 else f"p{p}": seconds[round(last * p / 100)] for p in PERCENTILES
            }
        else:
            latency = each.latency
            values = dict(
                zip(
                    ("p50", "p95", "p99", "max"),
                    (latency.p50, latency.p95, latency.p99, latency.max),
                    strict=True,
                )
            )
        return {label: Point(value * 1000, note=note) for label, value in values.items()}

    return Plot(
        "batch_latency",
        BARS,
        words("batch_latency"),
        _at_best(best, data, words),
        words("axis_percentile"),
        words("axis_batch_ms"),
        "{:,.1f} ms",
        {name: points(name) for name in best},
    )


def _over_load(
    best: Mapping[str, Measurement], batches: Mapping[str, RoundTimeline], data: str, words: Words
) -> Plot:
    return Plot(
        "batches_over_load",
        SCATTER,
        words("batches_over_load"),
        f"{_at_best({name: best[name] for name in batches}, data, words)}",
        words("axis_seconds"),
        words("axis_batch_ms"),
        "{:,.1f} ms",
        {name: dict(_outline(each)) for name, each in batches.items()},
        mark=words("checkpoint"),
        marks={name: each.checkpoints for name, each in batches.items() if each.checkpoints},
    )


def _outline(batches: RoundTimeline) -> Iterator[tuple[float, Point]]:
    """The batches in the order of their start; of many, the slowest of each stretch of time.

    What is looked for is the batch that waited, which a mean or a sample would lose.
    """
    in_order = sorted(zip(batches.start, batches.seconds, strict=True))
    cuts = [round(n * len(in_order) / SHOWN_BATCHES) for n in range(SHOWN_BATCHES + 1)]
    stretches = [in_order[low:high] for low, high in pairwise(cuts) if low < high]
    for stretch in stretches:
        start, seconds = max(stretch, key=lambda batch: batch[1])
        yield start, Point(seconds * 1000)


def _stacked(
    name: str,
    parts: Sequence[str],
    known: Mapping[str, Mapping[str, float]],
    best: Mapping[str, Measurement],
    data: str,
    words: Words,
) -> Plot:
    """The parts of a whole, for each side as percent of it."""
    return Plot(
        name,
        STACKED,
        words(name),
        _at_best({side: best[side] for side in known}, data, words),
        words("axis_side"),
        words("axis_share"),
        "{:,.0f} %",
        {
            words(part): {
                side: Point(100 * shares[part] / sum(shares.values()))
                for side, shares in known.items()
                if part in shares
            }
            for part in parts
            if any(shares.get(part) for shares in known.values())
        },
        by_side=False,
    )


def _cost(decision: Decision, drawn: Sequence[str], data: str, words: Words) -> Plot | None:
    costs = {name: each for name in drawn if (each := decision.best[name].cost) is not None}
    if not costs:
        return None
    best = {name: decision.best[name].measurement for name in costs}
    return Plot(
        "cost",
        BARS,
        words("cost"),
        _at_best(best, data, words),
        "",
        words("axis_dollars"),
        "${:,.4f}",
        {
            name: {words("best_setting"): Point(each.dollars, note=f"{each}")}
            for name, each in costs.items()
        },
    )
