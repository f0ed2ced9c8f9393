"""A race of settings, simulated on servers whose true throughputs are known.

    python -m tests.bench.test_race 300

prints how often the race finds a setting within 3% of the best, and its time compared to the grid,
for so many servers.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from itertools import product
from random import Random

import pytest

from pgload.bench.race import (
    FINALISTS,
    MAX_PASSES,
    Judgement,
    Outcome,
    judge,
    race,
)
from pgload.contract import METHODS, Setting

SIZES, CONNECTIONS = (100, 200, 500, 1000, 2000, 5000), (1, 2, 4, 8, 16, 32)
SETTINGS = [Setting(*each) for each in product(METHODS, SIZES, CONNECTIONS)]
# Seconds of client and of server per record.
COSTS = {
    "values": (17e-6, 51e-6),
    "unnest": (14e-6, 40e-6),
    "json": (9e-6, 47e-6),
    "copy": (11e-6, 24e-6),
    "executemany": (60e-6, 110e-6),
}
SECONDS, BATCHES = 1.0, 10  # of a load, at least; of each connection in a load
SCREENING = 0.3  # the part of such a load that a load of the race takes


def true_throughputs(random: Random, *, rough: bool) -> dict[Setting, float]:
    """Records per second of every setting on a server that is drawn at random."""
    rtt = random.choice([0.0002, 0.001, 0.005, 0.02, 0.05])  # seconds
    processors = random.choice([2, 4, 8, 16])
    commit = random.choice([0.0005, 0.002, 0.008])  # seconds
    contention, coherency = random.uniform(0, 0.025), random.uniform(0, 0.001)
    found = {}
    for method in METHODS:
        client, server = (cost * random.uniform(0.7, 1.3) for cost in COSTS[method])
        penalty = random.uniform(0, 0.08)  # of large batches
        trips = {"copy": 2, "executemany": 4}.get(method, 1)
        for size, n in product(SIZES, CONNECTIONS):
            growth = 1 + penalty * math.log2(max(size / 1000, 1))
            batch = rtt * trips + commit + server * size * growth
            limits = (n * size / batch, processors / server, 1 / client)
            rate = sum(limit**-4 for limit in limits) ** -0.25
            rate /= 1 + contention * (n - 1) + coherency * n * (n - 1)
            noise = math.exp(random.gauss(0, 0.04)) if rough else 1.0
            found[Setting(method, size, n)] = rate * noise
    return found


@dataclass
class Server:
    """A server that is measured: noise, drift from pass to pass, and stalls."""

    truth: dict[Setting, float]
    variation: float  # of loads
    random: Random
    seconds: float = 0.0
    level: float = 0.0  # of the current pass, a logarithm

    def begin_pass(self) -> None:
        self.level = self.random.gauss(0, 0.05)

    def load(self, setting: Setting, part: float = 1.0) -> float:
        """Load once; returns the records per second that are measured."""
        rate = self.truth[setting]
        self.seconds += part * self.seconds_of(setting)
        slowdown = self.random.uniform(1.5, 3) if self.random.random() < 0.03 else 1.0
        return rate / slowdown * math.exp(self.random.gauss(self.level, self.variation))

    def seconds_of(self, setting: Setting) -> float:
        records = BATCHES * setting.batch_size * setting.connections
        return max(SECONDS, records / self.truth[setting])

    @property
    def grid_seconds(self) -> float:
        """What the whole grid takes, with five loads of each setting."""
        return 5 * sum(map(self.seconds_of, self.truth))


def run_race(server: Server, random: Random) -> Outcome:
    running, loads = race(SETTINGS, random), 0
    try:
        setting = next(running)
        while True:
            if loads % 30 == 0:
                server.begin_pass()
            loads += 1
            setting = running.send(server.load(setting, SCREENING))
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


def search(server: Server, random: Random) -> tuple[Setting, bool]:
    """The setting that the search recommends, and whether its finals were decided."""
    finalists = run_race(server, random).finalists
    finals: dict[Setting, list[float]] = {setting: [] for setting in finalists}
    for _ in range(MAX_PASSES):
        server.begin_pass()
        for setting in finalists:
            finals[setting].append(server.load(setting))
        judgement = judge(finals)
        if judgement.decided:
            break
    return judgement.best, judgement.decided


@dataclass
class Results:
    right: float  # searches that end within 3% of the best, of all
    undecided: float  # that are neither right nor decided
    time: float  # mean part of the grid's


def simulate(variation: float, *, rough: bool, servers: int, seed: int = 1) -> Results:
    random, right, undecided, time = Random(seed), 0, 0, 0.0
    for _ in range(servers):
        server = Server(true_throughputs(random, rough=rough), variation, random)
        winner, decided = search(server, random)
        if server.truth[winner] >= 0.97 * max(server.truth.values()):
            right += 1
        elif not decided:
            undecided += 1
        time += server.seconds / server.grid_seconds
    return Results(right / servers, undecided / servers, time / servers)


@pytest.mark.parametrize("rough", [False, True], ids=["smooth", "rough"])
@pytest.mark.parametrize("variation", [0.02, 0.05, 0.1])
def test_known_truth(variation: float, rough: bool) -> None:
    """The race finds a setting within 3% of the best in a tenth of the grid's time, or the finals
    remain undecided where the noise is large."""
    found = simulate(variation, rough=rough, servers=300)
    assert found.time <= 0.1
    if variation < 0.1:
        assert found.right >= 0.95
    assert found.right + found.undecided >= 0.95


def play(truth: dict[Setting, float | None]) -> tuple[list[Setting], Outcome]:
    """What is loaded, and how the race ends, without noise."""
    running, loaded = race(list(truth), Random(1)), []
    try:
        setting = next(running)
        while True:
            loaded.append(setting)
            setting = running.send(truth[setting])
    except StopIteration as stop:
        return loaded, stop.value


def test_outcome() -> None:
    """Every setting is a finalist or has dropped out, with its ratio to the fastest; a slow method
    costs two loads."""
    truth = {
        setting: (1.0 if setting.method == "executemany" else 10.0) + setting.batch_size / 1000
        for setting in SETTINGS
        if setting.method in ("copy", "executemany")
    }
    loaded, outcome = play(truth)
    assert outcome.finalists[0].batch_size == 5000
    assert len(outcome.finalists) == FINALISTS
    assert {each.setting for each in outcome.dropped} | {*outcome.finalists} == {*truth}
    assert sum(setting.method == "executemany" for setting in loaded) == 2
    slow = [each for each in outcome.dropped if each.setting.method == "executemany"]
    assert {each.rung for each in slow} == {0}
    assert all(each.ratio == pytest.approx(3 / 12) for each in slow)
    assert play(truth) == (loaded, outcome)


def test_few_settings() -> None:
    """They are all finalists, without a load."""
    settings = [Setting("copy", size, 1) for size in (100, 500, 1000)]
    assert play(dict.fromkeys(settings, 1.0)) == ([], Outcome(finalists=settings))


def test_settings_that_fail() -> None:
    """They leave the race, and may be all."""
    truth: dict[Setting, float | None] = {
        Setting("copy", size, n): None if n > 2 else float(n) for size in SIZES for n in CONNECTIONS
    }
    _, outcome = play(truth)
    assert {each.connections for each in outcome.failed} == {4, 8, 16, 32}
    assert {each.connections for each in outcome.finalists} == {2}
    _, outcome = play(dict.fromkeys(truth, None))
    assert outcome.finalists == []


def test_judgement() -> None:
    """The finals are decided when nothing is likely to be 3% faster than the fastest, not after few
    passes. Of settings that are as good, the one with fewer connections is the best."""
    a, b = Setting("copy", 100, 4), Setting("copy", 500, 1)
    steady, noisy = [100.0, 101.0, 99.0, 100.0, 100.0, 101.0], [130.0, 70, 120, 60, 100, 99]
    slower, equal = [each * 0.9 for each in steady], [each * 0.999 for each in steady]
    assert judge({a: steady, b: slower}) == Judgement(a, a, [], decided=True)
    assert judge({a: steady, b: equal}) == Judgement(a, b, [], decided=True)
    assert judge({a: steady, b: noisy}) == Judgement(a, a, [b], decided=False)
    assert not judge({a: steady[:4], b: slower[:4]}).decided
    assert judge({a: steady[:1]}) == Judgement(a, a, [], decided=True)


if __name__ == "__main__":
    for rough, variation in product((False, True), (0.02, 0.05, 0.1)):
        print(
            variation,
            "rough " if rough else "smooth",
            simulate(variation, rough=rough, servers=int(sys.argv[1])),
        )
