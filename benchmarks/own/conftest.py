"""Paired measurements of pgload itself. They take long: `pytest benchmarks` leaves them out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pgload.bench.console import Lines
from pgload.bench.dataset import Dataset
from pgload.bench.options import OPTIONS
from pgload.bench.runner import INTERRUPTS
from pgload.bench.target import BenchTarget


@pytest.fixture
def open_site(
    pytestconfig: pytest.Config, sites: dict[str, BenchTarget | str], dataset: Dataset, cloud: str
) -> BenchTarget:
    """The site of one cloud, for a comparison over one file of generated notices."""
    site = sites[cloud]
    if isinstance(site, str):
        pytest.skip(site)
    if len(dataset.files) != 1 or pytestconfig.stash[OPTIONS].data is not None:
        pytest.skip("this compares loads of one file of generated notices: leave --data away")
    return site


@pytest.fixture
def run_pairs(
    pytestconfig: pytest.Config, benchmark: Any, dataset: Dataset
) -> Callable[..., float]:
    """A function that alternates two works, verifies both, and says how many times as fast ours is.

    That is the median over rounds of their seconds by ours. `clock` may count other seconds than
    those of the wall; `verify_ours` and `verify_theirs` stand for the site's own check where the
    tables hold something else than the dataset afterwards; `weight` is how much of their work is
    as much as ours.
    """
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)

    def run_pairs(
        name: str,
        site: BenchTarget,
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
            say.status(name)
            site.reset()
            timed(theirs, their_seconds)
            (verify_theirs or site.verify)()
            site.reset()

        pedantic = partial(
            benchmark.pedantic,
            partial(timed, ours, our_seconds),
            setup=setup,
            teardown=verify_ours or site.verify,
            rounds=options.effort.rounds,
            warmup_rounds=options.effort.warmup_rounds,
        )
        pytestconfig.stash[INTERRUPTS].allow(pedantic)
        if benchmark.stats is None:
            pytest.skip("--benchmark-disable leaves nothing to compare")
        pairs = list(zip(their_seconds, our_seconds, strict=True))[-options.effort.rounds :]
        ratios = [weight * their / our for their, our in pairs]
        ratio = float(statistics.median(ratios))
        benchmark.extra_info.update(
            records=dataset.records,
            our_seconds=[our for _, our in pairs],
            peer_seconds=[their for their, _ in pairs],
            ratio=ratio,
            verified=True,
        )
        theirs_rate = dataset.records / statistics.median(their for their, _ in pairs)
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        say.line(f"{name}: {ratio:.2f} times ({spread}) its {theirs_rate:,.0f} records/s")
        return ratio

    return run_pairs
