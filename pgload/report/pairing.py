"""Sides → settings × sides, for what can be compared: the same setting and the same dataset."""

from __future__ import annotations

from collections.abc import Mapping

from pgload.report.saved import Dataset, Measurement, Setting
from pgload.report.sides import Side

LISTED = 3  # settings that a line names, so that it stays one; the table shows them all

# Name of the side → what it measured of one dataset. The first side is the baseline.
Sides = Mapping[str, Mapping[Setting, Measurement]]


def pair(sides: Mapping[str, Side]) -> dict[Dataset, Sides]:
    """What the sides measured, by dataset.

    The dataset that compares most comes first: by sides, then by measurements, then by records.
    """
    datasets = {dataset for side in sides.values() for dataset in side.measured}
    paired = {
        dataset: {
            name: side.measured[dataset] for name, side in sides.items() if dataset in side.measured
        }
        for dataset in datasets
    }

    def compares(dataset: Dataset) -> tuple[int, int, Dataset]:
        of_sides = paired[dataset]
        return len(of_sides), sum(len(measured) for measured in of_sides.values()), dataset

    return {dataset: paired[dataset] for dataset in sorted(paired, key=compares, reverse=True)}


def unpaired(paired: Mapping[Dataset, Sides], sides: Mapping[str, Side]) -> list[str]:
    """A line for each side that lacks a dataset, or settings that another has, and why it does."""
    lines = []
    for dataset, of_sides in paired.items():
        settings = sorted({setting for measured in of_sides.values() for setting in measured})
        for name, side in sides.items():
            if name not in of_sides:
                lines.append(f"{name}: loaded other data, not {dataset}")
            elif missing := [setting for setting in settings if setting not in of_sides[name]]:
                reasons = _reasons(side)
                listed = "; ".join(
                    f"{setting}" + (f" ({reasons[setting]})" if setting in reasons else "")
                    for setting in missing[:LISTED]
                )
                more = f"; and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
                lines.append(
                    f"{name}: {len(missing)} of {len(settings)} settings with {dataset} were not "
                    f"measured: {listed}{more}"
                )
    return lines


def _reasons(side: Side) -> dict[Setting, str]:
    """Why the suite did not measure a setting, by its own word."""
    found = {}
    for run in side.runs:
        for each in run.not_measured:
            method, size, connections = (each.get(name) for name in Setting.__match_args__)
            if isinstance(size, int) and isinstance(connections, int) and each.get("reason"):
                found[Setting(str(method), size, connections)] = str(each["reason"])
    return found
