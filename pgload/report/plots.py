"""The plots of a decision: what each chart shows, with its titles and units. `svg` draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pgload.contract import BOTTLENECKS, PARTS, Setting
from pgload.report.decision import Cost, Decision
from pgload.report.i18n import Words
from pgload.report.measurement import Measurement, RoundTimeline
from pgload.report.saved import read_timeline
from pgload.report.sides import Sides

LOGARITHMIC, LINEAR, BARS, STACKED, DOTS, SCATTER = "log line", "line", "bar", "stack", "dot", "xy"
PARAMETERS = ("method", "batch_size", "connections")  # of a Setting
THROUGHPUT_KINDS = {"batch_size": LOGARITHMIC, "connections": LINEAR, "method": BARS}
SHOWN_BATCHES = 250  # of each side over a load


@dataclass(frozen=True)
class Point:
    """A value, its range where it has one, and a note for its tooltip."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One chart before it is drawn."""

    name: str  # of its file
    kind: str  # LOGARITHMIC, LINEAR, BARS, STACKED, DOTS or SCATTER
    title: str
    subtitle: str
    x_title: str
    y_title: str
    unit: str  # a format for the values: `{:,.0f} records/s`
    series: Mapping[str, Mapping[Any, Point]]  # name → position (a number or a label) → point
    by_side: bool = True  # a series is a side and has its cloud's colour
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)  # side → checkpoints, in s
    mark: str = ""  # the legend's word for them
    side: str | None = None  # the side that is shown, where the series are not sides

    @property
    def positions(self) -> list[Any]:
        """All positions: numbers (and labels that are numbers, `1,000`) sorted by value.

        Other labels keep the order in which the series have them.
        """
        found = dict.fromkeys(position for points in self.series.values() for position in points)
        try:
            return sorted(found, key=lambda each: float(str(each).replace(",", "")))
        except ValueError:
            return list(found)


def plots(decision: Decision, words: Words) -> tuple[list[Plot], list[str]]:
    """The plots of a decision, and a line with the reason for each that has nothing to show."""
    shown = decision.shown
    sides = {name: decision.sides[name] for name in shown}
    best = {name: decision.best[name].measurement for name in shown}
    costs = {name: cost for name in shown if (cost := decision.best[name].cost) is not None}
    batches = {name: each for name in shown if (each := read_timeline(best[name])) is not None}
    dataset = decision.dataset
    data = words("dataset", records=f"{dataset.records:,}", size=f"{dataset.bytes / 1e6:,.1f}")

    groups: list[tuple[str, Iterable[Plot | None], str]] = [
        *(
            (
                f"throughput_by_{parameter}",
                [_throughput(widest_slice(sides, parameter), data, words)],
                f"no two settings differ in {parameter.replace('_', ' ')} alone",
            )
            for parameter in THROUGHPUT_KINDS
        ),
        (
            "throughput_grid",
            [_grid(side, measured, data, words) for side, measured in sides.items()],
            "no grid of batch sizes and connections was measured",
        ),
        ("batch_latency", [_latency(best, data, words)], "not recorded in these files"),
        (
            "batches_over_load",
            [_batches_over_load(best, batches, data, words)],
            "no file has data of single batches",
        ),
        ("time_by_part", [_time_by_part(best, data, words)], "not recorded in these files"),
        ("bottleneck", [_bottleneck(best, data, words)], "not recorded in these files"),
        (
            "cost",
            [_cost(best, costs, data, words)],
            "no price is known; set <CLOUD>_PRICE_PER_HOUR before a run",
        ),
    ]
    found: list[Plot] = []
    missing: list[str] = []
    for name, candidates, reason in groups:
        drawn = [plot for plot in candidates if plot is not None]
        found += drawn
        if not drawn:
            missing.append(f"{name}: {reason}")
    return found, missing


@dataclass(frozen=True)
class Slice:
    """Measurements of settings that differ in one parameter only."""

    parameter: str  # one of PARAMETERS
    fixed: Mapping[str, Any]  # the values of the other parameters
    lines: Mapping[str, Mapping[Any, Measurement]]  # side → value of the parameter → measurement

    @property
    def values(self) -> list[Any]:
        """The values of the parameter, sorted."""
        return sorted({value for line in self.lines.values() for value in line})


def widest_slice(sides: Sides, parameter: str) -> Slice:
    """Of all slices along a parameter the one with most values of it.

    Among equals the one with most measurements counts, then the one with the fastest load.
    """
    others = [each for each in PARAMETERS if each != parameter]
    slices: dict[tuple[Any, ...], dict[str, dict[Any, Measurement]]] = {}
    for name, measured in sides.items():
        for setting, each in sorted(measured.items()):
            fixed = tuple(getattr(setting, other) for other in others)
            lines = slices.setdefault(fixed, {})
            lines.setdefault(name, {})[getattr(setting, parameter)] = each

    def width(candidate: Slice) -> tuple[int, int, float]:
        measured = [each for line in candidate.lines.values() for each in line.values()]
        return len(candidate.values), len(measured), max(each.throughput for each in measured)

    return max(
        (
            Slice(parameter=parameter, fixed=dict(zip(others, fixed, strict=True)), lines=lines)
            for fixed, lines in slices.items()
        ),
        key=width,
    )


def _throughput(found: Slice, data: str, words: Words) -> Plot | None:
    """Throughput over the parameter in which the settings differ; None for a single value."""
    if len(found.values) < 2:
        return None
    name = f"throughput_by_{found.parameter}"
    fixed = ", ".join(
        f"{words(parameter)} {value:,}" if isinstance(value, int) else f"{words(parameter)} {value}"
        for parameter, value in found.fixed.items()
    )
    return Plot(
        name=name,
        kind=THROUGHPUT_KINDS[found.parameter],
        title=words(name),
        subtitle=f"{fixed}; {data}; {words('median_and_range')}",
        x_title=words(f"axis_{found.parameter}"),
        y_title=words("axis_throughput"),
        unit="{:,.0f} " + words("records_per_second"),
        series={
            side: {value: _throughput_point(line[value], words) for value in sorted(line)}
            for side, line in found.lines.items()
        },
    )


def _throughput_point(each: Measurement, words: Words) -> Point:
    low, high = each.throughput_min, each.throughput_max
    note = words("min_max_rounds", low=f"{low:,.0f}", high=f"{high:,.0f}", n=len(each.rounds))
    return Point(value=each.throughput, low=low, high=high, note=note)


def _grid(
    side: str, measured: Mapping[Setting, Measurement], data: str, words: Words
) -> Plot | None:
    """Batch size × connections of the method with most settings.

    None unless two numbers of connections were measured with two batch sizes each.
    """
    by_method: dict[str, dict[int, dict[int, Point]]] = {}  # → connections → batch size → point
    for setting, each in sorted(measured.items()):
        rows = by_method.setdefault(setting.method, {})
        row = rows.setdefault(setting.connections, {})
        row[setting.batch_size] = _throughput_point(each, words)
    grids = {
        method: rows
        for method, rows in by_method.items()
        if sum(len(row) > 1 for row in rows.values()) > 1
    }
    if not grids:
        return None
    method = max(grids, key=lambda method: sum(map(len, grids[method].values())))
    file_name = "".join(char if char.isalnum() else "_" for char in side)
    return Plot(
        name=f"throughput_grid_{file_name}",
        kind=DOTS,
        title=f"{words('throughput_grid')}: {side}",
        subtitle=f"{words('method')} {method}; {data}; {words('axis_throughput')}",
        x_title=words("axis_batch_size_plain"),
        y_title=words("axis_connections"),
        unit="{:,.0f} " + words("records_per_second"),
        series={
            f"{connections:,}": row for connections, row in sorted(grids[method].items())[::-1]
        },
        by_side=False,
        side=side,
    )


def _at_best(best: Mapping[str, Measurement], data: str, words: Words) -> str:
    """A subtitle: the setting of each side for up to two sides, and the dataset."""
    settings = {each.setting.short for each in best.values()}
    if len(settings) == 1:
        shown = settings.pop()
    elif len(best) == 2:
        shown = ", ".join(f"{name} {each.setting.short}" for name, each in best.items())
    else:
        shown = words("each_at_best")
    return f"{shown}; {data}"


def _latency(best: Mapping[str, Measurement], data: str, words: Words) -> Plot:
    """The percentiles of the tables, from the same key of the saved run."""
    return Plot(
        name="batch_latency",
        kind=BARS,
        title=words("batch_latency"),
        subtitle=_at_best(best, data, words),
        x_title=words("axis_percentile"),
        y_title=words("axis_batch_ms"),
        unit="{:,.1f} ms",
        series={
            side: {
                percentile: Point(
                    value=getattr(each.latency, percentile) * 1000, note=each.setting.short
                )
                for percentile in ("p50", "p95", "p99", "max")
            }
            for side, each in best.items()
        },
    )


def _batches_over_load(
    best: Mapping[str, Measurement], batches: Mapping[str, RoundTimeline], data: str, words: Words
) -> Plot | None:
    if not batches:
        return None
    return Plot(
        name="batches_over_load",
        kind=SCATTER,
        title=words("batches_over_load"),
        subtitle=_at_best({side: best[side] for side in batches}, data, words),
        x_title=words("axis_seconds"),
        y_title=words("axis_batch_ms"),
        unit="{:,.1f} ms",
        series={side: dict(_downsample(each)) for side, each in batches.items()},
        mark=words("checkpoint"),
        marks={side: each.checkpoints for side, each in batches.items() if each.checkpoints},
    )


def _downsample(batches: RoundTimeline) -> Iterator[tuple[float, Point]]:
    """Start in s and latency in ms of at most `SHOWN_BATCHES` batches, by start.

    Each bucket of consecutive batches gives its slowest: a mean or a sample would lose the batch
    that had to wait.
    """
    in_order = sorted(zip(batches.start, batches.seconds, strict=True))
    cuts = [round(n * len(in_order) / SHOWN_BATCHES) for n in range(SHOWN_BATCHES + 1)]
    for low, high in pairwise(cuts):
        if low < high:
            start, seconds = max(in_order[low:high], key=lambda batch: batch[1])
            yield start, Point(value=seconds * 1000)


def _time_by_part(best: Mapping[str, Measurement], data: str, words: Words) -> Plot | None:
    def shares(each: Measurement) -> dict[str, float]:
        total = sum(each.profile.values())
        return {part: seconds / total for part, seconds in each.profile.items() if total}

    return _stacked("time_by_part", PARTS, shares, best, data, words)


def _bottleneck(best: Mapping[str, Measurement], data: str, words: Words) -> Plot | None:
    return _stacked(
        "bottleneck", BOTTLENECKS, lambda each: each.bottleneck_shares, best, data, words
    )


def _stacked(
    name: str,
    parts: Sequence[str],
    shares: Callable[[Measurement], Mapping[str, float]],
    best: Mapping[str, Measurement],
    data: str,
    words: Words,
) -> Plot | None:
    """The shares of the parts in percent, a bar for each side that has any; None without one."""
    known = {side: shares(each) for side, each in best.items() if any(shares(each).values())}
    if not known:
        return None
    return Plot(
        name=name,
        kind=STACKED,
        title=words(name),
        subtitle=_at_best({side: best[side] for side in known}, data, words),
        x_title=words("axis_side"),
        y_title=words("axis_share"),
        unit="{:,.0f} %",
        series={
            words(part): {
                side: Point(value=100 * of_side[part])
                for side, of_side in known.items()
                if part in of_side
            }
            for part in parts
            if any(of_side.get(part) for of_side in known.values())
        },
        by_side=False,
    )


def _cost(
    best: Mapping[str, Measurement], costs: Mapping[str, Cost], data: str, words: Words
) -> Plot | None:
    if not costs:
        return None
    return Plot(
        name="cost",
        kind=BARS,
        title=words("cost"),
        subtitle=_at_best({side: best[side] for side in costs}, data, words),
        x_title="",
        y_title=words("axis_dollars"),
        unit="${:,.4f}",
        series={
            side: {words("best_setting"): Point(value=each.dollars, note=f"{each}")}
            for side, each in costs.items()
        },
    )
