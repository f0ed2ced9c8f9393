"""The verdict on two throughputs: what it is made of, and what it says."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import Setting
from pgload.report.measurement import Measurement, measurement
from pgload.report.stats import (
    FASTER,
    NOISY,
    SAME,
    SLOWER,
    LogRatio,
    log_ratios,
    verdict,
    verdicts,
)
from pgload.report.variance import RunVariation, Variance, moderated_variances
from tests.support.saved_runs import decision, load

WORDS = {FASTER, SLOWER, SAME, NOISY}


def side(
    *passes: list[float], run: str = "run", batch_size: int = 1000
) -> dict[Setting, Measurement]:
    """One setting of a side, with the seconds of its rounds by pass."""
    flat = [seconds for each in passes for seconds in each]
    each = measurement(load(seconds=flat, passes=list(passes), batch_size=batch_size), run)
    return {each.setting: each}


def only(found: dict[Setting, LogRatio]) -> LogRatio:
    (each,) = found.values()
    return each


def ratio(mean: float, error: float, freedom: float = 1000) -> LogRatio:
    return LogRatio(mean=mean, own=(Variance(error**2, freedom),), of_runs=(), passes=5)


def test_a_slow_minute_that_affects_both_sides_of_a_run_cancels() -> None:
    """Passes of one run are pairs, whose common variation of 20% hides no difference of 5%."""
    minutes = [1.0, 1.2, 0.9, 1.1, 1.3]
    base = side(*[[minute] for minute in minutes])
    other = side(*[[1.05 * minute] for minute in minutes])
    elsewhere = side(*[[1.05 * minute] for minute in minutes], run="another run")

    paired, apart = only(log_ratios(base, other)), only(log_ratios(base, elsewhere))

    assert (verdict(paired).word, verdict(apart).word) == (SLOWER, NOISY)
    assert verdict(paired).ratio == pytest.approx(1 / 1.05)
    assert verdict(apart).ratio == pytest.approx(1 / 1.05)


def test_pairs_are_found_by_their_number() -> None:
    """A pass that one side lacks takes no other's place."""
    base = side([1.0], [2.0], [4.0])
    ((setting, each),) = side([2.0], [4.0]).items()
    numbered = replace(each, passes=tuple(replace(p, number=p.number + 1) for p in each.passes))

    assert only(log_ratios(base, {setting: numbered})).mean == pytest.approx(0)


def test_a_lone_pass_has_the_variation_that_passes_have() -> None:
    """Five rounds that agree within one minute do not show a difference of 10%, one of 50% yes."""
    base, run = side([1.0, 1.001, 0.999, 1.0, 1.0]), "another run"

    near = verdict(only(log_ratios(base, side([0.9, 0.901, 0.899, 0.9, 0.9], run=run))))
    far = verdict(only(log_ratios(base, side([0.5, 0.501, 0.499, 0.5, 0.5], run=run))))

    assert (near.word, far.word) == (NOISY, FASTER)
    assert near.passes == 1


def test_a_second_run_a_side_replaces_the_assumed_variation_of_runs() -> None:
    """With two runs a side that agree, a difference of 3% shows that one run each cannot show."""
    rng = random.Random(1)

    def settings(rate: float, runs: tuple[str, ...]) -> dict[Setting, Measurement]:
        found = {}
        for size in range(1, 11):
            parts = [
                side(*[[rate * math.exp(rng.gauss(0, 0.004))] for _ in range(5)], run=run)
                for run in runs
            ]
            passes = tuple(p for part in parts for each in part.values() for p in each.passes)
            ((setting, each),) = side([1.0], batch_size=100 * size).items()
            found[setting] = replace(each, passes=passes)
        return found

    one = verdicts(log_ratios(settings(1, ("a",)), settings(1.03, ("b",))))
    two = verdicts(log_ratios(settings(1, ("a", "b")), settings(1.03, ("c", "d"))))

    assert SLOWER not in {each.word for each in one.values()}
    assert {each.word for each in two.values()} == {SLOWER}


def test_known_variation_between_runs_takes_the_place_of_the_assumed_one() -> None:
    """Where runs are known not to differ, separate runs are compared by their passes alone."""
    base = side(*[[1.0 + n / 1000] for n in range(5)])
    other = side(*[[1.03 + n / 1000] for n in range(5)], run="another run")

    assumed = only(log_ratios(base, other))
    known = only(log_ratios(base, other, [RunVariation(variance=0.0, freedom=math.inf)] * 2))

    assert (verdict(assumed).word, verdict(known).word) == (NOISY, SLOWER)


def test_variances_are_moderated_by_those_of_other_settings() -> None:
    """By their degrees of freedom."""
    found = moderated_variances({"quiet": [0.0, 0.0], "noisy": [0.0, 2.0], "alone": [1.0]})

    assert found["quiet"] == Variance(pytest.approx((0 + 1 * 2) / 2), 2)
    assert found["noisy"] == Variance(pytest.approx((2 + 1 * 0) / 2), 2)
    assert found["alone"] == Variance(pytest.approx(2 * 1 / 2), 2)


def test_variances_that_differ_are_moderated_less() -> None:
    """The variances of many alike settings count for thirty at most, of unlike ones for less."""
    rng = random.Random(1)
    alike = {n: [rng.gauss(0, 1) for _ in range(5)] for n in range(60)}
    unlike = {n: [3 ** (n % 4) * value for value in values] for n, values in alike.items()}

    assert moderated_variances(alike)[0].freedom == 34
    assert 4 < moderated_variances(unlike)[0].freedom < 7


def test_verdicts_of_a_report_are_one_family() -> None:
    """One setting in thirty with p = 0.04 is chance, thirty of them are not."""
    surprising, nothing = ratio(-0.0308, 0.015), ratio(0.0, 0.015)

    alone = verdicts({"first": surprising} | dict.fromkeys(range(29), nothing))
    together = verdicts(dict.fromkeys(range(30), surprising))

    assert alone["first"].word == SAME
    assert {each.word for each in together.values()} == {SLOWER}


def test_an_error_of_whole_runs_needs_a_wider_interval() -> None:
    """With it, all settings of a report would be called wrongly at once."""
    own = ratio(-0.0325, 0.015)
    shared = replace(own, own=(), of_runs=own.own)

    assert own.interval() == shared.interval()
    assert {each.word for each in verdicts(dict.fromkeys(range(30), own)).values()} == {SLOWER}
    assert {each.word for each in verdicts(dict.fromkeys(range(30), shared)).values()} == {SAME}


def test_settings_that_differ_count_for_those_that_are_left() -> None:
    """Where most settings differ, the last ones need not be as sure as a single one of thirty."""
    certain, likely, none = ratio(-0.2, 0.015), ratio(-0.0308, 0.015), ratio(0.0, 0.015)

    def word_of_the_last(others: LogRatio) -> str:
        return verdicts(dict.fromkeys(range(29), others) | {29: likely})[29].word

    assert word_of_the_last(certain) == SLOWER
    assert word_of_the_last(none) == SAME


def test_observations_without_any_variation() -> None:
    """Nothing is divided by a variance of 0: equal passes are equal, and others are different."""
    base = side(*[[1.0]] * 5)

    assert verdict(only(log_ratios(base, base))).word == SAME
    assert verdict(only(log_ratios(base, side(*[[1.1]] * 5)))).word == SLOWER
    assert verdict(only(log_ratios(base, side(*[[1.0]] * 5, run="another run")))).word == NOISY
    assert verdicts({}) == {}


def test_one_pass_beside_five() -> None:
    """The side with one pass has the variation that passes have."""
    five, one = side(*[[1.0 + n / 1000] for n in range(5)]), side([1.1], run="another run")

    found = verdict(only(log_ratios(five, one, [RunVariation(variance=0.0)] * 2)))

    assert (found.word, found.passes) == (NOISY, 1)
    assert found.low < 0.85


def test_a_small_difference_is_not_called() -> None:
    """However sure it is, a difference within the threshold is no difference shown."""
    assert verdict(ratio(math.log(1.005), 0.0001)).word == SAME
    assert verdict(ratio(math.log(1.03), 0.001)).word == FASTER
    assert verdict(ratio(math.log(1.03), 0.001), threshold=0.05).word == SAME


def test_an_interval_that_contains_a_tenth_is_too_noisy() -> None:
    """Whichever way; a narrower one shows that there is no such difference."""
    assert verdict(ratio(0.0, 0.06)).word == NOISY
    assert verdict(ratio(0.0, 0.03)).word == SAME


seconds = st.floats(0.001, 1000)
rounds = st.lists(seconds, min_size=1, max_size=6)


@given(
    st.lists(rounds, min_size=1, max_size=8),
    st.lists(rounds, min_size=1, max_size=8),
    st.booleans(),
)
def test_an_interval_contains_its_ratio(
    ours: list[list[float]], theirs: list[list[float]], same_run: bool
) -> None:
    """The word is one of four; with the sides exchanged the ratio is inverted."""
    base, other = side(*ours), side(*theirs, run="run" if same_run else "another run")

    there, back = verdict(only(log_ratios(base, other))), verdict(only(log_ratios(other, base)))

    assert there.word in WORDS
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.low <= there.ratio * (1 + 1e-9)
    assert there.ratio <= there.high * (1 + 1e-9)
    if there.word == FASTER:
        assert there.low > 1


def test_the_best_setting_is_chosen_by_fresh_passes() -> None:
    """Of several settings, the one that was luckiest in the search does not win by that."""
    lucky = load(
        batch_size=100, seconds=[0.9], finals=[{"number": n, "seconds": [1.1]} for n in (6, 7)]
    )
    steady = load(
        batch_size=200, seconds=[1.0], finals=[{"number": n, "seconds": [1.0]} for n in (6, 7)]
    )
    best = decision([lucky, steady]).best["GCP"]

    assert best.is_fresh
    assert best.measurement.setting.batch_size == 200
    assert best.measurement.throughput == 20_000
    assert decision([load(seconds=[1.0])]).best["GCP"].is_fresh is False
