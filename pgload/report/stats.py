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
- Several runs of a side differ as a whole, in all settings alike, and in each setting by itself. The
  first part is estimated from as many values as there are runs, however many settings there are.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
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
            variances=(
                *ours[setting].variances,
                *theirs[setting].variances,
                *([between_lone_runs(of_lone_runs)] if of_lone_runs else []),
            ),
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
    runs: dict[Setting, dict[str, float]] = {}
    passes: dict[Setting, list[float]] = {}
    lone: dict[Setting, list[float]] = {}
    for setting, each in rounds.items():
        by_run = _pass_means(each)
        if len(by_run) > 1:
            runs[setting] = {run: statistics.fmean(logs) for run, logs in by_run.items()}
        elif len(each) > 1:
            (passes[setting],) = by_run.values()
        else:
            lone[setting] = [log for logs in each.values() for log in logs]
    observed: dict[Setting, Sequence[float]] = {**passes, **lone}
    observed |= {setting: list(means.values()) for setting, means in runs.items()}
    parts = _between_runs(runs)
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


def _pass_means(rounds: Rounds) -> dict[str, list[float]]:
    """The mean of each pass, by run."""
    by_run: dict[str, list[float]] = {}
    for (run, _), logs in rounds.items():
        by_run.setdefault(run, []).append(statistics.fmean(logs))
    return by_run


def _between_runs(means: Mapping[Setting, Mapping[str, float]]) -> dict[Setting, list[Variance]]:
    """The parts of the variance of each setting's mean over its runs, given the means by run."""
    deviations: dict[str, list[float]] = {}
    for by_run in means.values():
        middle = statistics.fmean(by_run.values())
        for run, mean in by_run.items():
            deviations.setdefault(run, []).append(mean - middle)
    common = {run: statistics.fmean(each) for run, each in deviations.items()}
    as_a_whole = _sum_of_squares(list(common.values())) / (len(common) - 1) if common else 0.0
    alone = pooled_variances(
        {
            setting: [mean - common[run] for run, mean in by_run.items()]
            for setting, by_run in means.items()
        }
    )
    return {
        setting: [
            Variance(as_a_whole / len(by_run), len(by_run) - 1),
            Variance(alone[setting].value / len(by_run), alone[setting].freedom),
        ]
        for setting, by_run in means.items()
    }


def run_variation(runs: Sequence[Mapping[Setting, Measurement]]) -> RunVariation:
    """How much several runs of one server vary, by the settings that at least two of them have.

    Runs may differ in all settings alike, so the degrees of freedom are those of one setting.
    """
    by_setting: dict[Setting, list[list[float]]] = {}
    for measured in runs:
        for setting, each in measured.items():
            by_setting.setdefault(setting, []).extend(_pass_means(rounds_of(each)).values())
    shared = [passes for passes in by_setting.values() if len(passes) > 1]
    if not shared:
        return RunVariation()
    squares = math.fsum(_sum_of_squares([*map(statistics.fmean, passes)]) for passes in shared)
    all_freedom = sum(len(passes) - 1 for passes in shared)
    observed = squares / all_freedom
    of_passes = statistics.fmean(
        statistics.variance(logs) / len(logs) if len(logs) > 1 else 0.0
        for passes in shared
        for logs in passes
    )
    return RunVariation(
        between=max(0.0, observed - of_passes),
        observed=observed,
        freedom=all_freedom / len(shared),
        runs=max(map(len, shared)),
    )


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
