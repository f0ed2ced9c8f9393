"""Plots → SVG charts, by pygal, in one style.

Every chart stands alone: fonts of the reader's system, the script of the tooltips inside, nothing
from the web; on a dark screen it is dark. The same plot gives the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from math import log10
from pathlib import Path
from typing import Any

import pygal
import pygaljs
from pygal.style import Style

from pgload.report.plots import (
    BARS,
    DOTS,
    LINEAR,
    LOGARITHMIC,
    SCATTER,
    STACKED,
    Plot,
    Point,
)

# The palette of Okabe and Ito (2008), which the colour-blind tell apart too. A cloud keeps its
# colour in every chart; names that are not here take the colours that are left.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, GREY, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#7F7F7F", "#F0E442"
# Grey first: it is no cloud's, so that a second run of one does not look like another cloud.
PALETTE = (GREY, BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, YELLOW)
CLOUD_COLOURS = {
    "GCP": BLUE,
    "AWS": VERMILLION,
    "AZURE": GREEN,
    "NEON": ORANGE,
    "NCP": YELLOW,
    "CONTAINER": SKY,
    "EMBEDDED": PURPLE,
}
# Parts of a whole are no clouds. Steps of viridis: in order of brightness, so that they are told
# apart in a print without colours as well.
PARTS = (
    *("#440154", "#46327E", "#365C8D", "#277F8E"),
    *("#1FA187", "#4AC16D", "#A0DA39", "#FDE725"),
)


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each side. The first side of a cloud (`GCP 0001`) has the cloud's colour."""
    names = list(names)
    given: dict[str, str] = {}
    for name in names:
        colour = CLOUD_COLOURS.get(name.split(" ")[0])
        if colour and colour not in given.values():
            given[name] = colour
    free = cycle([each for each in PALETTE if each not in given.values()] or PALETTE)
    return {name: given.get(name) or next(free) for name in names}


# pygal adds an importer for its maps that Python 3.11 warns about at every later import.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != pygal.__name__]

DODGE = 0.012  # of the axis, between the points of two sides, so that no whisker hides another
LEGEND_COLUMNS = 4
XML = '<?xml version="1.0" encoding="utf-8"?>\n'
END_OF_DEFS = "</defs>"
CSS = """
.plot_title + .plot_title { font-size: 12px !important }
.axis .guide.line { stroke-dasharray: none !important }
.dot-graph .text-overlay text { font-size: 12px !important; text-anchor: middle }
@media screen and (prefers-color-scheme: dark) {
  svg.pygal-chart, .pygal-chart .background { background: transparent !important;
    fill: #16181d !important }
  .pygal-chart .title, .pygal-chart .axis text, .pygal-chart .legend text,
  .pygal-chart .tooltip text { fill: #e6e6e6 !important }
  .pygal-chart .tooltip rect { fill: #2a2d34 !important; stroke: #888 !important }
  .pygal-chart .axis .line { stroke: #888 !important }
  .pygal-chart .axis .guide.line { stroke: #3a3d44 !important }
  .pygal-chart .text-overlay text { fill: #fff !important }
  .bar-graph .ci { stroke: #e6e6e6 !important }
}
"""


def stand_alone(svg: str) -> str:
    """The chart as a file: with the script of its tooltips, which a page has once for all."""
    script = f'<script type="text/javascript">{tooltip_script()}</script>'
    head, _, tail = svg.partition(END_OF_DEFS)
    return f"{XML}{head}{script}{END_OF_DEFS}{tail}"


def tooltip_script(*, xml: bool = True) -> str:
    """The script that shows what a mouse points at, escaped for XML or plain for HTML."""
    script = Path(pygaljs.path("latest", "pygal-tooltips.min.js")).read_text("utf-8")
    return script.replace("&", "&amp;").replace("<", "&lt;") if xml else script


def draw(plot: Plot, sides: Mapping[str, str] | None = None) -> str:
    """The plot as SVG without a script. `sides` gives the colours of all sides of a report."""
    by_name = sides or colours(plot.series)
    chart = DRAW[plot.kind](plot, _config(plot, by_name))
    chart.uuid = plot.name  # else a new one each time; it marks the chart's own styles on a page
    chart.add_xml_filter(_without_comments)
    chart.add_xml_filter(lambda svg: _described(svg, plot))
    svg: str = chart.render(is_unicode=True)
    return svg


def _line(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    """A line for each side over numbers, side by side where points would cover each other."""
    # Throughput levels off as batches grow, so every doubling gets the same width: on a linear
    # axis the small sizes, where it still changes, would share a corner. Over connections it is
    # linear and from zero: throughput that grows with them is a straight line.
    scale: Callable[[float], float] = log10 if plot.kind == LOGARITHMIC else float
    positions = plot.positions
    low = scale(positions[0]) if plot.kind == LOGARITHMIC else 0.0
    width = scale(positions[-1]) - low
    chart = _Line(
        **config,
        x_labels=[{"value": scale(each), "label": f"{each:,}"} for each in positions],
        xrange=(low - width * 0.03, scale(positions[-1]) + width * 0.03),
    )
    for number, (name, points) in enumerate(plot.series.items()):
        aside = width * DODGE * (number - (len(plot.series) - 1) / 2)
        chart.add(
            name,
            [
                {**_point(plot, point, f"{each:,}"), "value": (scale(each) + aside, point.value)}
                for each, point in sorted(points.items())
            ],
        )
    return chart


class _Line(pygal.XY):  # type: ignore[misc]  # pygal has no types
    """Lines over numeric positions, with whiskers, which pygal gives to categories only."""

    def _confidence_interval(
        self, node: Any, x: float, y: float, value: Any, metadata: Any
    ) -> None:
        super()._confidence_interval(node, x, y, value[1], metadata)


def _bars(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    kind = pygal.StackedBar if plot.kind == STACKED else pygal.Bar
    chart = kind(**config, x_labels=[str(each) for each in plot.positions])
    for name, points in plot.series.items():
        chart.add(
            name,
            [
                _point(plot, points[each], str(each)) if each in points else None
                for each in plot.positions
            ],
        )
    return chart


def _dots(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    """Batch size × connections: the larger a dot, the faster."""
    labels = list(plot.positions)
    config |= {"show_legend": False, "print_values": True, "range": None}
    chart = pygal.Dot(**config, x_labels=labels)
    for name, points in plot.series.items():
        chart.add(
            name,
            [
                {**_point(plot, points[each], each), "formatter": "{:,.0f}".format}
                if each in points
                else None
                for each in labels
            ],
        )
    return chart


def _scatter(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    """Points over time, and a dashed line for every checkpoint."""
    chart = pygal.XY(**{**config, "dots_size": 2.5}, stroke=False)
    top = max(point.value for points in plot.series.values() for point in points.values())
    for name, points in plot.series.items():
        dots = [
            {**_point(plot, point, f"{start:,.2f} s"), "value": (start, point.value)}
            for start, point in points.items()
        ]
        chart.add(name, dots)
    for name, marks in plot.marks.items():
        lines = [each for mark in marks for each in ((mark, 0), (mark, top), None)]
        chart.add(
            f"{name}: {plot.mark}",
            lines,
            stroke=True,
            show_dots=False,
            allow_interruptions=True,
            stroke_style={"dasharray": "6, 4", "width": 2},
        )
    return chart


DRAW: Mapping[str, Callable[[Plot, dict[str, Any]], pygal.Graph]] = {
    LOGARITHMIC: _line,
    LINEAR: _line,
    BARS: _bars,
    STACKED: _bars,
    DOTS: _dots,
    SCATTER: _scatter,
}


def _point(plot: Plot, point: Point, where: str) -> dict[str, Any]:
    """A value for pygal: with whiskers, and the text of its tooltip."""
    text = plot.unit.format(point.value)
    made: dict[str, Any] = {
        "value": point.value,
        "formatter": lambda _: text,
        "label": f"{where}; {point.note}" if point.note else where,
    }
    if point.low is not None and point.high is not None:
        made["ci"] = {"low": point.low, "high": point.high}
    return made


def _colours(plot: Plot, sides: Mapping[str, str]) -> tuple[str, ...]:
    if plot.kind == DOTS:
        return (sides.get(plot.side or "", PARTS[2]),) * len(plot.series)
    if not plot.by_side:
        return PARTS[: len(plot.series)]
    return tuple(sides[name] for name in (*plot.series, *plot.marks))


def _config(plot: Plot, sides: Mapping[str, str]) -> dict[str, Any]:
    """What the charts have in common."""
    colours = _colours(plot, sides)
    bars = plot.kind in (BARS, STACKED)
    points = [point for points in plot.series.values() for point in points.values()]
    entries = len(plot.series) + len(plot.marks)
    columns = min(LEGEND_COLUMNS, entries)
    top = 100.0 if plot.kind == STACKED else max(each.high or each.value for each in points)
    return {
        "title": f"{plot.title}\n{plot.subtitle}",
        "x_title": plot.x_title,
        "y_title": plot.y_title,
        "style": Style(
            colors=colours,
            ci_colors=("black",) * len(colours) if bars else colours,
            # the whisker's lower half lies on the bar, the number on the dot
            opacity="0.75" if plot.kind == BARS else "1",
            dot_opacity="0.4" if plot.kind == DOTS else "1",
            background="white",
            font_family="system-ui, sans-serif",
            label_font_size=13,
            major_label_font_size=13,
            legend_font_size=13,
            title_font_size=16,
            tooltip_font_size=13,
            value_colors=("black",) * len(colours),
            guide_stroke_color="#dddddd",
            major_guide_stroke_color="#dddddd",
            stroke_opacity="1",
            stroke_width="2",
        ),
        "width": 760,
        "height": max(460, 170 + 46 * len(plot.series)) if plot.kind == DOTS else 460,
        "range": (0, top or 1),  # from zero, and with room for the whiskers
        "include_x_axis": True,
        "max_scale": 8,
        "value_formatter": ("${:,.4f}" if "$" in plot.unit else "{:,.6g}").format,
        "truncate_label": -1,
        "truncate_legend": -1,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": columns,
        # pygal reserves no room for a last row that is not full
        "margin_bottom": 20 + (22 if entries % columns else 0),
        "dots_size": 5,
        "css": ["file://style.css", "file://graph.css", f"inline:{CSS}"],
        "js": (),  # else a script on the web
        "disable_xml_declaration": True,
    }


def _without_comments(svg: Any) -> Any:
    """Take out pygal's comments, which hold a date and links."""
    for node in list(svg):
        if not isinstance(node.tag, str):
            svg.remove(node)
    return svg


def _described(svg: Any, plot: Plot) -> Any:
    """Tell a reader that does not see what the picture is; its numbers stand in a table."""
    svg.set("role", "img")
    svg.set("aria-label", f"{plot.title}. {plot.subtitle}")
    return svg
