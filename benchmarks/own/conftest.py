"""Paired measurements of pgload itself; `pytest benchmarks` excludes them, since they are long."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.session import BenchSession
from pgload.bench.target import BenchTarget


@pytest.fixture
def one_file_target(
    bench_session: BenchSession, bench_target: BenchTarget, dataset: Dataset
) -> BenchTarget:
    """The target of the test's cloud, for a comparison over one file of generated notices."""
    if len(dataset.files) != 1 or bench_session.options.data is not None:
        pytest.skip("this compares loads of one file of generated notices: omit --data")
    return bench_target


@pytest.fixture
def run_pairs(
    bench_session: BenchSession, benchmark: Any, dataset: Dataset, run_rounds: Callable[..., None]
) -> Callable[..., float]:
    """A function that alternates our load and theirs, verifies both, and returns the ratio.

    The ratio is the median over rounds of their seconds by ours: 2 means that ours is twice as
    fast. `clock` replaces the wall clock. `verify_ours` and `verify_theirs` replace the target's
    check if the tables hold something else than the dataset afterwards. `weight` is our amount of
    work by theirs, if they differ.
    """
    console = bench_session.console

    def run_pairs(
        name: str,
        target: BenchTarget,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        *,
        clock: Callable[[], float] = time.perf_counter,
        verify_ours: Callable[[], object] | None = None,
        verify_theirs: Callable[[], object] | None = None,
        weight: float = 1,
    ) -> float:
        our_seconds: list[float] = []
        their_seconds: list[float] = []

        def timed(work: Callable[[], object], seconds: list[float]) -> None:
            start = clock()
            work()
            seconds.append(clock() - start)

        def setup() -> None:
            console.status(name)
            target.reset()
            timed(theirs, their_seconds)
            (verify_theirs or target.verify)()
            target.reset()

        run_rounds(
            partial(timed, ours, our_seconds),
            setup=setup,
            teardown=verify_ours or target.verify,
        )
        if benchmark.stats is None:
            pytest.skip("--benchmark-disable leaves nothing to compare")
        rounds = benchmark.stats.stats.rounds
        pairs = list(zip(their_seconds, our_seconds, strict=True))[-rounds:]
        ratios = [weight * their / our for their, our in pairs]
        ratio = float(statistics.median(ratios))
        benchmark.extra_info.update(
            records=dataset.records,
            our_seconds=[our for _, our in pairs],
            peer_seconds=[their for their, _ in pairs],
            ratio=ratio,
            verified=True,
        )
        their_rate = dataset.records / statistics.median(their for their, _ in pairs)
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        console.line(f"{name}: {ratio:.2f} times ({spread}) its {their_rate:,.0f} records/s")
        return ratio

    return run_pairs
