"""Is it faster? The ratio of two throughputs, a 95% interval, and one word.

Two sides of the same run are paired by pass, because a slow minute met both; otherwise the passes
or rounds of each side stand for themselves (`scatter.py`). With `MANY` passes the interval is a
bootstrap of the mean difference; with fewer, where a bootstrap is known to be too narrow, it is
Student's or Welch's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgload.contract import Setting
from pgload.report.saved import Measurement
from pgload.report.student import t_quantile

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


FASTER, SLOWER = "faster", "slower"
SAME, NOISY = "no difference shown", "too noisy to say"

CONFIDENCE = 0.95
THRESHOLD = 0.01  # a smaller difference is of no use to anyone
TOO_WIDE = 0.1  # an interval that does not rule out so large a difference says too little
RESAMPLES = 2000


@dataclass(frozen=True)
class Verdict:
    """One side against the baseline; above 1 it is faster than the baseline."""

    ratio: float  # of the throughputs, each the median over the rounds
    low: float | None  # of the 95% interval; None where nothing says how it scatters
    high: float | None
    word: str  # FASTER, SLOWER, SAME or NOISY

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.ratio:.2f}"
        return f"{self.ratio:.2f} ({self.low:.2f}–{self.high:.2f})"

    def __format__(self, spec: str) -> str:
        """`ascii` is for terminals."""
        return f"{self}".replace("–", "-") if spec == "ascii" else str(self)


def against(base: Scatter, other: Scatter, ratio: float, threshold: float = THRESHOLD) -> Verdict:
    """The verdict on `other` beside `base`, by Welch's interval; `ratio` is that of the medians."""
    parts = (base.variance, other.variance)
    freedom = _welch(parts, (base.freedom, other.freedom))
    middle = other.mean - base.mean
    return verdict(ratio, _t_interval(middle, math.fsum(parts), freedom), threshold)


def verdicts(
    base: Mapping[Setting, Measurement],
    other: Mapping[Setting, Measurement],
    *,
    same_runs: bool = False,
    threshold: float = THRESHOLD,
    known: tuple[Mapping[Setting, Scatter], Mapping[Setting, Scatter]] | None = None,
) -> dict[Setting, Verdict]:
    """A verdict for each setting that both sides measured, in the order of settings.

    `same_runs`: both were measured in the same runs, so that their passes are pairs. `known` are
    the two sides' `scatters`, where they were made before.
    """
    apart = known or (scatters(base), scatters(other))
    common = sorted(base.keys() & other.keys())
    paired = moderated(
        {
            setting: [ours - theirs for theirs, ours in zip(*both, strict=True)]
            for setting in common
            if same_runs
            and len(base[setting].passes) == len(other[setting].passes) > 1
            and (both := (by_pass(base[setting]), by_pass(other[setting])))
        }
    )
    many = {
        setting: (apart[1][setting].values, apart[0][setting].values)
        for setting in common
        if setting not in paired and apart[0][setting].many and apart[1][setting].many
    } | {setting: (pairs.values,) for setting, pairs in paired.items() if pairs.many}
    intervals = _bootstraps(many)
    found = {}
    for setting in common:
        ratio = other[setting].throughput / base[setting].throughput
        if setting in intervals:
            found[setting] = verdict(ratio, intervals[setting], threshold)
        elif setting in paired:
            pairs = paired[setting]
            interval = _t_interval(pairs.mean, pairs.variance, pairs.freedom)
            found[setting] = verdict(ratio, interval, threshold)
        else:
            found[setting] = against(apart[0][setting], apart[1][setting], ratio, threshold)
    return found


def verdict(ratio: float, interval: tuple[float, float] | None, threshold: float) -> Verdict:
    """The word for a ratio and the interval of its logarithm.

    Faster or slower only where the whole interval lies beyond the threshold. The interval is that
    of the mean and the ratio that of the medians: where outliers pull them apart, the interval is
    stretched until it holds the ratio.
    """
    if interval is None:
        return Verdict(ratio, None, None, NOISY)
    low, high = min(ratio, math.exp(interval[0])), max(ratio, math.exp(interval[1]))
    if low > 1 + threshold:
        word = FASTER
    elif high < 1 - threshold:
        word = SLOWER
    elif low < 1 - TOO_WIDE or high > 1 + TOO_WIDE:
        word = NOISY
    else:
        word = SAME
    return Verdict(ratio, low, high, word)


def _welch(parts: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances (Welch 1947); 0 where one is unknown."""
    if not all(freedoms):
        return 0.0
    if not any(parts):
        return math.fsum(freedoms)
    squares = (part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    return math.fsum(parts) ** 2 / math.fsum(squares)


def _t_interval(middle: float, variance: float, freedom: float) -> tuple[float, float] | None:
    if not freedom:
        return None
    half = t_quantile(freedom, (1 + CONFIDENCE) / 2) * math.sqrt(variance)
    return middle - half, middle + half


def _bootstraps(
    samples: Mapping[Setting, tuple[tuple[float, ...], ...]],
) -> dict[Setting, tuple[float, float]]:
    """Percentile intervals of a sample's mean, or of the difference of the means of two.

    Settings with equally many observations are resampled together, which is much faster.
    """
    alike: dict[tuple[int, ...], list[Setting]] = {}
    for setting, values in samples.items():
        alike.setdefault(tuple(map(len, values)), []).append(setting)
    if not alike:
        return {}
    import numpy
    from scipy.stats import bootstrap

    def mean_difference(*values: Any, axis: int = -1) -> Any:
        first, *second = (numpy.mean(each, axis=axis) for each in values)
        return first - second[0] if second else first

    found = {}
    for settings in alike.values():
        columns = zip(*(samples[setting] for setting in settings), strict=True)
        interval = bootstrap(
            [numpy.array(column) for column in columns],  # settings × observations
            mean_difference,
            n_resamples=RESAMPLES,
            batch=100,  # resamples of all settings that are in memory at a time
            vectorized=True,
            axis=-1,
            confidence_level=CONFIDENCE,
            method="percentile",  # BCa divides by zero where all values are equal
            rng=numpy.random.default_rng(0),  # the same files give the same report
        ).confidence_interval
        for setting, low, high in zip(settings, interval.low, interval.high, strict=True):
            found[setting] = (float(low), float(high))
    return found
