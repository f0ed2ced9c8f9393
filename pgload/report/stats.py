"""Whether one throughput is higher than another: a ratio, its 95% interval, and a verdict.

All is done on logarithms of throughput, since speed changes by percentages. An observation is a
pass where a setting was measured in several passes: a whole pass is slower or faster than the
next, so its rounds are not independent. Sides of the same run are paired by pass, since a slow
minute affects both; otherwise their means are compared by Welch's t interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgload.contract import Setting
from pgload.report.measurement import Measurement
from pgload.report.student import t_quantile

FASTER, SLOWER = "faster", "slower"
SAME, NOISY = "no difference shown", "too noisy to say"

CONFIDENCE = 0.95
THRESHOLD = 0.01  # a smaller difference is not worth acting on
TOO_WIDE = 0.1  # an interval that does not exclude a difference of this size says too little
PRIOR_FREEDOM = 4  # degrees of freedom that the pooled variance of the other settings counts for
WITHIN_PASS = 0.15  # of the variance of rounds, assumed to be common to the rounds of one pass


@dataclass(frozen=True)
class MeanEstimate:
    """The mean of log throughput, with the variance of that mean."""

    values: tuple[float, ...]  # the observations
    variance: float  # of the mean
    freedom: float  # degrees of freedom of the variance; 0 where it is unknown

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)


@dataclass(frozen=True)
class Verdict:
    """One side against the baseline; above 1 it is faster than the baseline."""

    ratio: float  # of the throughputs, each the median over the rounds
    low: float | None  # of the 95% interval; None where the variance is unknown
    high: float | None
    word: str  # FASTER, SLOWER, SAME or NOISY

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.ratio:.2f}"
        return f"{self.ratio:.2f} ({self.low:.2f}–{self.high:.2f})"

    def __format__(self, spec: str) -> str:
        """`ascii` is for terminals."""
        return f"{self}".replace("–", "-") if spec == "ascii" else str(self)


def estimates(measured: Mapping[Setting, Measurement]) -> dict[Setting, MeanEstimate]:
    """The mean log throughput of each setting of one side, by its passes or else its rounds."""
    passes = {setting: each for setting, each in measured.items() if len(each.passes) > 1}
    rounds = {setting: each for setting, each in measured.items() if setting not in passes}
    of_passes = pooled({setting: log_passes(each) for setting, each in passes.items()})
    of_rounds = pooled(
        {setting: [-math.log(s) for s in each.rounds] for setting, each in rounds.items()},
        common=WITHIN_PASS,
    )
    return of_passes | _as_uncertain_as(of_passes.values(), of_rounds)


def log_passes(each: Measurement) -> list[float]:
    """Log throughput of each pass, up to a constant that is the same for the same dataset."""
    return [-math.log(statistics.median(one.seconds)) for one in each.passes]


def pooled(
    values: Mapping[Setting, Sequence[float]], *, common: float = 0.0
) -> dict[Setting, MeanEstimate]:
    """Means with moderated variances.

    A few observations estimate a variance badly, so each setting's is pooled with the mean variance
    of the other settings, which counts for `PRIOR_FREEDOM` degrees of freedom (Smyth 2004,
    doi:10.2202/1544-6115.1027, with a fixed prior). `common` is the share of the variance that does
    not shrink with more observations.
    """
    squares = {setting: _sum_of_squares(each) for setting, each in values.items()}
    all_squares, all_freedom = sum(squares.values()), sum(len(each) - 1 for each in values.values())
    found = {}
    for setting, each in values.items():
        freedom = len(each) - 1
        others = all_freedom - freedom
        prior_freedom = min(PRIOR_FREEDOM, others)
        prior = max(0.0, all_squares - squares[setting]) / others if others else 0.0
        known = freedom + prior_freedom
        variance = (squares[setting] + prior_freedom * prior) / known if known else 0.0
        found[setting] = MeanEstimate(
            values=tuple(each), variance=variance * (1 / len(each) + common), freedom=known
        )
    return found


def _sum_of_squares(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _as_uncertain_as(
    of_passes: Iterable[MeanEstimate], of_rounds: Mapping[Setting, MeanEstimate]
) -> dict[Setting, MeanEstimate]:
    """Settings of a single pass, with at least the variance that passes have on this side."""
    known = [each for each in of_passes if each.freedom]
    if not known:
        return dict(of_rounds)
    variance = statistics.fmean(each.variance * len(each.values) for each in known)
    freedom = sum(len(each.values) - 1 for each in known)
    return {
        setting: each
        if each.freedom and each.variance > variance
        else replace(each, variance=variance, freedom=freedom)
        for setting, each in of_rounds.items()
    }


def verdicts(
    base: Mapping[Setting, Measurement],
    other: Mapping[Setting, Measurement],
    *,
    same_runs: bool = False,
    threshold: float = THRESHOLD,
) -> dict[Setting, Verdict]:
    """A verdict for each setting that both sides measured, in the order of settings.

    `same_runs`: both were measured in the same runs, so that their passes are pairs.
    """
    base_estimates, other_estimates = estimates(base), estimates(other)
    common = sorted(base.keys() & other.keys())
    pairs = pooled(
        {
            setting: [
                theirs - ours
                for ours, theirs in zip(
                    log_passes(base[setting]), log_passes(other[setting]), strict=True
                )
            ]
            for setting in common
            if same_runs and len(base[setting].passes) == len(other[setting].passes) > 1
        }
    )
    found = {}
    for setting in common:
        ratio = other[setting].throughput / base[setting].throughput
        if setting in pairs:
            pair = pairs[setting]
            interval = _t_interval(pair.mean, pair.variance, pair.freedom)
            found[setting] = verdict(ratio, interval, threshold)
        else:
            found[setting] = unpaired_verdict(
                base_estimates[setting], other_estimates[setting], ratio, threshold
            )
    return found


def unpaired_verdict(
    base: MeanEstimate, other: MeanEstimate, ratio: float, threshold: float = THRESHOLD
) -> Verdict:
    """The verdict by Welch's t interval; `ratio` is that of the medians."""
    parts = (base.variance, other.variance)
    freedom = _welch_satterthwaite(parts, (base.freedom, other.freedom))
    interval = _t_interval(other.mean - base.mean, math.fsum(parts), freedom)
    return verdict(ratio, interval, threshold)


def verdict(ratio: float, interval: tuple[float, float] | None, threshold: float) -> Verdict:
    """The word for a ratio and the interval of its logarithm.

    Faster or slower only where the whole interval lies beyond the threshold. The interval is that
    of the mean and the ratio that of the medians: where outliers pull them apart, the interval is
    stretched until it contains the ratio.
    """
    if interval is None:
        return Verdict(ratio=ratio, low=None, high=None, word=NOISY)
    low, high = min(ratio, math.exp(interval[0])), max(ratio, math.exp(interval[1]))
    if low > 1 + threshold:
        word = FASTER
    elif high < 1 - threshold:
        word = SLOWER
    elif low < 1 - TOO_WIDE or high > 1 + TOO_WIDE:
        word = NOISY
    else:
        word = SAME
    return Verdict(ratio=ratio, low=low, high=high, word=word)


def _welch_satterthwaite(parts: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances (Welch 1947); 0 where one is unknown."""
    if not all(freedoms):
        return 0.0
    if not any(parts):
        return math.fsum(freedoms)
    squares = (part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    return math.fsum(parts) ** 2 / math.fsum(squares)


def _t_interval(mean: float, variance: float, freedom: float) -> tuple[float, float] | None:
    if not freedom:
        return None
    half = t_quantile(freedom, (1 + CONFIDENCE) / 2) * math.sqrt(variance)
    return mean - half, mean + half
