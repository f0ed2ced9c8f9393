"""Whether one throughput is higher than another: a ratio, its 95% interval, and a verdict.

Everything is done on logarithms of throughput, since speed changes by percentages. The steps, each
checked in tests/report/test_known_truth.py against simulated runs:

1. What varies independently is an observation: a pass, not a round, since a whole pass is slower or
   faster than the next; and a run, not a pass, where a side has several. Passes of one run are
   paired, since a slow minute affects both sides.
2. The ratio is that of the means of the observations.
3. A few observations estimate a variance badly: each setting's is moderated by the others'. What a
   single pass or a single run cannot show of its variation is assumed (`variance.py`).
4. Runs differ as a whole, so settings of separate runs share an error. It is estimated from as many
   values as there are runs, not settings, and a word needs a wider interval there.
5. The words of a report are one family of tests.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TypeVar

from pgload.contract import Setting
from pgload.report.measurement import Measurement
from pgload.report.student import t_quantile, two_sided_p
from pgload.report.variance import RunVariation, Variance, between_runs, moderated_variances

FASTER, SLOWER = "faster", "slower"
SAME, NOISY = "no difference shown", "too noisy to say"

CONFIDENCE = 0.95
# Between separate runs the interval that must exclude 1: the error of a run is in all its settings,
# so that this level is the share of reports that are wrong throughout.
RUNS_CONFIDENCE = 0.975
FALSE_DISCOVERY_RATE = 0.05  # of the settings of a report that are called faster or slower
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
    own: tuple[Variance, ...]  # independent parts of the variance
    of_runs: tuple[Variance, ...]  # more of them: an error that all settings of a run share
    passes: int  # of the side that has fewer

    @property
    def _parts(self) -> list[Variance]:
        return [part for part in (*self.own, *self.of_runs) if part.value]

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(math.fsum(part.value for part in self._parts))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a sum of variances (Welch 1947, Satterthwaite 1946)."""
        total = math.fsum(part.value for part in self._parts)
        squares = math.fsum(part.value**2 / part.freedom for part in self._parts)
        return max(1.0, total**2 / squares) if squares else math.inf

    @property
    def p(self) -> float:
        """The probability of a mean as far from 0 as this one where there is no difference."""
        if not self.error:
            return float(self.mean == 0)
        return two_sided_p(self.mean / self.error, self.freedom)

    @property
    def level(self) -> float:
        """The largest p that is called a difference."""
        shared = any(part.value for part in self.of_runs)
        return 1 - (RUNS_CONFIDENCE if shared else CONFIDENCE)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Of the ratio, by Student's t."""
        half = t_quantile(self.freedom, (1 + confidence) / 2) * self.error if self.error else 0.0
        return math.exp(self.mean - half), math.exp(self.mean + half)

    def with_second_run(self) -> LogRatio:
        """What may be expected if both sides, of one run each, are measured once more.

        The variation between runs is then known from two differences.
        """
        return replace(
            self,
            own=tuple(Variance(part.value / 2, 2 * part.freedom) for part in self.own),
            of_runs=tuple(Variance(part.value / 2, 2) for part in self.of_runs),
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
    ours = _means({setting: each for setting, (each, _) in apart.items()})
    theirs = _means({setting: each for setting, (_, each) in apart.items()})
    found = _means(pairs) | {
        setting: _difference(
            ours[setting],
            theirs[setting],
            assumed=[
                variation
                for side, variation in zip(sides, run_variations, strict=True)
                if len({run for run, _ in side}) == 1
            ],
        )
        for setting, sides in apart.items()
    }
    return {setting: found[setting] for setting in rounds}


def _difference(ours: LogRatio, theirs: LogRatio, assumed: Sequence[RunVariation]) -> LogRatio:
    """Between the means of sides of separate runs; `assumed` is the variation of each single run.

    Where both are single, the assumption is the same, so that two are known no better than one.
    """
    of_runs = [*ours.of_runs, *theirs.of_runs]
    if assumed:
        variance = math.fsum(each.variance for each in assumed)
        of_runs.append(Variance(variance, min(each.freedom for each in assumed)))
    return LogRatio(
        mean=theirs.mean - ours.mean,
        own=(*ours.own, *theirs.own),
        of_runs=tuple(of_runs),
        passes=min(ours.passes, theirs.passes),
    )


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
        of_runs = pass_means(each)
        if len(of_runs) > 1:
            runs[setting] = {run: statistics.fmean(logs) for run, logs in of_runs.items()}
        elif len(each) > 1:
            (passes[setting],) = of_runs.values()
        else:
            (lone[setting],) = map(list, each.values())
    parts: dict[Setting, tuple[Sequence[float], list[Variance], list[Variance]]] = {}
    for setting, variance in moderated_variances(passes).items():
        parts[setting] = passes[setting], [_of_mean(variance, passes[setting])], []
    for setting, variance in moderated_variances(lone).items():
        of_pass = Variance(PASS_VARIATION**2, PASS_FREEDOM)
        parts[setting] = lone[setting], [_of_mean(variance, lone[setting]), of_pass], []
    if runs:
        as_a_whole, by_itself = between_runs(runs)
        for setting, by_run in runs.items():
            own, shared = _of_mean(by_itself[setting], by_run), _of_mean(as_a_whole, by_run)
            parts[setting] = [*by_run.values()], [own], [shared]
    return {
        setting: LogRatio(statistics.fmean(observed), tuple(own), tuple(shared), len(each))
        for setting, each in rounds.items()
        for observed, own, shared in [parts[setting]]
    }


def _of_mean(variance: Variance, observations: Sized) -> Variance:
    return Variance(variance.value / len(observations), variance.freedom)


def pass_means(rounds: Rounds) -> dict[str, list[float]]:
    """The mean of each pass, by run."""
    by_run: dict[str, list[float]] = {}
    for (run, _), logs in rounds.items():
        by_run.setdefault(run, []).append(statistics.fmean(logs))
    return by_run


def verdicts(ratios: Mapping[Key, LogRatio], threshold: float = THRESHOLD) -> dict[Key, Verdict]:
    """The verdicts of one report, which are one family.

    Faster or slower is what is found different at `FALSE_DISCOVERY_RATE` and at its own level, and
    whose ratio is beyond the threshold. Of the others, one whose interval contains a difference of
    `TOO_WIDE` is too noisy.
    """
    p = {key: each.p for key, each in ratios.items()}
    limit = _largest_p([*p.values()])
    called = {
        key
        for key, each in ratios.items()
        if p[key] <= min(limit, each.level) and abs(math.exp(each.mean) - 1) > threshold
    }
    corrected = 1 - FALSE_DISCOVERY_RATE * len(called) / len(p) if p else CONFIDENCE
    return {
        key: _verdict(each, corrected if key in called else None) for key, each in ratios.items()
    }


def verdict(ratio: LogRatio, threshold: float = THRESHOLD) -> Verdict:
    """The verdict on one ratio that is the only one of its family."""
    return verdicts({"": ratio}, threshold)[""]


def _largest_p(family: Sequence[float]) -> float:
    """The largest p of a family of tests that is called different, or 0 where none is.

    That is what Benjamini and Hochberg's procedure finds, done twice: the first time tells how many
    settings do not differ (Benjamini, Krieger and Yekutieli 2006, doi:10.1093/biomet/93.3.491).
    """
    rate, count = FALSE_DISCOVERY_RATE / (1 + FALSE_DISCOVERY_RATE), len(family)
    first = _step_up(family, rate)
    different = sum(p <= first for p in family)
    return _step_up(family, rate * count / (count - different)) if different < count else first


def _step_up(family: Sequence[float], rate: float) -> float:
    """The largest p that is at most `rate` times its share of ranks (Benjamini, Hochberg 1995)."""
    ranks = enumerate(sorted(family), 1)
    return max((p for rank, p in ranks if p <= rate * rank / len(family)), default=0.0)


def _verdict(each: LogRatio, corrected: float | None) -> Verdict:
    """`corrected` is the confidence of a ratio that is called faster or slower."""
    low, high = each.interval()
    if corrected is not None:
        word = FASTER if each.mean > 0 else SLOWER
    elif low < 1 - TOO_WIDE or high > 1 + TOO_WIDE:
        word = NOISY
    else:
        word = SAME
    return Verdict(
        ratio=math.exp(each.mean),
        low=low,
        high=high,
        word=word,
        corrected=None if corrected is None else each.interval(corrected),
        passes=each.passes,
    )
