"""Runs → settings × sides, for what can be compared: the same setting and the same dataset.

A side is what stands beside another in a comparison: a cloud, or one of several runs of a cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgload.report.measurement import Dataset, Measurement, Setting
from pgload.report.runs import Run

LISTED = 3  # settings that a line names, so that it stays one; the table shows them all

# Name of the side → what it measured of one dataset. The first side is the baseline.
Sides = Mapping[str, Mapping[Setting, Measurement]]


def name_sides(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs under the names of their clouds, in the same order.

    Where a cloud ran more than once the number of the saved file tells its runs apart
    (`GCP 0001`, `GCP 0002`), and the whole path where the numbers are equal too.
    """
    clouds = [run.cloud for run in runs]
    numbered = [f"{run.cloud} {run.path.stem.split('_')[0]}" for run in runs]
    sides = {}
    for run, number in zip(runs, numbered, strict=True):
        if clouds.count(run.cloud) == 1:
            name = run.cloud
        elif numbered.count(number) == 1:
            name = number
        else:
            name = f"{run.cloud} {run.path}"
        sides[name] = run
    return sides


def pair(runs: Mapping[str, Run]) -> dict[Dataset, Sides]:
    """What the named runs measured, by dataset.

    The dataset that compares most comes first: by sides, then by measurements, then by records.
    """
    datasets = {each.dataset for run in runs.values() for each in run.measurements}
    paired = {}
    for dataset in datasets:
        sides = {
            name: {each.setting: each for each in run.measurements if each.dataset == dataset}
            for name, run in runs.items()
        }
        paired[dataset] = {name: measured for name, measured in sides.items() if measured}

    def compares(dataset: Dataset) -> tuple[int, int, Dataset]:
        sides = paired[dataset]
        return len(sides), sum(len(measured) for measured in sides.values()), dataset

    return {dataset: paired[dataset] for dataset in sorted(paired, key=compares, reverse=True)}


def unpaired(paired: Mapping[Dataset, Sides], names: Sequence[str]) -> list[str]:
    """A line for each of the named sides that lacks a dataset, or settings that another has."""
    lines = []
    for dataset, sides in paired.items():
        settings = sorted({setting for measured in sides.values() for setting in measured})
        for name in names:
            if name not in sides:
                lines.append(f"{name}: loaded other data, not {dataset}")
            elif missing := [setting for setting in settings if setting not in sides[name]]:
                listed = "; ".join(str(setting) for setting in missing[:LISTED])
                more = f"; and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
                lines.append(
                    f"{name}: {len(missing)} of {len(settings)} settings with {dataset} were not "
                    f"measured: {listed}{more}"
                )
    return lines
