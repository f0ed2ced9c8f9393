"""Whether one throughput is higher than another: a ratio, its 95% interval, and a verdict.

Everything is done on logarithms of throughput, since speed changes by percentages. What varies
independently is an observation: a pass, not a round, since a whole pass is slower or faster than
the next; and a run, not a pass, where a side has several runs. Sides of the same runs are paired by
run and pass, since a slow minute affects both.

The assumptions behind an interval, each with what it was checked against in
tests/report/test_known_truth.py:

- A few observations estimate a variance badly. Each setting's is pooled with that of the others.
- A single pass says nothing of the variation between passes: that is assumed (`PASS_VARIATION`).
- A single run says nothing of the variation between runs: that is assumed (`RUN_VARIATION`), and
  corrected by earlier saved runs of the same server, where the two sides are not of the same run.
- Several runs of a side differ as a whole, in all settings alike, and in each setting by itself.
  The first part is estimated from as many values as there are runs, not from as many as settings.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pgload.contract import Setting
from pgload.report.measurement import Measurement
from pgload.report.student import t_quantile, two_sided_p
from pgload.report.variance import (
    RunVariation,
    Variance,
    between_lone_runs,
    between_runs,
    pooled_variances,
)

FASTER, SLOWER = "faster", "slower"
SAME, NOISY = "no difference shown", "too noisy to say"

CONFIDENCE = 0.95
FALSE_DISCOVERY_RATE = 0.10  # of the settings of a report that are called faster or slower
THRESHOLD = 0.01  # a smaller difference is not worth acting on
TOO_WIDE = 0.1  # an interval that does not exclude a difference of this size says too little

PASS_VARIATION, PASS_FREEDOM = 0.05, 4  # standard deviation between passes, where there is but one

Key = TypeVar("Key", bound=Hashable)
# Log throughput of each round, by run and number of the pass.
Rounds = Mapping[tuple[str, int], Sequence[float]]


@dataclass(frozen=True)
class LogRatio:
    """The mean log ratio of two throughputs, with the variance of that mean."""

    mean: float
    variances: tuple[Variance, ...]  # independent parts
    passes: int  # of the side that has fewer
    between_runs: Variance | None = None  # one more part, where a side has a single run

    @property
    def _parts(self) -> tuple[Variance, ...]:
        return (*self.variances, self.between_runs) if self.between_runs else self.variances

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(math.fsum(part.value for part in self._parts))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a sum of variances (Welch 1947, Satterthwaite 1946)."""
        parts = [part for part in self._parts if part.value]
        if not parts:
            return math.fsum(part.freedom for part in self._parts)
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

    def with_second_run(self) -> LogRatio:
        """What may be expected if both sides, of one run each, are measured once more.

        The variation between runs is then known from two differences.
        """
        between = self.between_runs
        return replace(
            self,
            variances=tuple(Variance(part.value / 2, 2 * part.freedom) for part in self.variances),
            between_runs=between and Variance(between.value / 2, 2),
        )


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
    run_variations: Sequence[RunVariation] = (RunVariation(), RunVariation()),
) -> dict[Setting, LogRatio]:
    """The log ratio of each setting that both sides measured, in the order of settings.

    Passes of the same run and number are pairs; where there are none, the sides are compared by
    their means. `run_variations` are those of the base's server and of the other's.
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
        of_lone_runs = [
            variation
            for side, variation in zip(both, run_variations, strict=True)
            if len({run for run, _ in side}) == 1
        ]
        found[setting] = LogRatio(
            mean=theirs[setting].mean - ours[setting].mean,
            variances=(*ours[setting].variances, *theirs[setting].variances),
            passes=min(ours[setting].passes, theirs[setting].passes),
            between_runs=between_lone_runs(of_lone_runs) if of_lone_runs else None,
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
    runs: dict[Setting, dict[str, float]] = {}
    passes: dict[Setting, list[float]] = {}
    lone: dict[Setting, list[float]] = {}
    for setting, each in rounds.items():
        by_run = pass_means(each)
        if len(by_run) > 1:
            runs[setting] = {run: statistics.fmean(logs) for run, logs in by_run.items()}
        elif len(each) > 1:
            (passes[setting],) = by_run.values()
        else:
            lone[setting] = [log for logs in each.values() for log in logs]
    observed: dict[Setting, Sequence[float]] = {**passes, **lone}
    observed |= {setting: list(means.values()) for setting, means in runs.items()}
    parts = between_runs(runs)
    for of_settings in (passes, lone):
        for setting, (variance, freedom) in pooled_variances(of_settings).items():
            parts[setting] = [Variance(variance / len(of_settings[setting]), freedom)]
    for setting in lone:
        parts[setting].append(Variance(PASS_VARIATION**2, PASS_FREEDOM))
    return {
        setting: LogRatio(
            mean=statistics.fmean(observed[setting]),
            variances=tuple(part for part in parts[setting] if part.freedom),
            passes=len(each),
        )
        for setting, each in rounds.items()
    }


def pass_means(rounds: Rounds) -> dict[str, list[float]]:
    """The mean of each pass, by run."""
    by_run: dict[str, list[float]] = {}
    for (run, _), logs in rounds.items():
        by_run.setdefault(run, []).append(statistics.fmean(logs))
    return by_run


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
