"""Settings that differ in one parameter alone, which is what a line in a chart may join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgload.report.pairing import Sides
from pgload.report.saved import Measurement

PARAMETERS = ("method", "batch_size", "connections")


@dataclass(frozen=True)
class Slice:
    """Measurements of settings that differ in one parameter alone."""

    parameter: str  # the one that differs: method, batch_size or connections
    fixed: Mapping[str, Any]  # the others
    lines: Mapping[str, Mapping[Any, Measurement]]  # side → value of the parameter → measurement

    @property
    def values(self) -> list[Any]:
        """The values of the parameter that differs, in order."""
        return sorted({value for line in self.lines.values() for value in line})

    @property
    def measurements(self) -> list[Measurement]:
        return [each for line in self.lines.values() for each in line.values()]


def widest_slice(sides: Sides, parameter: str) -> Slice:
    """Of all slices along a parameter the one with most values of it.

    Among equals the one with most measurements counts, then the one with the fastest load.
    """
    slices: dict[tuple[Any, ...], dict[str, dict[Any, Measurement]]] = {}
    others = [each for each in PARAMETERS if each != parameter]
    for name, measured in sides.items():
        for setting, each in sorted(measured.items()):
            fixed = tuple(getattr(setting, other) for other in others)
            lines = slices.setdefault(fixed, {})
            lines.setdefault(name, {})[getattr(setting, parameter)] = each

    def width(candidate: Slice) -> tuple[int, int, float]:
        measured = candidate.measurements
        return len(candidate.values), len(measured), max(each.throughput for each in measured)

    return max(
        (
            Slice(parameter, dict(zip(others, fixed, strict=True)), lines)
            for fixed, lines in slices.items()
        ),
        key=width,
    )
