"""`python -m pgload compare`: from saved runs to tables on the terminal and charts in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pgload.errors import UsageError
from pgload.report.pairing import name_sides, pair, unpaired
from pgload.report.runs import STORAGE, Run, load_runs
from pgload.report.table import compare_table


def compare(
    patterns: Sequence[str] = (),
    *,
    storage: Path = STORAGE,
    output: Path = Path("reports"),
    out: TextIO | None = None,
) -> None:
    """Compare the runs that `patterns` name, or the newest run of each cloud in `storage`.

    Prints to `out` (standard output when None) what was read, the tables, what was left out and
    why, and the charts written to `output`. The first run is the baseline of all ratios.

    Raises `UsageError` when nothing is left to compare or `output` cannot be written.
    """
    out = out or sys.stdout
    runs, problems = load_runs(patterns, storage)
    if not runs:
        _print_list("left out", problems, out)
        raise UsageError(
            f"no verified load to compare in {', '.join(patterns) or storage}; "
            "run `pytest benchmarks` first"
        )
    sides = name_sides(runs)
    _print_list("read", [_describe(name, run) for name, run in sides.items()], out)
    paired = pair(sides)
    for dataset, measured in paired.items():
        print(compare_table(dataset, measured), end="\n\n", file=out)
    _print_list("not paired", unpaired(paired, list(sides)), out)
    _print_list("left out", problems, out)

    try:  # pygal is not needed for anything above
        from pgload.report.charts import write_charts
    except ModuleNotFoundError as error:
        raise UsageError(
            f"no charts, for {sys.executable} lacks the package {error.name}: "
            "use the Python that requirements.txt was installed for"
        ) from None

    # One dataset only: a line through loads of different data would compare what cannot be.
    dataset, measured = next(iter(paired.items()))
    try:
        written, missing = write_charts(dataset, measured, output)
    except OSError as error:
        raise UsageError(
            f"cannot write charts to {output}: {error.strerror}; choose another folder"
        ) from None
    _print_list(f"charts of {dataset}", [*map(str, written), *missing], out)


def _describe(name: str, run: Run) -> str:
    facts = [f"{run.saved:%Y-%m-%d %H:%M %Z}"]
    if version := run.server.get("version"):
        facts.append(f"PostgreSQL {version}")
    if instance_type := run.server.get("instance_type"):
        facts.append(str(instance_type))
    facts.append(f"{len(run.measurements)} setting{'s' if len(run.measurements) > 1 else ''}")
    facts += [str(dataset) for dataset in sorted({each.dataset for each in run.measurements})]
    return f"{name}: {run.path} ({', '.join(facts)})"


def _print_list(title: str, lines: Sequence[str], out: TextIO) -> None:
    if lines:
        print(f"{title}:", *(f"  {line}" for line in lines), "", sep="\n", file=out)
