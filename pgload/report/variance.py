"""Variances of log throughput between rounds, passes and runs, from few observations."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

# Degrees of freedom that the pooled variance of other settings counts for: where there are too few
# settings to tell how much their variances differ, and at most.
PRIOR_FREEDOM, SETTINGS_FOR_PRIOR = 8.0, 10
MOST_PRIOR_FREEDOM = 10.0
RUN_VARIATION, RUN_FREEDOM = 0.02, 1.5  # between runs of one server, where there is one a side

Key = TypeVar("Key", bound=Hashable)


class Variance(NamedTuple):
    """One part of the variance of a mean, with its degrees of freedom."""

    value: float
    freedom: float


def pooled_variances(values: Mapping[Key, Sequence[float]]) -> dict[Key, Variance]:
    """The variance of each setting's observations, moderated by those of the others.

    The mean variance of the other settings counts for as many degrees of freedom as the settings
    are alike (Smyth 2004, doi:10.2202/1544-6115.1027). Where nothing tells a variance, it is 0 with
    0 degrees of freedom.
    """
    squares = {key: sum_of_squares(each) for key, each in values.items()}
    all_squares, all_freedom = sum(squares.values()), sum(len(each) - 1 for each in values.values())
    estimated = _prior_freedom(
        [
            Variance(squares[key] / (len(each) - 1), len(each) - 1)
            for key, each in values.items()
            if len(each) > 1
        ]
    )
    found = {}
    for key, each in values.items():
        freedom = len(each) - 1
        others = all_freedom - freedom
        prior_freedom = min(estimated, others)
        prior = max(0.0, all_squares - squares[key]) / others if others else 0.0
        known = freedom + prior_freedom
        variance = (squares[key] + prior_freedom * prior) / known if known else 0.0
        found[key] = Variance(variance, known)
    return found


def _prior_freedom(variances: Sequence[Variance]) -> float:
    """Degrees of freedom of the prior: the more, the less the variances of settings differ.

    The logarithm of a variance with f degrees of freedom varies by trigamma(f/2); what the
    variances vary beyond that is trigamma of half the prior's (Smyth 2004, section 6.2). With few
    settings that cannot be told.
    """
    known = [each for each in variances if each.value]
    if len(known) < SETTINGS_FOR_PRIOR:
        return PRIOR_FREEDOM
    by_chance = statistics.fmean(_trigamma(each.freedom / 2) for each in known)
    beyond = statistics.variance(math.log(each.value) for each in known) - by_chance
    if beyond <= _trigamma(MOST_PRIOR_FREEDOM / 2):
        return MOST_PRIOR_FREEDOM
    low, high = 0.0, MOST_PRIOR_FREEDOM
    while high - low > 0.01:  # trigamma falls
        middle = (low + high) / 2
        low, high = (middle, high) if _trigamma(middle / 2) > beyond else (low, middle)
    return low


def _trigamma(x: float) -> float:
    """The second derivative of log gamma, to 6 digits (Abramowitz and Stegun, 6.4.6 and 6.4.12)."""
    found = 0.0
    while x < 6:
        found += 1 / x**2
        x += 1
    return found + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5)


def sum_of_squares(values: Sequence[float]) -> float:
    """Of the deviations from the mean."""
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def between_runs(means: Mapping[Key, Mapping[str, float]]) -> dict[Key, list[Variance]]:
    """The parts of the variance of each setting's mean over its runs, given the means by run."""
    deviations: dict[str, list[float]] = {}
    for by_run in means.values():
        middle = statistics.fmean(by_run.values())
        for run, mean in by_run.items():
            deviations.setdefault(run, []).append(mean - middle)
    common = {run: statistics.fmean(each) for run, each in deviations.items()}
    as_a_whole = sum_of_squares(list(common.values())) / (len(common) - 1) if common else 0.0
    alone = pooled_variances(
        {key: [mean - common[run] for run, mean in by_run.items()] for key, by_run in means.items()}
    )
    return {
        key: [
            Variance(as_a_whole / len(by_run), len(by_run) - 1),
            Variance(alone[key].value / len(by_run), alone[key].freedom),
        ]
        for key, by_run in means.items()
    }


@dataclass(frozen=True)
class RunVariation:
    """What saved runs of one server show of the variation between its runs; by default nothing."""

    between: float = 0.0  # variance of log throughput between runs, without the passes' part
    observed: float = 0.0  # variance of the runs' means, with it
    freedom: float = 0.0  # degrees of freedom of both
    runs: int = 0  # from how many

    @property
    def assumed_weight(self) -> float:
        """The weight of `RUN_VARIATION` beside what was observed."""
        return RUN_FREEDOM / (RUN_FREEDOM + self.freedom)

    @property
    def variance(self) -> float:
        """Of one run, moderated: the mean of both variances by their degrees of freedom."""
        assumed = self.assumed_weight
        return assumed * RUN_VARIATION**2 + (1 - assumed) * self.between


def between_lone_runs(sides: Sequence[RunVariation]) -> Variance:
    """What runs add to the variance of a difference, for each side that has a single run.

    The degrees of freedom (Satterthwaite 1946) are those of a sum whose parts are not independent:
    the assumption is the same for all sides, and equal servers have the same history.
    """
    value = math.fsum(each.variance for each in sides)
    assumed = math.fsum(each.assumed_weight for each in sides) * RUN_VARIATION**2
    uncertainty = assumed**2 / RUN_FREEDOM
    for each, count in Counter(sides).items():
        if each.freedom:
            observed = count * (1 - each.assumed_weight) * each.observed
            uncertainty += observed**2 / each.freedom
    return Variance(value, value**2 / uncertainty if uncertainty else RUN_FREEDOM)
