"""How often verdicts are right on saved runs whose true difference is known.

The targets are those of many reports. Fewer are simulated here, so that a share may miss its target
by three standard errors. Many, as the README quotes them:

    python -m tests.report.test_known_truth 200
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from pgload.contract import Setting
from pgload.report.history import run_variation
from pgload.report.measurement import Measurement, SavedPass, measurement
from pgload.report.stats import FASTER, SLOWER, log_ratios, verdicts
from pgload.report.variance import RunVariation
from tests.support.saved_runs import load

SETTINGS, REPORTS = 30, 20
BASE = measurement(load(), "0001.json")


@dataclass(frozen=True)
class Noise:
    """How much log throughput varies, as standard deviations."""

    within: float = 0.03  # rounds of a pass
    between: float = 0.02  # passes of a setting; paired sides share it
    runs: float = 0.0  # a run as a whole
    outliers: float = 0.0  # share of rounds that take twice as long
    autocorrelation: float = 0.0  # of neighbouring slots of a pass


@dataclass(frozen=True)
class Report:
    """What verdicts were given in many simulated reports, where `slowdown` is the truth."""

    words: Sequence[Sequence[str]]
    covered: float  # share of the intervals that contain the true ratio
    width: float  # mean of their logarithms' widths

    def share(self, word: str) -> float:
        words = [each for report in self.words for each in report]
        return words.count(word) / len(words)

    @property
    def called(self) -> float:
        return self.share(FASTER) + self.share(SLOWER)

    @property
    def reports_with_a_call(self) -> float:
        return sum(bool({FASTER, SLOWER} & {*report}) for report in self.words) / len(self.words)


def at_most(share: float, reports: int) -> float:
    """What a share of reports that is at most so large does not exceed but by chance."""
    return share + 3 * math.sqrt(share * (1 - share) / reports)


def at_least(share: float, reports: int) -> float:
    """What a share of reports that is at least so large does not fall below but by chance."""
    return share - 3 * math.sqrt(share * (1 - share) / reports)


KNOWN_NOT_TO_VARY = RunVariation(variance=0.0, freedom=math.inf)


def simulate(
    noise: Noise,
    *,
    passes: int = 5,
    rounds: int = 1,
    paired: bool = False,
    slowdown: float = 0.0,
    runs: int = 1,
    history: int = 0,
    known: RunVariation | None = None,
    reports: int = REPORTS,
) -> Report:
    """Reports of `SETTINGS` settings, whose second side is slower by `slowdown`.

    Each side has so many runs, and the server so many earlier ones, unless its variation is known.
    """
    rng = Random(f"{noise} {passes} {rounds} {paired} {slowdown} {runs} {history}")
    words, covered, widths = [], 0, []
    truth = 1 - slowdown

    def one_run(name: str, rate: float = 1.0) -> dict[Setting, Measurement]:
        return _side(rng, noise, rounds, _slots(rng, noise, passes), run=name, rate=rate)

    for _ in range(reports):
        slots = _slots(rng, noise, passes)
        base = _side(rng, noise, rounds, slots, run="base 1", rate=1.0)
        if paired:
            other = _side(rng, noise, rounds, slots, run="base 1", rate=truth)
        else:
            other = one_run("other 1", truth)
        for n in range(2, runs + 1):
            base = _pooled(base, one_run(f"base {n}"))
            other = _pooled(other, one_run(f"other {n}", truth))
        before = known or run_variation([one_run(f"earlier {n}") for n in range(history)])
        found = verdicts(log_ratios(base, other, (before, before)))
        words.append([each.word for each in found.values()])
        covered += sum(each.low <= truth <= each.high for each in found.values())
        widths += [math.log(each.high / each.low) for each in found.values()]
    return Report(words, covered / reports / SETTINGS, statistics.fmean(widths))


def _pooled(
    one: dict[Setting, Measurement], other: dict[Setting, Measurement]
) -> dict[Setting, Measurement]:
    return {
        setting: replace(each, passes=(*each.passes, *other[setting].passes))
        for setting, each in one.items()
    }


def _slots(rng: Random, noise: Noise, passes: int) -> list[list[float]]:
    """What each slot of a run adds to log throughput, by setting and pass."""
    level, correlation = rng.gauss(0, noise.runs), noise.autocorrelation
    before, slots = 0.0, [[0.0] * passes for _ in range(SETTINGS)]
    for number in range(passes):
        for setting in range(SETTINGS):
            fresh = rng.gauss(0, noise.between * math.sqrt(1 - correlation**2))
            before = correlation * before + fresh
            slots[setting][number] = level + before
    return slots


def _side(
    rng: Random,
    noise: Noise,
    rounds: int,
    slots: Sequence[Sequence[float]],
    *,
    run: str,
    rate: float,
) -> dict[Setting, Measurement]:
    found = {}
    for number, of_setting in enumerate(slots):
        saved = []
        for pass_number, slot in enumerate(of_setting, 1):
            seconds = []
            for _ in range(rounds):
                log_rate = math.log(rate) + slot + rng.gauss(0, noise.within)
                slow = 2.0 if rng.random() < noise.outliers else 1.0
                seconds.append(slow * math.exp(-log_rate))
            saved.append(SavedPass(run, pass_number, tuple(seconds)))
        setting = Setting("copy", 100 * (number + 1), 1)
        found[setting] = replace(BASE, setting=setting, passes=tuple(saved), source=run)
    return found


SAME_SERVER = {
    "3% within, 2% between": Noise(),
    "1% within, 5% between": Noise(within=0.01, between=0.05),
    "outliers": Noise(outliers=0.05),
    "autocorrelated": Noise(between=0.03, autocorrelation=0.8),
}
EFFORTS = {"default": {"passes": 5, "rounds": 1}, "5 x 5": {"passes": 5, "rounds": 5}}


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("paired", [False, True], ids=["two runs", "one run"])
@pytest.mark.parametrize("noise", SAME_SERVER)
def test_one_server_is_not_called_different(noise: str, paired: bool, effort: str) -> None:
    """Whatever the noise, and the interval contains 1 as often as it promises."""
    found = simulate(SAME_SERVER[noise], paired=paired, **EFFORTS[effort])

    assert found.called <= 0.01
    assert found.reports_with_a_call <= at_most(0.05, REPORTS)
    assert found.covered >= 0.94


def few_false_in_all_settings(found: Report, reports: int) -> None:
    """Where runs differ as a whole, so that the settings of a report are wrong together."""
    assert found.called <= at_most(0.03, reports)
    assert found.reports_with_a_call <= at_most(0.10, reports)
    assert found.covered >= at_least(0.94, reports)


@pytest.mark.parametrize("effort", EFFORTS)
def test_runs_that_differ_as_a_whole_are_rarely_called_different(effort: str) -> None:
    """Another day changes a server by 3%, which a single run a side cannot know."""
    found = simulate(Noise(between=0.0, runs=0.03), **EFFORTS[effort], reports=60)

    few_false_in_all_settings(found, reports=60)


@pytest.mark.parametrize("runs", [2, 3])
def test_runs_that_differ_as_a_whole_are_known_from_several(runs: int) -> None:
    """All settings of a run being slower together is one observation, not one for each setting."""
    found = simulate(Noise(runs=0.03), runs=runs, reports=60)

    few_false_in_all_settings(found, reports=60)


@pytest.mark.parametrize(("variation", "history"), [(0.05, 5), (0.03, 3), (0.005, 20)])
def test_earlier_runs_tell_how_much_runs_vary(variation: float, history: int) -> None:
    """Where they vary by 5%, nothing is called that only 2% would call."""
    found = simulate(Noise(runs=variation), history=history, reports=60)

    few_false_in_all_settings(found, reports=60)


def test_earlier_runs_make_intervals_wider_or_narrower() -> None:
    """With a variation of 5% wider, with one of 0.5% in many runs narrower; the truth decides."""
    assumed = simulate(Noise()).width
    varying = simulate(Noise(runs=0.05), history=6).width
    steady = simulate(Noise(runs=0.005), history=20).width

    assert varying > 1.3 * assumed
    assert steady < 0.7 * assumed


def test_a_slowdown_of_5_percent_is_found_in_one_run() -> None:
    """By five passes of five rounds, paired; and never in the wrong direction."""
    found = simulate(Noise(), passes=5, rounds=5, paired=True, slowdown=0.05)

    assert found.share(SLOWER) >= 0.95
    assert found.share(FASTER) == 0


def test_a_slowdown_of_5_percent_is_found_between_runs_that_do_not_vary() -> None:
    """Where the variation between runs is known to be 0."""
    found = simulate(Noise(), passes=5, rounds=5, slowdown=0.05, known=KNOWN_NOT_TO_VARY)

    assert found.share(SLOWER) >= at_least(0.90, REPORTS * SETTINGS)  # each has errors of its own
    assert found.share(FASTER) == 0


def test_the_default_effort_finds_20_percent_between_two_clouds() -> None:
    """In one run, whose passes vary by 5% and whose rounds by 5%."""
    found = simulate(Noise(within=0.05, between=0.05), paired=True, slowdown=0.20)

    assert found.share(SLOWER) >= 0.90
    assert found.share(FASTER) == 0


def main(reports: int) -> None:
    """Print all shares in percent."""
    print(f"{reports} reports of {SETTINGS} settings each; shares in %")
    print(f"{'':50} called  reports  covered")
    for effort, counts in EFFORTS.items():
        cases: list[tuple[str, dict[str, Any]]] = [
            (f"{'one run' if paired else 'two runs'}: {label}", {"noise": noise, "paired": paired})
            for label, noise in SAME_SERVER.items()
            for paired in (False, True)
        ]
        whole = Noise(between=0.0, runs=0.03)
        cases += [
            ("two runs: they differ by 3%", {"noise": whole}),
            ("two runs: 3% within, 2% between, runs 3%", {"noise": Noise(runs=0.03)}),
            ("two runs: by 3%, as 4 earlier ones", {"noise": whole, "history": 4}),
            ("two runs: by 5%, as 5 earlier ones", {"noise": Noise(runs=0.05), "history": 5}),
            ("two runs each: they differ by 3%", {"noise": whole, "runs": 2}),
            ("one run: 5% slower", {"noise": Noise(), "paired": True, "slowdown": 0.05}),
            (
                "two runs: 5% slower, runs do not vary",
                {"noise": Noise(), "slowdown": 0.05, "known": KNOWN_NOT_TO_VARY},
            ),
            (
                "one run: 20% slower, 5% and 5%",
                {"noise": Noise(0.05, 0.05), "paired": True, "slowdown": 0.20},
            ),
        ]
        for label, case in cases:
            found = simulate(**case, **counts, reports=reports)
            print(
                f"{f'{effort}, {label}':50} {100 * found.called:6.2f}"
                f"  {100 * found.reports_with_a_call:7.1f}  {100 * found.covered:7.1f}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
