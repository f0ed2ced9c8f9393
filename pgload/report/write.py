"""A comparison → files in a folder: charts, page, CSV, JSON, Markdown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgload.errors import UsageError
from pgload.report.decision import Comparison, Decision
from pgload.report.export import (
    to_bencher,
    to_csv,
    to_github_action_benchmark,
    to_json,
)
from pgload.report.markdown import to_markdown
from pgload.report.migrations import OUTPUTS, read_migrations

TEXTS: Mapping[str, tuple[str, Callable[[Sequence[Decision]], str]]] = {
    "csv": ("compare.csv", to_csv),
    "md": ("compare.md", to_markdown),
    "github-action-benchmark": ("github-action-benchmark.json", to_github_action_benchmark),
    "bencher": ("bencher.json", to_bencher),
}
FORMATS = ("html", "svg", "json", *TEXTS)
DEFAULT_FORMATS = ("html", "svg", "csv", "md", "json")
CHARTS = ("throughput_*", "batch*", "time_by_part", "bottleneck", "cost")  # names of ours


@dataclass(frozen=True)
class Output:
    """Where the files go, which ones, and what the page needs beside the comparison."""

    folder: Path = Path("reports")
    formats: Sequence[str] = DEFAULT_FORMATS
    language: str = "en"
    migrations: Path = OUTPUTS


def parse_formats(text: str) -> tuple[str, ...]:
    """`html,svg` as a tuple. Raises `UsageError` for a format that there is not."""
    formats = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        named = ", ".join(unknown) or repr(text)
        raise UsageError(f"--format: {named} is none of {', '.join(FORMATS)}")
    return formats


def write(comparison: Comparison, output: Output) -> tuple[list[Path], list[str]]:
    """Write what was asked for; gives the files, and which charts are missing and why.

    A chart of an earlier comparison that this one does not draw is removed from the folder.
    Raises `UsageError` when the folder cannot be written or a package is missing.
    """
    contents = {
        name: make(comparison.decisions)
        for key, (name, make) in TEXTS.items()
        if key in output.formats
    }
    if "json" in output.formats:
        contents["compare.json"] = to_json(comparison)
    missing: list[str] = []
    if {"html", "svg"} & {*output.formats}:
        drawn, missing = _draw(comparison, output)
        contents |= drawn
    try:
        output.folder.mkdir(parents=True, exist_ok=True)
        if "svg" in output.formats:
            for chart in (path for name in CHARTS for path in output.folder.glob(f"{name}.svg")):
                if chart.name not in contents:
                    chart.unlink()
        for name, text in contents.items():
            (output.folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write to {output.folder}: {error.strerror}; choose another folder"
        ) from None
    return [output.folder / name for name in contents], missing


def _draw(comparison: Comparison, output: Output) -> tuple[dict[str, str], list[str]]:
    """File name → content of the charts and the page, and why a chart is missing."""
    try:  # not needed for anything else
        from pgload.report.colours import colours
        from pgload.report.i18n import Words
        from pgload.report.page import Report, render
        from pgload.report.plots import plots
        from pgload.report.svg import draw, stand_alone
    except ModuleNotFoundError as error:
        raise UsageError(
            f"no charts, for {sys.executable} lacks the package {error.name}: "
            "use the Python that requirements.txt was installed for"
        ) from None
    words = Words(output.language)
    # One dataset only: a line through loads of different data would compare what cannot be.
    found, missing = plots(comparison.decisions[0], words)
    by_side = {**colours(comparison.sides), **colours(comparison.decisions[0].shown)}
    charts = {plot.name: draw(plot, by_side) for plot in found}
    contents = {}
    if "svg" in output.formats:
        contents = {f"{name}.svg": stand_alone(svg) for name, svg in charts.items()}
    if "html" in output.formats:
        migrations, broken = read_migrations(output.migrations)
        report = Report(comparison, by_side, found, charts, missing, migrations, broken)
        contents["index.html"] = render(report, words, output.folder)
    return contents, missing
