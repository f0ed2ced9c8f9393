"""One setting, measured on one target: what happens around the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgload.bench.dataset import Dataset
from pgload.bench.rounds import Pass, Round
from pgload.bench.target import Site, server_errors
from pgload.load.loader import Migrator
from pgload.load.observe import Observation, Observer
from pgload.load.stats import LoadResult

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

FEWEST_ROUNDS = 2  # however long they take: one alone says nothing about its spread


@dataclass(frozen=True, slots=True)
class Setting:
    """What a load is done with."""

    method: str
    batch_size: int
    connections: int

    def __str__(self) -> str:
        return f"{self.method:<11} {self.batch_size:>5} × {self.connections:<2}"


@dataclass(frozen=True, slots=True)
class Effort:
    """How often a setting is loaded; after `seconds` it is enough, if they are given."""

    rounds: int
    warmup_rounds: int
    seconds: float | None = None


def measure(
    benchmark: BenchmarkFixture,
    site: Site,
    dataset: Dataset,
    setting: Setting,
    effort: Effort,
    *,
    number: int = 1,
    on_round: Callable[[int], None] = lambda _round: None,
) -> Pass | None:
    """Load the dataset with that setting, and give what was seen; None where nothing is timed.

    Inside the clock: encoding, writing, committing. Outside: reading, connecting, emptying the
    tables, and counting and checksumming them after every round. A wrong round raises, and then
    the benchmark has no result. `number` is the pass's.
    """
    work = list(dataset.batches(setting.batch_size))
    results: list[LoadResult] = []
    seen: list[Observation] = []
    wal: list[int] = []
    with (
        server_errors(site.target),
        Migrator(site.target.connect, setting.method, connections=setting.connections) as migrator,
        Observer(site.target.connect, migrator.pids) as observer,
    ):
        rtt = site.rtt()
        begin = time.monotonic()

        def setup() -> None:
            on_round(len(results) + 1)
            site.reset()
            wal.append(site.wal_position())
            observer.begin()

        def load() -> None:
            results.append(migrator.run(work))

        def teardown() -> None:
            seen.append(observer.end())
            wal[-1] = site.wal_position() - wal[-1]
            site.verify()

        # Without a load before the timed ones nobody knows how many fit into the time.
        untimed = max(effort.warmup_rounds, effort.seconds is not None)
        for _ in range(0 if benchmark.disabled else untimed):
            setup()
            load()
            teardown()
        rounds = effort.rounds
        if results and effort.seconds is not None:
            spent = time.monotonic() - begin
            rounds_left = int((effort.seconds - spent) * len(results) / spent)
            rounds = min(rounds, max(FEWEST_ROUNDS, rounds_left))
        benchmark.pedantic(load, setup=setup, teardown=teardown, rounds=rounds)  # type: ignore[no-untyped-call]
        if benchmark.stats is None:  # --benchmark-disable: one load, and no teardown
            teardown()
            return None
    return Pass(
        number=number,
        seconds=list(benchmark.stats.stats.data),
        rounds=[
            Round.of(result, observation, rtt.p50, wal_bytes)
            for result, observation, wal_bytes in zip(
                results[-rounds:], seen[-rounds:], wal[-rounds:], strict=True
            )
        ],
        rtt=rtt,
        checkpoint_between_rounds=site.may_checkpoint,
    )
