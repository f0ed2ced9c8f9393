"""Whether one throughput is higher than another: a ratio, its 95% interval, and a verdict.

Everything is done on logarithms of throughput, since speed changes by percentages. What varies
independently is an observation: a pass, not a round, since a whole pass is slower or faster than
the next; and a run, not a pass, where a side has several runs. Sides of the same runs are paired by
run and pass, since a slow minute affects both.

The assumptions behind an interval, each with what it was checked against in
tests/report/test_known_truth.py:

- A few observations estimate a variance badly. Each setting's is pooled with that of the others.
- A single pass says nothing of the variation between passes: that is assumed (`PASS_VARIATION`).
- A single run says nothing of the variation between runs: that is assumed (`RUN_VARIATION`), where
  the two sides are not of the same run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pgload.contract import Setting
from pgload.report.measurement import Measurement
from pgload.report.student import t_quantile, two_sided_p

FASTER, SLOWER = "faster", "slower"
SAME, NOISY = "no difference shown", "too noisy to say"

CONFIDENCE = 0.95
FALSE_DISCOVERY_RATE = 0.10  # of the settings of a report that are called faster or slower
THRESHOLD = 0.01  # a smaller difference is not worth acting on
TOO_WIDE = 0.1  # an interval that does not exclude a difference of this size says too little

PRIOR_FREEDOM = 8  # degrees of freedom that the pooled variance of the other settings counts for
PASS_VARIATION, PASS_FREEDOM = 0.05, 4  # standard deviation between passes, where there is but one
RUN_VARIATION, RUN_FREEDOM = 0.02, 1.5  # between runs of one server, where there is one a side

Key = TypeVar("Key", bound=Hashable)
# Log throughput of each round, by run and number of the pass.
Rounds = Mapping[tuple[str, int], Sequence[float]]


class Variance(NamedTuple):
    """One part of the variance of a mean, with its degrees of freedom."""

    value: float
    freedom: float


@dataclass(frozen=True)
class LogRatio:
    """The mean log ratio of two throughputs, with the variance of that mean."""

    mean: float
    variances: tuple[Variance, ...]  # independent parts
    passes: int  # of the side that has fewer

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(math.fsum(part.value for part in self.variances))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a sum of variances (Welch 1947, Satterthwaite 1946)."""
        parts = [part for part in self.variances if part.value]
        if not parts:
            return math.fsum(part.freedom for part in self.variances)
        total = math.fsum(part.value for part in parts)
        return total**2 / math.fsum(part.value**2 / part.freedom for part in parts)

    @property
    def p(self) -> float:
        """The probability of a mean as far from 0 as this one where there is no difference."""
        if not self.error:
            return float(self.mean == 0)
        return two_sided_p(self.mean / self.error, max(1.0, self.freedom))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Of the ratio, by Student's t."""
        half = t_quantile(max(1.0, self.freedom), (1 + confidence) / 2) * self.error
        return math.exp(self.mean - half), math.exp(self.mean + half)


@dataclass(frozen=True)
class Verdict:
    """One side against the baseline; above 1 it is faster than the baseline."""

    ratio: float  # the geometric mean of the ratios of the observations
    low: float  # of the 95% interval
    high: float
    word: str  # FASTER, SLOWER, SAME or NOISY
    # The interval at the level of those called in the same family, for a decision that stops a
    # build (Benjamini and Yekutieli 2005, doi:10.1198/016214504000001907); None where not called.
    corrected: tuple[float, float] | None = None
    passes: int = 1  # of the side that has fewer

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.low:.2f}–{self.high:.2f})"

    def __format__(self, spec: str) -> str:
        """`ascii` is for terminals."""
        return f"{self}".replace("–", "-") if spec == "ascii" else str(self)


def log_ratios(
    base: Mapping[Setting, Measurement],
    other: Mapping[Setting, Measurement],
    *,
    run_variation: float = RUN_VARIATION,
) -> dict[Setting, LogRatio]:
    """The log ratio of each setting that both sides measured, in the order of settings.

    Passes of the same run and number are pairs; where there are none, the sides are compared by
    their means. `run_variation` is the standard deviation between runs of one server.
    """
    rounds = {
        setting: (rounds_of(base[setting]), rounds_of(other[setting]))
        for setting in sorted(base.keys() & other.keys())
    }
    pairs = {
        setting: {key: _pair(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()}
        for setting, (ours, theirs) in rounds.items()
    }
    pairs = {setting: each for setting, each in pairs.items() if each}
    apart = {setting: each for setting, each in rounds.items() if setting not in pairs}
    found = _means(pairs)
    ours = _means({setting: each for setting, (each, _) in apart.items()})
    theirs = _means({setting: each for setting, (_, each) in apart.items()})
    for setting, both in apart.items():
        lone_runs = sum(len({run for run, _ in side}) == 1 for side in both)
        between_runs = Variance(lone_runs * run_variation**2, RUN_FREEDOM)
        found[setting] = LogRatio(
            mean=theirs[setting].mean - ours[setting].mean,
            variances=(*ours[setting].variances, *theirs[setting].variances, between_runs),
            passes=min(ours[setting].passes, theirs[setting].passes),
        )
    return {setting: found[setting] for setting in rounds}


def rounds_of(each: Measurement) -> dict[tuple[str, int], list[float]]:
    """The log throughput of each round, by run and number of the pass."""
    found: dict[tuple[str, int], list[float]] = {}
    for one in each.passes:
        logs = [math.log(each.dataset.records / seconds) for seconds in one.seconds]
        # Several tests of a run may have measured the setting in the same pass.
        found.setdefault((one.run, one.number), []).extend(logs)
    return found


def _pair(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The log ratios of a pass: of its rounds, or of its means where they are not as many."""
    if len(ours) == len(theirs):
        return [b - a for a, b in zip(ours, theirs, strict=True)]
    return [statistics.fmean(theirs) - statistics.fmean(ours)]


def _means(rounds: Mapping[Setting, Rounds]) -> dict[Setting, LogRatio]:
    """The mean of each setting over its runs, its passes or its rounds, with its variance."""
    runs: dict[Setting, list[float]] = {}
    passes: dict[Setting, list[float]] = {}
    lone: dict[Setting, list[float]] = {}
    for setting, each in rounds.items():
        by_run: dict[str, list[float]] = {}
        for (run, _), logs in each.items():
            by_run.setdefault(run, []).append(statistics.fmean(logs))
        if len(by_run) > 1:
            runs[setting] = [statistics.fmean(logs) for logs in by_run.values()]
        elif len(each) > 1:
            (passes[setting],) = by_run.values()
        else:
            lone[setting] = [log for logs in each.values() for log in logs]
    found = {}
    for observed in (runs, passes, lone):
        for setting, variance in pooled_variances(observed).items():
            logs = observed[setting]
            parts = [Variance(variance.value / len(logs), variance.freedom)]
            if observed is lone:
                parts.append(Variance(PASS_VARIATION**2, PASS_FREEDOM))
            found[setting] = LogRatio(
                mean=statistics.fmean(logs),
                variances=tuple(part for part in parts if part.freedom),
                passes=len(rounds[setting]),
            )
    return found


def pooled_variances(values: Mapping[Key, Sequence[float]]) -> dict[Key, Variance]:
    """The variance of each setting's observations, moderated by those of the others.

    The mean variance of the other settings counts for at most `PRIOR_FREEDOM` degrees of freedom
    (Smyth 2004, doi:10.2202/1544-6115.1027, with fixed prior degrees of freedom). Where nothing
    tells a variance, it is 0 with 0 degrees of freedom.
    """
    squares = {key: _sum_of_squares(each) for key, each in values.items()}
    all_squares, all_freedom = sum(squares.values()), sum(len(each) - 1 for each in values.values())
    found = {}
    for key, each in values.items():
        freedom = len(each) - 1
        others = all_freedom - freedom
        prior_freedom = min(PRIOR_FREEDOM, others)
        prior = max(0.0, all_squares - squares[key]) / others if others else 0.0
        known = freedom + prior_freedom
        variance = (squares[key] + prior_freedom * prior) / known if known else 0.0
        found[key] = Variance(variance, known)
    return found


def _sum_of_squares(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def verdicts(ratios: Mapping[Key, LogRatio], threshold: float = THRESHOLD) -> dict[Key, Verdict]:
    """The verdicts of one report, which are one family.

    Faster or slower is what the procedure of Benjamini and Hochberg (1995) finds different at
    `FALSE_DISCOVERY_RATE`, whose ratio is beyond the threshold, and whose own 95% interval excludes
    1. Of the others, an interval that contains a difference of `TOO_WIDE` is too noisy.
    """
    p = {key: each.p for key, each in ratios.items()}
    called = 0
    for rank, key in enumerate(sorted(p, key=p.__getitem__), 1):
        if p[key] <= FALSE_DISCOVERY_RATE * rank / len(p):
            called = rank
    limit = FALSE_DISCOVERY_RATE * called / len(p) if called else 0.0
    return {
        key: _verdict(each, different=p[key] <= limit, limit=limit, threshold=threshold)
        for key, each in ratios.items()
    }


def verdict(ratio: LogRatio, threshold: float = THRESHOLD) -> Verdict:
    """The verdict on one ratio that is the only one of its family."""
    return verdicts({"": ratio}, threshold)[""]


def _verdict(each: LogRatio, *, different: bool, limit: float, threshold: float) -> Verdict:
    ratio, (low, high) = math.exp(each.mean), each.interval()
    if different and ratio > 1 + threshold and low > 1:
        word = FASTER
    elif different and ratio < 1 - threshold and high < 1:
        word = SLOWER
    elif low < 1 - TOO_WIDE or high > 1 + TOO_WIDE:
        word = NOISY
    else:
        word = SAME
    return Verdict(
        ratio=ratio,
        low=low,
        high=high,
        word=word,
        corrected=each.interval(1 - limit) if different else None,
        passes=each.passes,
    )
