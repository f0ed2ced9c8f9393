"""One chart before it is drawn: numbers and words, which are its text alternative too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LOGARITHMIC, LINEAR, BARS, STACKED, DOTS, SCATTER = "log line", "line", "bar", "stack", "dot", "xy"


@dataclass(frozen=True)
class Point:
    """A value, its spread where it has one, and what its tooltip says beside it."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """One chart before it is drawn."""

    name: str  # of its file
    kind: str
    title: str
    subtitle: str
    x_title: str
    y_title: str
    unit: str  # a format for the values: `{:,.0f} records/s`
    series: Mapping[str, Mapping[Any, Point]]  # name → position or label → point
    by_side: bool = True  # a series is a side and has its cloud's colour
    marks: Mapping[str, Sequence[float]] = field(default_factory=dict)  # side → checkpoints, in s
    mark: str = ""  # what they are called
    side: str | None = None  # the one it is about, where that is not a series

    @property
    def positions(self) -> list[Any]:
        """All positions in order; labels stay in the order in which they come."""
        found = dict.fromkeys(position for points in self.series.values() for position in points)
        return list(found) if any(isinstance(each, str) for each in found) else sorted(found)
