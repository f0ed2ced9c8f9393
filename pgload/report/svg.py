"""Draws plots as SVG charts, with pygal, in one style.

Every chart is self-contained: system fonts, the script of the tooltips inside, nothing loaded from
the web. It follows a dark colour scheme. The same plot gives the same bytes.
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

from pgload.report.plots import BARS, DOTS, LINEAR, LOGARITHMIC, SCATTER, STACKED, Plot, Point

# pygal adds an importer for its maps that Python 3.11 warns about at every later import.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != pygal.__name__]

# The palette of Okabe and Ito (2008), which colour-blind readers can tell apart too. A cloud has
# the same colour in every chart; other names take the unused colours.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, GREY, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#7F7F7F", "#F0E442"
# Grey first: no cloud has it, so that a cloud's second run does not look like another cloud.
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
# For series that are not sides. Steps of viridis: in order of brightness, so that they can be told
# apart in a print without colours as well.
VIRIDIS = (
    *("#440154", "#46327E", "#365C8D", "#277F8E"),
    *("#1FA187", "#4AC16D", "#A0DA39", "#FDE725"),
)

OFFSET = 0.012  # of the axis, between the points of two sides, so that no whisker hides another
MARGIN = 0.03  # of the axis, left and right of the outermost points
LEGEND_COLUMNS = 4
WIDTH, HEIGHT, ROW_HEIGHT = 760, 460, 46  # in px; the last is of a row of DOTS

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


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each side. The first side of a cloud (`GCP 0001`) has the cloud's colour."""
    names = list(names)
    given: dict[str, str] = {}
    for name in names:
        colour = CLOUD_COLOURS.get(name.split(" ")[0])
        if colour and colour not in given.values():
            given[name] = colour
    unused = cycle([each for each in PALETTE if each not in given.values()] or PALETTE)
    return {name: given.get(name) or next(unused) for name in names}


def draw(plot: Plot, sides: Mapping[str, str] | None = None) -> str:
    """The plot as SVG without a script. `sides` gives the colours of all sides of a report."""
    chart = DRAW[plot.kind](plot, _config(plot, sides or colours(plot.series)))
    chart.uuid = plot.name  # the default is random; it scopes the chart's styles on a page
    chart.add_xml_filter(_without_comments)
    chart.add_xml_filter(lambda svg: _with_description(svg, plot))
    svg: str = chart.render(is_unicode=True)
    return svg


def stand_alone(svg: str) -> str:
    """A drawn chart as a file of its own, with the script of its tooltips."""
    script = f'<script type="text/javascript">{tooltip_script()}</script>'
    head, _, tail = svg.partition(END_OF_DEFS)
    return f"{XML}{head}{script}{END_OF_DEFS}{tail}"


def tooltip_script(*, xml: bool = True) -> str:
    """pygal's script for tooltips, escaped for XML or plain for HTML."""
    script = Path(pygaljs.path("latest", "pygal-tooltips.min.js")).read_text("utf-8")
    return script.replace("&", "&amp;").replace("<", "&lt;") if xml else script


class _Line(pygal.XY):  # type: ignore[misc]  # pygal has no types
    """Lines over numeric positions with whiskers, which pygal supports for categories only."""

    def _confidence_interval(
        self, node: Any, x: float, y: float, value: Any, metadata: Any
    ) -> None:
        super()._confidence_interval(node, x, y, value[1], metadata)


def _line(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    """A line for each side, slightly offset from each other so that no point covers another."""
    # Batch sizes are on a logarithmic axis because throughput changes most among the small ones.
    # Connections are on a linear axis from zero, where proportional growth is a straight line.
    logarithmic = plot.kind == LOGARITHMIC
    scale: Callable[[float], float] = log10 if logarithmic else float
    positions = plot.positions
    low, high = scale(positions[0]) if logarithmic else 0.0, scale(positions[-1])
    width = high - low
    chart = _Line(
        **config,
        x_labels=[{"value": scale(each), "label": _label(each)} for each in positions],
        xrange=(low - width * MARGIN, high + width * MARGIN),
    )
    for number, (name, points) in enumerate(plot.series.items()):
        offset = width * OFFSET * (number - (len(plot.series) - 1) / 2)
        chart.add(
            name,
            [
                {**_point(plot, each, point), "value": (scale(each) + offset, point.value)}
                for each, point in sorted(points.items())
            ],
        )
    return chart


def _bars(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    kind = pygal.StackedBar if plot.kind == STACKED else pygal.Bar
    return _add_by_label(kind(**config), plot)


def _dots(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    """A dot for each position of each series: the higher the value, the larger the dot."""
    config |= {"show_legend": False, "print_values": True, "range": None}
    return _add_by_label(pygal.Dot(**config), plot, formatter="{:,.0f}".format)


def _add_by_label(chart: pygal.Graph, plot: Plot, **options: Any) -> pygal.Graph:
    """Add the series of a chart whose axis has labels; a missing value leaves a gap."""
    positions = plot.positions
    chart.x_labels = [_label(each) for each in positions]
    for name, points in plot.series.items():
        chart.add(
            name,
            [
                {**_point(plot, each, points[each]), **options} if each in points else None
                for each in positions
            ],
        )
    return chart


def _scatter(plot: Plot, config: dict[str, Any]) -> pygal.Graph:
    """Points over time in seconds, and a dashed line for every checkpoint."""
    chart = pygal.XY(**{**config, "dots_size": 2.5}, stroke=False)
    for name, points in plot.series.items():
        chart.add(
            name,
            [
                {**_point(plot, f"{start:,.2f} s", point), "value": (start, point.value)}
                for start, point in points.items()
            ],
        )
    top = max(point.value for points in plot.series.values() for point in points.values())
    for name, marks in plot.marks.items():
        chart.add(
            f"{name}: {plot.mark}",
            [end for mark in marks for end in ((mark, 0), (mark, top), None)],
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


def _label(position: Any) -> str:
    return position if isinstance(position, str) else f"{position:,}"


def _point(plot: Plot, position: Any, point: Point) -> dict[str, Any]:
    """A value for pygal, with its whiskers and the text of its tooltip."""
    text = plot.unit.format(point.value)
    label = _label(position)
    made: dict[str, Any] = {
        "value": point.value,
        "formatter": lambda _: text,
        "label": f"{label}; {point.note}" if point.note else label,
    }
    if point.low is not None and point.high is not None:
        made["ci"] = {"low": point.low, "high": point.high}
    return made


def _config(plot: Plot, sides: Mapping[str, str]) -> dict[str, Any]:
    """The options that all kinds of charts share."""
    points = [point for points in plot.series.values() for point in points.values()]
    top = 100.0 if plot.kind == STACKED else max(each.high or each.value for each in points)
    entries = len(plot.series) + len(plot.marks)
    columns = min(LEGEND_COLUMNS, entries)
    rows_height = 170 + ROW_HEIGHT * len(plot.series)
    return {
        "title": f"{plot.title}\n{plot.subtitle}",
        "x_title": plot.x_title,
        "y_title": plot.y_title,
        "style": _style(plot, sides),
        "width": WIDTH,
        "height": max(HEIGHT, rows_height) if plot.kind == DOTS else HEIGHT,
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
        "js": (),  # the default is a script on the web
        "disable_xml_declaration": True,
    }


def _style(plot: Plot, sides: Mapping[str, str]) -> Style:
    if plot.kind == DOTS:
        colours: tuple[str, ...] = (sides.get(plot.side or "", VIRIDIS[2]),) * len(plot.series)
    elif plot.by_side:
        colours = tuple(sides[name] for name in (*plot.series, *plot.marks))
    else:
        colours = VIRIDIS[: len(plot.series)]
    black = ("black",) * len(colours)
    return Style(
        colors=colours,
        ci_colors=black if plot.kind in (BARS, STACKED) else colours,
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
        value_colors=black,
        guide_stroke_color="#dddddd",
        major_guide_stroke_color="#dddddd",
        stroke_opacity="1",
        stroke_width="2",
    )


def _without_comments(svg: Any) -> Any:
    """Remove pygal's comments, which hold a date and links."""
    for node in list(svg):
        if not isinstance(node.tag, str):
            svg.remove(node)
    return svg


def _with_description(svg: Any, plot: Plot) -> Any:
    """Describe the picture to screen readers; the page has its numbers in a table."""
    svg.set("role", "img")
    svg.set("aria-label", f"{plot.title}. {plot.subtitle}")
    return svg
