"""Throughput as SVG charts: by batch size, by connections, by method.

Every chart stands alone: fonts of the reader's system, the script of the tooltips inside, nothing
from the web. The same measurements give the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from math import log10
from pathlib import Path
from typing import Any

import pygal
import pygaljs
from pygal.style import Style

from pgload.report.measurement import Dataset, Measurement
from pgload.report.pairing import Sides

# pygal adds an importer for its maps that Python 3.11 warns about at every later import.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != pygal.__name__]

# The palette of Okabe and Ito (2008), which the colour-blind tell apart too. A cloud keeps its
# colour in every chart; names that are not here take the colours that are left.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, BLACK, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#F0E442"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW)
CLOUD_COLOURS = {
    "GCP": BLUE,
    "AWS": VERMILLION,
    "AZURE": GREEN,
    "NEON": ORANGE,
    "NCP": YELLOW,
    "CONTAINER": SKY,
    "EMBEDDED": PURPLE,
}

X_TITLES = {
    "batch_size": "batch size, records (logarithmic scale)",
    "connections": "number of connections",
    "method": "method",
}
SUBTITLE_CSS = ".plot_title + .plot_title { font-size: 13px !important }"
# A setting's parameters in words, for the line under a title.
PARAMETERS = {
    "method": "method {}",
    "batch_size": "batch size {:,}",
    "connections": "connections {:,}",
}


@dataclass(frozen=True)
class Slice:
    """Measurements of settings that differ in one parameter alone."""

    parameter: str  # the one that differs: method, batch_size or connections
    fixed: str  # the others, in words
    lines: Mapping[str, Mapping[Any, Measurement]]  # side → value of the parameter → measurement

    @property
    def values(self) -> list[Any]:
        """The values of the parameter that differs, in order."""
        return sorted({value for line in self.lines.values() for value in line})

    @property
    def measurements(self) -> list[Measurement]:
        return [each for line in self.lines.values() for each in line.values()]


def write_charts(dataset: Dataset, sides: Sides, folder: Path) -> tuple[list[Path], list[str]]:
    """Write the charts into `folder`; gives the files written, and why others were not.

    A chart with nothing to draw is removed from the folder if an earlier comparison left it there.
    Raises `OSError` where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written, missing = [], []
    for parameter, draw in (
        ("batch_size", _by_batch_size),
        ("connections", _by_connections),
        ("method", _by_method),
    ):
        name = f"throughput_by_{parameter}"
        path = folder / f"{name}.svg"
        shown = widest_slice(sides, parameter)
        if len(shown.values) > 1:
            chart = draw(shown, _config(shown, dataset, colours(sides)))
            path.write_bytes(_render(chart, name))
            written.append(path)
        else:
            removed = ", so the older one is removed" if path.exists() else ""
            path.unlink(missing_ok=True)
            axis = parameter.replace("_", " ")
            missing.append(f"{path}: not drawn, no two settings differ in {axis} alone{removed}")
    return written, missing


def widest_slice(sides: Sides, parameter: str) -> Slice:
    """Of all slices along a parameter the one with most values of it.

    Among equals the one with most measurements counts, then the one with the fastest load.
    """
    slices: dict[str, dict[str, dict[Any, Measurement]]] = {}
    for name, measured in sides.items():
        for setting, each in sorted(measured.items()):
            fixed = ", ".join(
                words.format(getattr(setting, other))
                for other, words in PARAMETERS.items()
                if other != parameter
            )
            lines = slices.setdefault(fixed, {})
            lines.setdefault(name, {})[getattr(setting, parameter)] = each

    def width(candidate: Slice) -> tuple[int, int, float]:
        measured = candidate.measurements
        return len(candidate.values), len(measured), max(each.throughput for each in measured)

    return max((Slice(parameter, fixed, lines) for fixed, lines in slices.items()), key=width)


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each side; the same for a cloud wherever it is drawn."""
    names = list(names)
    taken = [CLOUD_COLOURS[name] for name in names if name in CLOUD_COLOURS]
    free = cycle([colour for colour in PALETTE if colour not in taken] or PALETTE)
    return {name: CLOUD_COLOURS.get(name) or next(free) for name in names}


def _by_batch_size(shown: Slice, config: dict[str, Any]) -> pygal.Graph:
    # Throughput levels off as batches grow, so every doubling gets the same width: on a linear
    # axis the small sizes, where it still changes, would share a corner.
    return _line_chart(shown, config, position=log10)


def _by_connections(shown: Slice, config: dict[str, Any]) -> pygal.Graph:
    # Linear and from zero: throughput that grows with the connections is a straight line.
    return _line_chart(shown, {**config, "xrange": (0, shown.values[-1])}, position=float)


def _by_method(shown: Slice, config: dict[str, Any]) -> pygal.Graph:
    chart = pygal.Bar(**config, x_labels=shown.values)
    for name, line in shown.lines.items():
        bars = [
            _point(shown, value, line[value]) if value in line else None for value in shown.values
        ]
        chart.add(name, bars)
    return chart


class _LineChart(pygal.XY):  # type: ignore[misc]  # pygal has no types
    """Lines over numeric positions, with whiskers, which pygal gives to categories only."""

    def _confidence_interval(
        self, node: Any, x: float, y: float, value: Any, metadata: Any
    ) -> None:
        super()._confidence_interval(node, x, y, value[1], metadata)


def _line_chart(
    shown: Slice, config: dict[str, Any], position: Callable[[float], float]
) -> pygal.Graph:
    chart = _LineChart(
        **config,
        x_labels=[{"value": position(value), "label": f"{value:,}"} for value in shown.values],
    )
    for name, line in shown.lines.items():
        points = [
            {**_point(shown, value, each), "value": (position(value), each.throughput)}
            for value, each in line.items()
        ]
        chart.add(name, points)
    return chart


def _point(shown: Slice, value: Any, each: Measurement) -> dict[str, Any]:
    """A value for pygal: with whiskers, and the text of its tooltip."""
    where = PARAMETERS[shown.parameter].format(value)
    low, high = each.throughput_min, each.throughput_max
    return {
        "value": each.throughput,
        "ci": {"low": low, "high": high},
        "formatter": lambda _: f"{each.throughput:,.0f} records/s",
        "label": f"{where}; min–max {low:,.0f}–{high:,.0f}, rounds: {len(each.rounds)}",
    }


def _config(shown: Slice, dataset: Dataset, by_side: Mapping[str, str]) -> dict[str, Any]:
    """What the charts have in common; `by_side` gives the colours."""
    line_colours = tuple(by_side[name] for name in shown.lines)
    bars = shown.parameter == "method"
    return {
        "title": f"Throughput by {shown.parameter.replace('_', ' ')}\n"
        f"{shown.fixed}; {dataset}; median, whiskers min–max",
        "x_title": X_TITLES[shown.parameter],
        "y_title": "throughput, records/s",
        "style": Style(
            colors=line_colours,
            ci_colors=("black",) * len(line_colours) if bars else line_colours,
            opacity="0.7" if bars else "1",  # the whisker's lower half lies on the bar
            background="white",
            font_family="system-ui, sans-serif",
            label_font_size=13,
            major_label_font_size=13,
            title_font_size=16,
            tooltip_font_size=13,
            guide_stroke_color="#cccccc",
            major_guide_stroke_color="#cccccc",
            stroke_opacity="1",
            stroke_width="2",
        ),
        "width": 900,
        "height": 540,
        # from zero, and with room for the whiskers
        "range": (0, max(each.throughput_max for each in shown.measurements)),
        "include_x_axis": True,
        "max_scale": 8,
        "value_formatter": "{:,.0f}".format,
        "truncate_label": -1,
        "truncate_legend": -1,
        "legend_at_bottom": True,
        # pygal reserves too few rows for its own guess at the columns of four sides and less
        "legend_at_bottom_columns": len(shown.lines) if len(shown.lines) <= 4 else None,
        "dots_size": 5,
        "css": ["file://style.css", "file://graph.css", f"inline:{SUBTITLE_CSS}"],
        "js": (),  # else a script on the web
    }


def _render(chart: pygal.Graph, name: str) -> bytes:
    chart.uuid = name  # else a new one each time; it marks the chart's own styles on a page
    chart.add_xml_filter(_stand_alone)
    svg: bytes = chart.render()
    return svg


def _stand_alone(svg: Any) -> Any:
    """Take out pygal's comments, which hold a date and links, and put the tooltips' script in."""
    for node in list(svg):
        if not isinstance(node.tag, str):
            svg.remove(node)
    script = svg.makeelement("script", {"type": "text/javascript"})
    script.text = Path(pygaljs.path("latest", "pygal-tooltips.min.js")).read_text("utf-8")
    svg.find("defs").append(script)
    return svg
