"""How much log throughput varies between passes and between runs, from few observations.

Three estimates, each with its degrees of freedom:

- between the passes of a setting: `moderated_variances`;
- between several runs of a side: `between_runs`, in all settings alike and in each by itself;
- between runs of a server of which a side has but one: `RunVariation`, assumed and corrected by
  earlier saved runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

MOST_PRIOR_FREEDOM = 30.0  # that the variances of other settings count for, beside a setting's own
# Between runs of one server, where nothing else is known: a standard deviation, and how many
# degrees of freedom it counts for. They keep intervals right for servers that vary by 3%.
RUN_VARIATION, RUN_FREEDOM = 0.02, 1.5

Key = TypeVar("Key", bound=Hashable)


class Variance(NamedTuple):
    """A variance, with its degrees of freedom."""

    value: float
    freedom: float


def moderated_variances(values: Mapping[Key, Sequence[float]]) -> dict[Key, Variance]:
    """The variance of each setting's observations, moderated by those of the others.

    The mean variance of the other settings counts for as many degrees of freedom as the settings
    are alike (Smyth 2004, doi:10.2202/1544-6115.1027). Where nothing tells a variance, it is 0 with
    0 degrees of freedom.
    """
    squares = {key: sum_of_squares(each) for key, each in values.items()}
    all_squares, all_freedom = sum(squares.values()), sum(len(each) - 1 for each in values.values())
    alike = _prior_freedom(
        [
            Variance(squares[key] / (len(each) - 1), len(each) - 1)
            for key, each in values.items()
            if squares[key]
        ]
    )
    found = {}
    for key, each in values.items():
        freedom = len(each) - 1
        others = all_freedom - freedom
        prior = max(0.0, all_squares - squares[key]) / others if others else 0.0
        prior_freedom = min(alike, others)
        known = freedom + prior_freedom
        variance = (squares[key] + prior_freedom * prior) / known if known else 0.0
        found[key] = Variance(variance, known)
    return found


def _prior_freedom(variances: Sequence[Variance]) -> float:
    """Degrees of freedom that other settings' variances count for: the more, the more alike.

    The logarithm of a variance with f degrees of freedom varies by trigamma(f/2), and what the
    logarithms vary beyond that is trigamma of half the result (Smyth 2004, section 6.2). Trigamma
    of x is about 1/x + 1/(2x²) (Abramowitz and Stegun, 6.4.12).
    """
    if len(variances) < 2:
        return MOST_PRIOR_FREEDOM
    by_chance = statistics.fmean(2 / each.freedom + 2 / each.freedom**2 for each in variances)
    beyond = statistics.variance(math.log(each.value) for each in variances) - by_chance
    if beyond <= 0:
        return MOST_PRIOR_FREEDOM
    return min(MOST_PRIOR_FREEDOM, (1 + math.sqrt(1 + 2 * beyond)) / beyond)


def sum_of_squares(values: Sequence[float]) -> float:
    """Of the deviations from the mean."""
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def between_runs(
    means: Mapping[Key, Mapping[str, float]],
) -> tuple[Variance, dict[Key, Variance]]:
    """The variance between several runs, given each setting's mean by run.

    First that of the runs as a whole, of which there are as many values as runs, then that of each
    setting by itself.
    """
    deviations: dict[str, list[float]] = {}
    for by_run in means.values():
        middle = statistics.fmean(by_run.values())
        for run, mean in by_run.items():
            deviations.setdefault(run, []).append(mean - middle)
    as_a_whole = {run: statistics.fmean(each) for run, each in deviations.items()}
    freedom = len(as_a_whole) - 1
    by_itself = {
        key: [mean - as_a_whole[run] for run, mean in by_run.items()]
        for key, by_run in means.items()
    }
    return (
        Variance(sum_of_squares([*as_a_whole.values()]) / freedom, freedom),
        moderated_variances(by_itself),
    )


@dataclass(frozen=True)
class RunVariation:
    """How much runs of one server vary as a whole; by default as is assumed."""

    variance: float = RUN_VARIATION**2  # of one run's log throughput
    freedom: float = RUN_FREEDOM
    runs: int = 0  # saved runs that corrected the assumption

    @classmethod
    def corrected(cls, observed: Variance, runs: int) -> RunVariation:
        """The mean of what is assumed and what was observed, but at least what was observed.

        It is known no better than by the larger of their degrees of freedom: the assumption may be
        wrong.
        """
        squares = RUN_FREEDOM * RUN_VARIATION**2 + observed.freedom * observed.value
        mean = squares / (RUN_FREEDOM + observed.freedom)
        return cls(max(mean, observed.value), max(RUN_FREEDOM, observed.freedom), runs)
