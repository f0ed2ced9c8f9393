"""Earlier runs of the servers that are compared, which tell how much their runs vary."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pgload.contract import Setting
from pgload.errors import SourceError
from pgload.report.measurement import DatasetSize, Measurement
from pgload.report.saved import SavedRun, read_runs
from pgload.report.sides import Side, alike
from pgload.report.stats import pass_means, rounds_of
from pgload.report.variance import RunVariation, Variance, sum_of_squares

NEWEST = 50  # files that are read beside those that are compared


def read_history(compared: Sequence[Path]) -> list[SavedRun]:
    """The runs of the files that are `beside` the compared ones; unreadable ones are missing."""
    folders = {path.resolve().parent for path in compared}
    runs: list[SavedRun] = []
    for path in beside(compared, [each for folder in folders for each in folder.glob("*.json")]):
        try:
            runs += read_runs(path)
        except SourceError:
            continue  # it was not asked for
    return runs


def beside(compared: Iterable[Path], candidates: Iterable[Path]) -> list[Path]:
    """Of the candidates, the `NEWEST` by their numbers that are in the folders of compared files.

    The compared files are not among them.
    """
    known = {path.resolve() for path in compared}
    folders = {path.parent for path in known}
    found = {path.resolve() for path in candidates} - known
    others = [path for path in found if path.parent in folders]
    return sorted(others, key=lambda path: (path.name, path), reverse=True)[:NEWEST]


def run_variations(
    sides: Mapping[str, Side], history: Sequence[SavedRun], dataset: DatasetSize
) -> dict[str, RunVariation]:
    """How much runs of each side's server vary, with a dataset and the settings of that side.

    Earlier runs are those of the same cloud, with the same facts of server and client. A side's own
    runs are among them, unless another side is of the same server: then its runs may differ for the
    reason that is looked for.
    """
    compared = {run.path.resolve() for side in sides.values() for run in side.runs}
    others = [run for run in history if run.path.resolve() not in compared]
    found = {}
    for name, side in sides.items():
        rivals = [run for other in sides.values() if other is not side for run in other.runs]
        own = [] if any(alike(side.newest, run) for run in rivals) else list(side.runs)
        runs = [*own, *(run for run in others if alike(side.newest, run))]
        wanted = side.measured.get(dataset, {}).keys()
        found[name] = run_variation([_of_dataset(run, dataset, wanted) for run in runs])
    return found


def _of_dataset(
    run: SavedRun, dataset: DatasetSize, wanted: Collection[Setting]
) -> dict[Setting, Measurement]:
    return {
        each.setting: each
        for each in run.measurements
        if each.dataset == dataset and each.setting in wanted
    }


def run_variation(runs: Sequence[Mapping[Setting, Measurement]]) -> RunVariation:
    """How much several runs of one server vary, by the settings that at least two of them have.

    Runs may differ in all settings alike, so the degrees of freedom are those of one setting.
    """
    by_setting: dict[Setting, list[list[float]]] = {}
    for measured in runs:
        for setting, each in measured.items():
            by_setting.setdefault(setting, []).extend(pass_means(rounds_of(each)).values())
    shared = [passes for passes in by_setting.values() if len(passes) > 1]
    if not shared:
        return RunVariation()
    squares = math.fsum(sum_of_squares([*map(statistics.fmean, passes)]) for passes in shared)
    all_freedom = sum(len(passes) - 1 for passes in shared)
    # The means of runs vary by their passes too, which an interval already includes.
    of_passes = statistics.fmean(
        statistics.variance(logs) / len(logs) if len(logs) > 1 else 0.0
        for passes in shared
        for logs in passes
    )
    observed = Variance(max(0.0, squares / all_freedom - of_passes), all_freedom / len(shared))
    return RunVariation.corrected(observed, runs=max(map(len, shared)))
