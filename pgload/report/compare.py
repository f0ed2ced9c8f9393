"""`python -m pgload compare`: from saved runs to a decision, on the terminal and in a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pgload.contract import OUTPUT_DIR, STORAGE
from pgload.errors import UsageError
from pgload.report.decision import Comparison, compare_sides
from pgload.report.export import to_csv, to_json
from pgload.report.gate import Gate
from pgload.report.history import read_history
from pgload.report.migrations import read_migrations
from pgload.report.saved import load_runs
from pgload.report.sides import AUTO, Difference, Side, make_sides, with_baseline
from pgload.report.stats import THRESHOLD
from pgload.report.tables import compare_tables, decision_lines, to_markdown

FORMATS = ("html", "svg", "csv", "md", "json")
CHARTS = ("throughput_*", "batch*", "time_by_part", "bottleneck", "cost")  # names of own charts
LISTED = 12  # lines of a list on the terminal


@dataclass(frozen=True)
class Output:
    """Where the files go, which ones, their language, and the migrations that the page shows."""

    folder: Path = Path("reports")
    formats: Sequence[str] = FORMATS
    language: str = "en"
    migrations: Path = OUTPUT_DIR


@dataclass(frozen=True)
class CompareOptions:
    """The options of `compare`."""

    storage: Path = STORAGE
    baseline: str | None = None
    by: str = AUTO
    threshold: float = THRESHOLD
    output: Output = field(default_factory=Output)
    gate: Gate | None = None


def parse_formats(text: str) -> tuple[str, ...]:
    """`html,svg` as a tuple. Raises `UsageError` for an unknown format."""
    formats = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        named = ", ".join(unknown) or repr(text)
        raise UsageError(f"--format: {named} is not one of {', '.join(FORMATS)}")
    return formats


def compare(
    patterns: Sequence[str] = (),
    options: CompareOptions | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> bool:
    """Compare the runs that `patterns` name, or the newest run of each cloud in the storage.

    Prints to `out` (standard output when None) what was read and how the sides differ, then the
    tables and the decision, and the files written. What was left out and why goes to `err`
    (standard error when None). Returns whether the gate passes, and True without a gate.

    Raises `UsageError` when nothing is left to compare or to check, the baseline is not one of the
    sides, or the folder cannot be written.
    """
    options = options or CompareOptions()
    out, err = out or sys.stdout, err or sys.stderr
    runs, problems = load_runs(patterns, options.storage)
    _print_list("left out", problems, err, most=len(problems))
    if not runs:
        raise UsageError(
            f"no verified load to compare in {', '.join(patterns) or options.storage}; "
            "run `pytest benchmarks` first"
        )
    sides = with_baseline(make_sides(runs, options.by), options.baseline)
    history = read_history([run.path for run in runs]) if len(sides) > 1 else []
    comparison = compare_sides(sides, options.threshold, left_out=problems, history=history)
    _print_list("read", map(_describe, sides.values()), out)
    _print_list("the sides differ in", map(_difference, comparison.differences), out)
    _print_list("drift", comparison.drift, out)
    _print_list("not paired", comparison.unpaired, out)
    for decision in comparison.decisions:
        print(compare_tables(decision), end="\n\n", file=out)
        _print_list("decision", decision_lines(decision), out, most=sys.maxsize)
    if len(sides) == 1:
        print("one side only: compare with `pytest benchmarks --cloud NAME`\n", file=out)
    written, missing = write(comparison, options.output)
    _print_list("written", map(str, written), out, most=len(written))
    _print_list("not drawn", missing, out)
    if options.gate is None:
        return True
    if not any(other.by_setting for each in comparison.decisions for other in each.others):
        raise UsageError(  # and not a silent pass
            f"--fail {options.gate} has nothing to check: no setting was measured by two sides; "
            "name two runs, such as `python -m pgload compare 0001 0002`"
        )
    failed = options.gate.failures(comparison.decisions)
    print(f"--fail {options.gate}: {options.gate.summary(comparison.decisions)}", file=out)
    _print_list("failed", failed, err, most=len(failed))
    return not failed


def _describe(side: Side) -> str:
    newest = side.newest
    facts = [f"{newest.saved:%Y-%m-%d %H:%M %Z}"]
    if version := newest.server.get("version"):
        facts.append(f"PostgreSQL {version}")
    if instance_type := newest.server.get("instance_type"):
        facts.append(str(instance_type))
    settings = {setting for measured in side.measured.values() for setting in measured}
    facts.append(f"{len(settings)} setting{'s' if len(settings) > 1 else ''}")
    facts += [str(dataset) for dataset in sorted(side.measured)]
    others = f" and {len(side.runs) - 1} more" if len(side.runs) > 1 else ""
    return f"{side.name}: {newest.path}{others} ({', '.join(facts)})"


def _difference(each: Difference) -> str:
    values = list(each.values.items())
    shown = ", ".join(f"{side} {value}" for side, value in values[:LISTED])
    more = f", and {len(values) - LISTED} more" if len(values) > LISTED else ""
    return f"{each.fact}: {shown}{more}" + (f" (decides: {each.decides})" if each.decides else "")


def _print_list(title: str, lines: Iterable[str], out: TextIO, most: int = LISTED) -> None:
    lines = list(lines)
    if lines:
        print(f"{title}:", *(f"  {line}" for line in lines[:most]), sep="\n", file=out)
        if len(lines) > most:
            print(f"  and {len(lines) - most} more", file=out)
        print(file=out)


def write(comparison: Comparison, output: Output) -> tuple[list[Path], list[str]]:
    """Write the files of `output.formats`; returns their paths, and why charts are missing.

    A chart of an earlier comparison that this one does not draw is removed from the folder.
    Raises `UsageError` when the folder cannot be written or a package is missing.
    """
    contents: dict[str, str] = {}
    missing: list[str] = []
    if "csv" in output.formats:
        contents["compare.csv"] = to_csv(comparison.decisions)
    if "md" in output.formats:
        contents["compare.md"] = to_markdown(comparison.decisions)
    if "json" in output.formats:
        contents["compare.json"] = to_json(comparison)
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
    """File name → content of the charts and the page; and why charts are missing."""
    try:  # imported here, so that everything else works without these packages
        from pgload.report.i18n import Words
        from pgload.report.page import PageContent, render
        from pgload.report.plots import plots
        from pgload.report.svg import colours, draw, stand_alone
    except ModuleNotFoundError as error:
        raise UsageError(
            f"cannot draw charts: {sys.executable} lacks the package {error.name}; "
            "use the Python into which requirements.txt was installed"
        ) from None
    words = Words(output.language)
    # One dataset only: loads of different data are not comparable.
    found, missing = plots(comparison.decisions[0], words)
    by_side = {**colours(comparison.sides), **colours(comparison.decisions[0].shown)}
    charts = {plot.name: draw(plot, by_side) for plot in found}
    contents = {}
    if "svg" in output.formats:
        contents = {f"{name}.svg": stand_alone(svg) for name, svg in charts.items()}
    if "html" in output.formats:
        migrations, broken = read_migrations(output.migrations)
        page = PageContent(
            comparison=comparison,
            colours=by_side,
            plots=found,
            charts=charts,
            not_drawn=missing,
            migrations=migrations,
            broken_migrations=broken,
        )
        contents["index.html"] = render(page, words, output.folder)
    return contents, missing
