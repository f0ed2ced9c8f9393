"""`python -m pgload compare`: from saved runs to a decision on the terminal and in a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pgload.errors import UsageError
from pgload.report.context import Difference
from pgload.report.decision import compare_sides
from pgload.report.gate import Gate
from pgload.report.runs import STORAGE, load_runs
from pgload.report.sides import AUTO, Side, make_sides, with_baseline
from pgload.report.stats import THRESHOLD
from pgload.report.tables import compare_tables, decision_lines
from pgload.report.write import Output, write

LISTED = 12  # sides and differences named on the terminal


@dataclass(frozen=True)
class Options:
    """What `compare` was asked for beside the files."""

    storage: Path = STORAGE
    baseline: str | None = None
    by: str = AUTO
    threshold: float = THRESHOLD
    output: Output = field(default_factory=Output)
    gate: Gate | None = None


def compare(
    patterns: Sequence[str] = (),
    options: Options | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> bool:
    """Compare the runs that `patterns` name, or the newest run of each cloud in the storage.

    Prints to `out` (standard output when None) what was read and how the sides differ, then the
    tables and the decision, and the files written. What was left out and why goes to `err`
    (standard error when None). Gives whether the gate holds; without one it does.

    Raises `UsageError` when nothing is left to compare or to gate, a baseline is none of the sides,
    or the folder cannot be written.
    """
    options = options or Options()
    out, err = out or sys.stdout, err or sys.stderr
    runs, problems = load_runs(patterns, options.storage)
    _print_list("left out", problems, err, most=len(problems))
    if not runs:
        raise UsageError(
            f"no verified load to compare in {', '.join(patterns) or options.storage}; "
            "run `pytest benchmarks` first"
        )
    sides = with_baseline(make_sides(runs, options.by), options.baseline)
    comparison = compare_sides(sides, options.threshold, left_out=problems)
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
    _print_list(f"--fail {options.gate}", failed, err, most=len(failed))
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
