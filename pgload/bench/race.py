"""A race of settings: which few are the best, in a small part of the time of measuring all well.

A full grid gives most of its time to settings that a single load shows to be slow. So every method
is loaded with two settings first, and those that are far behind drop out. Then come rungs of
successive halving (Karnin, Koren and Somekh 2013, "Almost optimal exploration in multi-armed
bandits"): one more load of every setting that is left, in random order, of which the better ones
stay, until a few are left. These are then measured as any setting is, in passes side by side, and
only those passes count: the winner of a noisy race is often one that was lucky.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pgload.contract import Setting
from pgload.report.student import t_quantile

FINALISTS = 4
KEPT = 0.55  # of the settings of a rung
# A method drops out if with neither of two settings it reaches this part of the fastest method's
# throughput: a single load may be off by some 10%.
MIN_METHOD_RATIO = 0.6
# The finals end when no other finalist is likely to be more than this faster than the best one.
INDIFFERENCE = 0.03
MIN_PASSES, MAX_PASSES = 5, 20
TRIMMED = 0.2  # of the passes at each end: a stall should not decide


@dataclass(frozen=True, slots=True)
class Dropped:
    """A setting that is not in the finals."""

    setting: Setting
    rung: int  # 0: its method was too slow with two other settings
    loads: int  # of this setting
    ratio: float | None  # its throughput to that of the fastest of its rung; None: never loaded


@dataclass
class Outcome:
    """How a race ended: the settings for the finals, best first, and the others."""

    finalists: list[Setting] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    failed: list[Setting] = field(default_factory=list)  # could not be loaded


def race(settings: Sequence[Setting], random: Random) -> Generator[Setting, float | None, Outcome]:
    """Yields the setting to load next, is sent its records per second, and returns the outcome.

    None is sent for a setting that cannot be loaded. The same numbers give the same race, so that
    one that was interrupted can be run again from what it was sent.
    """
    outcome = Outcome()
    left = yield from _of_fast_methods(settings, random, outcome)
    logs: dict[Setting, list[float]] = {setting: [] for setting in left}
    rung = 0
    while len(left) > FINALISTS:
        rung += 1
        yield from _load_each(left, random, logs, outcome)
        left = [setting for setting in left if setting not in outcome.failed]
        ranked = sorted(left, key=lambda setting: trimmed_mean(logs[setting]), reverse=True)
        kept = max(FINALISTS, math.ceil(len(left) * KEPT))
        for setting in ranked[kept:]:
            ratio = math.exp(trimmed_mean(logs[setting]) - trimmed_mean(logs[ranked[0]]))
            outcome.dropped.append(Dropped(setting, rung, len(logs[setting]), ratio))
        left = ranked[:kept]
    outcome.finalists = left
    return outcome


def _of_fast_methods(
    settings: Sequence[Setting], random: Random, outcome: Outcome
) -> Generator[Setting, float | None, list[Setting]]:
    """The settings of the methods that are not far behind with both of two settings."""
    methods = list(dict.fromkeys(setting.method for setting in settings))
    if len(methods) == 1:
        return list(settings)
    sizes = sorted({setting.batch_size for setting in settings})
    connections = sorted({setting.connections for setting in settings})
    probes = list(dict.fromkeys(zip(_two_of(sizes), _two_of(connections), strict=True)))
    asked = [Setting(method, *probe) for probe in probes for method in methods]
    logs: dict[Setting, list[float]] = {setting: [] for setting in asked}
    yield from _load_each(asked, random, logs, outcome)
    best = dict.fromkeys(methods, 0.0)  # each one's best ratio to the fastest
    for probe in probes:
        rates = {m: logs[Setting(m, *probe)] for m in methods}
        fastest = max((rate[0] for rate in rates.values() if rate), default=0.0)
        for method, rate in rates.items():
            if rate:
                best[method] = max(best[method], math.exp(rate[0] - fastest))
    left = []
    for setting in settings:
        if best[setting.method] >= MIN_METHOD_RATIO or not any(best.values()):
            left.append(setting)
        else:
            loads = len(logs.get(setting, ()))
            outcome.dropped.append(Dropped(setting, 0, loads, best[setting.method]))
    return left


def _two_of(values: Sequence[int]) -> tuple[int, int]:
    """One value somewhat below and one somewhat above the middle."""
    last = len(values) - 1
    return values[last // 2], values[min(last, len(values) // 2 + 1)]


def _load_each(
    settings: Sequence[Setting],
    random: Random,
    logs: Mapping[Setting, list[float]],
    outcome: Outcome,
) -> Generator[Setting, float | None, None]:
    for setting in random.sample(list(settings), len(settings)):
        rate = yield setting
        if rate is None:
            outcome.failed.append(setting)
        else:
            logs[setting].append(math.log(rate))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the finals show."""

    fastest: Setting
    # Of the settings that are surely at most `INDIFFERENCE` slower than the fastest, the one with
    # the fewest connections, and of these with the smallest batch.
    best: Setting
    not_slower: list[Setting]  # not shown to be slower than the fastest, without it
    decided: bool  # no finalist is likely to be more than `INDIFFERENCE` faster than the fastest


def judge(finals: Mapping[Setting, Sequence[float]]) -> Judgement:
    """Judge the finals from each one's records per second, pass by pass, of the same passes.

    Passes are compared in pairs, by the trimmed mean of the logarithms of their ratios and its
    standard error (Yuen 1974, doi:10.1093/biomet/61.1.165).
    """
    logs = {setting: [math.log(rate) for rate in rates] for setting, rates in finals.items()}
    fastest = max(logs, key=lambda setting: trimmed_mean(logs[setting]))
    as_good, not_slower, decided = [fastest], [], True
    for setting, rates in logs.items():
        if setting == fastest:
            continue
        low, high = _interval([a - b for a, b in zip(rates, logs[fastest], strict=True)])
        if low > -math.log1p(INDIFFERENCE):
            as_good.append(setting)
        if high >= 0:
            not_slower.append(setting)
        decided &= high <= math.log1p(INDIFFERENCE)
    best = min(as_good, key=lambda setting: (setting.connections, setting.batch_size))
    return Judgement(fastest, best, not_slower, decided)


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the `TRIMMED` smallest and largest."""
    cut = int(len(values) * TRIMMED)
    return statistics.fmean(sorted(values)[cut : len(values) - cut])


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the trimmed mean; without an end for fewer than `MIN_PASSES`."""
    n, cut = len(values), int(len(values) * TRIMMED)
    if n < MIN_PASSES:
        return -math.inf, math.inf
    kept = sorted(values)[cut : n - cut]
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = statistics.stdev(winsorized) * math.sqrt((n - 1) / (len(kept) * (len(kept) - 1)))
    middle, margin = statistics.fmean(kept), t_quantile(len(kept) - 1, 0.975) * error
    return middle - margin, middle + margin
