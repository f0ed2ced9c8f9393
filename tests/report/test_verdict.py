"""The verdict: how often it is wrong on machines that scatter and drift, and what it says."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import Setting
from pgload.report.measurement import Measurement, measurement
from pgload.report.stats import FASTER, NOISY, SAME, SLOWER, Verdict, verdict, verdicts
from tests.support.saved_runs import load

SETTINGS = 20
WORDS = {FASTER, SLOWER, SAME, NOISY}


def run(
    seed: int,
    *,
    passes: int = 5,
    rounds: int = 1,
    noise: float = 0.03,
    drift: float = 0.0,
    slowdown: float = 1.0,
) -> dict[Setting, Measurement]:
    """A run whose rounds scatter by `noise`, and whose passes scatter as a whole by `drift`."""
    rng = random.Random(seed)
    found = {}
    for number in range(SETTINGS):
        times = []
        for _ in range(passes):
            mood = rng.gauss(0, drift)
            times.append([slowdown * math.exp(mood + rng.gauss(0, noise)) for _ in range(rounds)])
        flat = [second for each in times for second in each]
        saved = load(batch_size=100 * (number + 1), seconds=flat, passes=times)
        each = measurement(saved, "run")
        found[each.setting] = each
    return found


def share_of(words: set[str], pairs: Iterator[dict[Setting, Verdict]]) -> float:
    counts = Counter(each.word for found in pairs for each in found.values())
    return sum(counts[word] for word in words) / counts.total()


@pytest.mark.parametrize(
    "scatter",
    [
        {"passes": 5, "drift": 0.03},
        {"passes": 3, "rounds": 3, "drift": 0.03},
        {"passes": 2, "rounds": 5, "drift": 0.05},
        {"passes": 1, "rounds": 5},
        {"passes": 1, "rounds": 3, "drift": 0.01},
        {"passes": 25, "drift": 0.03},
    ],
    ids=str,
)
def test_two_runs_of_one_server_are_hardly_ever_called_different(scatter: dict[str, float]) -> None:
    """In at most 1 of 20 settings, with passes that drift as on a shared machine."""
    pairs = (verdicts(run(2 * n, **scatter), run(2 * n + 1, **scatter)) for n in range(20))

    assert share_of({FASTER, SLOWER}, pairs) <= 0.05


@pytest.mark.parametrize("passes", [5, 25])
def test_a_slowdown_by_a_tenth_is_called_slower(passes: int) -> None:
    """Over five passes of 3% noise, in nine settings of ten; never is it called faster."""
    found = [
        verdicts(run(2 * n, passes=passes), run(2 * n + 1, passes=passes, slowdown=1.1))
        for n in range(20)
    ]

    assert share_of({SLOWER}, iter(found)) > 0.9
    assert share_of({FASTER}, iter(found)) == 0


def test_a_slow_minute_that_met_both_sides_of_a_run_does_not_hide_a_difference() -> None:
    """Passes of one run are pairs: their drift of 20% cancels, whatever it is."""
    moods = [1.0, 1.2, 0.9, 1.1, 1.3]
    times = {"GCP": moods, "AWS": [1.05 * mood for mood in moods]}
    one, other = (
        {each.setting: each}
        for each in (
            measurement(load(cloud, seconds=of, passes=[[s] for s in of]), "run")
            for cloud, of in times.items()
        )
    )

    (apart,) = verdicts(one, other).values()
    (paired,) = verdicts(one, other, same_runs=True).values()

    assert (apart.word, paired.word) == (NOISY, SLOWER)
    assert paired.ratio == pytest.approx(1 / 1.05)


def test_a_setting_of_one_pass_is_as_uncertain_as_its_runs_passes() -> None:
    """Five rounds that agree prove little where another setting's passes drift by 10%."""
    steady = load(batch_size=100, seconds=[1.0, 1.001, 0.999])
    drifting = load(batch_size=200, seconds=[0.9, 1.0, 1.1], passes=[[0.9], [1.0], [1.1]])
    faster = load(batch_size=100, seconds=[0.95, 0.951, 0.949])

    def side(*loads: dict[str, object]) -> dict[Setting, Measurement]:
        return {each.setting: each for each in (measurement(saved, "run") for saved in loads)}

    alone = verdicts(side(steady), side(faster))
    beside = verdicts(side(steady, drifting), side(faster, drifting))

    assert next(iter(alone.values())).word == FASTER
    assert next(iter(beside.values())).word == NOISY


def test_a_single_round_says_nothing() -> None:
    """There is a ratio, but no interval and no decision."""
    one = {each.setting: each for each in [measurement(load(seconds=[1.0]), "run")]}
    other = {each.setting: each for each in [measurement(load(seconds=[2.0]), "run")]}

    assert list(verdicts(one, other).values()) == [Verdict(0.5, None, None, NOISY)]


def test_the_threshold_is_what_an_interval_has_to_pass() -> None:
    """A difference that is sure but small is no difference; one that may be large is noise."""
    assert verdict(1.03, (math.log(1.02), math.log(1.04)), 0.01).word == FASTER
    assert verdict(1.03, (math.log(1.02), math.log(1.04)), 0.05).word == SAME
    assert verdict(0.97, (math.log(0.96), math.log(0.98)), 0.01).word == SLOWER
    assert verdict(1.0, (math.log(0.95), math.log(1.05)), 0.01).word == SAME
    assert verdict(1.0, (math.log(0.85), math.log(1.15)), 0.01).word == NOISY


seconds = st.floats(0.001, 1000)
rounds = st.lists(seconds, min_size=1, max_size=6)


@given(st.lists(rounds, min_size=1, max_size=25), st.lists(rounds, min_size=1, max_size=25))
def test_whatever_was_measured_the_interval_holds_the_ratio(
    ours: list[list[float]], theirs: list[list[float]]
) -> None:
    """And the word is one of four, whoever is the baseline; the ratio turns over with it."""

    def side(passes: list[list[float]]) -> dict[Setting, Measurement]:
        flat = [second for each in passes for second in each]
        each = measurement(load(seconds=flat, passes=passes), "run")
        return {each.setting: each}

    (there,) = verdicts(side(ours), side(theirs)).values()
    (back,) = verdicts(side(theirs), side(ours)).values()

    assert there.word in WORDS
    assert there.ratio == pytest.approx(1 / back.ratio)
    if there.low is None or there.high is None:
        assert there.word == NOISY
    else:
        assert there.low <= there.ratio <= there.high
    opposite = {FASTER: SLOWER, SLOWER: FASTER, SAME: SAME, NOISY: NOISY}
    borderline = {NOISY, SAME}  # 10% more and 10% less are not each other's inverse
    assert back.word == opposite[there.word] or {there.word, back.word} <= borderline
