"""The report as one HTML page: answer, migration, comparison, detail. It loads no other file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pgload.contract import migrate_command
from pgload.report.decision import Comparison
from pgload.report.i18n import Words
from pgload.report.migrations import SavedMigration
from pgload.report.plots import Plot
from pgload.report.stats import FALSE_DISCOVERY_RATE
from pgload.report.svg import tooltip_script
from pgload.report.tables import run_notes

TEMPLATES = Path(__file__).with_name("templates")
AXIS = 1.5  # the drawn interval of a ratio ranges from 1.5 times slower to 1.5 times faster


@dataclass(frozen=True)
class PageContent:
    """Everything that the page shows."""

    comparison: Comparison
    colours: Mapping[str, str]  # of the sides
    plots: Sequence[Plot]  # of the first dataset
    charts: Mapping[str, str]  # name of a plot → SVG
    not_drawn: Sequence[str]  # charts, each with the reason
    migrations: Sequence[SavedMigration]
    broken_migrations: Sequence[str]  # a line for each that cannot be read

    @property
    def question(self) -> str:
        """The i18n key of the question that this comparison answers."""
        sides = self.comparison.sides.values()
        if len(sides) == 1:
            return "question_setting"
        clouds = {side.cloud for side in sides}
        return "question_cloud" if len(clouds) > 1 else "question_change"


def render(content: PageContent, words: Words, folder: Path) -> str:
    """The page as HTML. Its links to raw files are relative to `folder`, where it is written."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": _number,
        "ms": _milliseconds,
        "link": partial(_link, folder=folder),
        "axis": _on_axis,
    }
    values: dict[str, Any] = {
        "report": content,
        "comparison": content.comparison,
        "decision": content.comparison.decisions[0],
        "run_notes": run_notes(content.comparison.decisions[0], words),
        "t": words,
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
        "migrate_command": migrate_command,
        # Safe as Markup: pygal escapes names from data, and the script is constant.
        "charts": {name: Markup(svg) for name, svg in content.charts.items()},
        "tooltips": Markup(tooltip_script(xml=False)),
    }
    return environment.get_template("index.html").render(values)


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}"


def _link(path: Path, folder: Path) -> str:
    """The path relative to the page, so that both can be moved together."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_uri()


def _on_axis(ratio: float) -> float:
    """The position of a ratio on a logarithmic axis, in percent from its left; 50 is equal."""
    return 50 + 50 * max(-1.0, min(1.0, math.log(ratio) / math.log(AXIS)))
