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
    """A function that alternates a contender with a baseline and returns the contender's speed.

    The speed is relative to the baseline: the median over the rounds of the baseline's seconds
    divided by the contender's, so that 2 means twice as fast. `clock` replaces the wall clock.
    `verify_contender` and `verify_baseline` replace the target's check where the tables hold
    anything other than the dataset afterwards. `weight` is the contender's amount of work divided
    by the baseline's, if they differ, and `baseline_records` the records of one baseline, if they
    are not those of the dataset.
    """
    console = bench_session.console

    def run_pairs(
        name: str,
        target: BenchTarget,
        contender: Callable[[], object],
        baseline: Callable[[], object],
        *,
        clock: Callable[[], float] = time.perf_counter,
        verify_contender: Callable[[], object] | None = None,
        verify_baseline: Callable[[], object] | None = None,
        weight: float = 1,
        baseline_records: int | None = None,
    ) -> float:
        contender_seconds: list[float] = []
        baseline_seconds: list[float] = []

        def timed(work: Callable[[], object], seconds: list[float]) -> None:
            start = clock()
            work()
            seconds.append(clock() - start)

        def setup() -> None:
            console.status(name)
            target.reset()
            timed(baseline, baseline_seconds)
            (verify_baseline or target.verify)()
            target.reset()

        run_rounds(
            partial(timed, contender, contender_seconds),
            setup=setup,
            teardown=verify_contender or target.verify,
        )
        if benchmark.stats is None:
            pytest.skip("--benchmark-disable leaves nothing to compare")
        rounds = benchmark.stats.stats.rounds  # the others were for warming up
        contender_seconds = contender_seconds[-rounds:]
        baseline_seconds = baseline_seconds[-rounds:]
        pairs = zip(baseline_seconds, contender_seconds, strict=True)
        ratios = [weight * base / seconds for base, seconds in pairs]
        ratio = float(statistics.median(ratios))
        benchmark.extra_info.update(
            records=dataset.records,
            contender_seconds=contender_seconds,
            baseline_seconds=baseline_seconds,
            ratio=ratio,
            verified=True,
        )
        rate = (baseline_records or dataset.records) / statistics.median(baseline_seconds)
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        console.line(f"{name}: {ratio:.2f} times ({spread}) the baseline's {rate:,.0f} records/s")
        return ratio

    return run_pairs
