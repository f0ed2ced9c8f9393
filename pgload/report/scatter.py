"""How much loads scatter: observations of throughput, and the variance of their mean.

Loads in a row scatter alike, and the next pass over all settings is slower or faster as a whole.
So a pass, not a round, is one observation where a setting was measured in several passes. Three
observations hardly tell how much they scatter; so the variance borrows `BORROWED` degrees of
freedom from the other settings of the same side (Smyth 2004, doi:10.2202/1544-6115.1027, with a
fixed prior). Rounds of a single pass are taken as alike by `SHARED`: only further passes could
show how much more a pass scatters than its rounds. All is done on logarithms, for speed is lost
and won in percent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgload.report.saved import Measurement, Setting

BORROWED = 4  # degrees of freedom from other settings
SHARED = 0.15  # of the variance of rounds, assumed to be common to all rounds of one pass
MANY = 20  # passes of each side that a bootstrap needs


@dataclass(frozen=True)
class Scatter:
    """Observations of log throughput, and what is known of their variance."""

    values: tuple[float, ...]
    variance: float  # of their mean
    freedom: float  # degrees of it; 0 where nothing is known
    passes: bool  # an observation is a pass, not a round

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def many(self) -> bool:
        return self.passes and len(self.values) >= MANY


def scatters(measured: Mapping[Setting, Measurement]) -> dict[Setting, Scatter]:
    """The observations of each setting of one side, by passes or by rounds."""
    passes = {name: each for name, each in measured.items() if len(each.passes) > 1}
    rounds = {name: each for name, each in measured.items() if name not in passes}
    of_passes = moderated({name: by_pass(each) for name, each in passes.items()})
    of_rounds = moderated(
        {name: [-math.log(each) for each in load.rounds] for name, load in rounds.items()},
        passes=False,
    )
    return of_passes | _not_quieter_than(of_passes.values(), of_rounds)


def by_pass(each: Measurement) -> list[float]:
    """Log throughput of the passes, up to a constant that is equal for equal datasets."""
    return [-math.log(statistics.median(rounds)) for rounds in each.passes]


def moderated(
    values: Mapping[Setting, Sequence[float]], *, passes: bool = True
) -> dict[Setting, Scatter]:
    """Each setting's variance, blended with the mean variance of the other settings."""
    squares = {setting: _squares(each) for setting, each in values.items()}
    all_squares, all_freedom = sum(squares.values()), sum(len(each) - 1 for each in values.values())
    found = {}
    for setting, each in values.items():
        freedom = len(each) - 1
        others = all_freedom - freedom
        borrowed = min(BORROWED, others)
        elsewhere = max(0.0, all_squares - squares[setting]) / others if others else 0.0
        known = freedom + borrowed
        variance = (squares[setting] + borrowed * elsewhere) / known if known else 0.0
        of_mean = variance * (1 / len(each) + (0 if passes else SHARED))
        found[setting] = Scatter(tuple(each), of_mean, known, passes)
    return found


def _squares(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _not_quieter_than(
    of_passes: Iterable[Scatter], of_rounds: Mapping[Setting, Scatter]
) -> dict[Setting, Scatter]:
    """Settings of a single pass, as uncertain as a pass is where this side has several."""
    spread = [each for each in of_passes if each.freedom]
    if not spread:
        return dict(of_rounds)
    variance = statistics.fmean(each.variance * len(each.values) for each in spread)
    freedom = sum(len(each.values) - 1 for each in spread)
    return {
        setting: each
        if each.freedom and each.variance > variance
        else replace(each, variance=variance, freedom=freedom)
        for setting, each in of_rounds.items()
    }
