"""What a rehearsed distance does, and what it costs. Runs only when this file is named.

The tests fail when the distance does not do what it is for.
"""

import pytest

from pgload.load.migrator import Migrator
from pgload.targets.delay import delayed
from pgload.targets.open import STARTED_HERE


@pytest.fixture
def site(sites, cloud):
    """A site that is not far away already."""
    if cloud not in STARTED_HERE or "rtt_asked_ms" in sites[cloud].facts:
        pytest.skip(f"{cloud} has a distance of its own")
    return sites[cloud]


@pytest.mark.parametrize("method", ["values", "copy"])
def test_way_through(site, dataset, run_pairs, method):
    """Without a delay the way through costs less than 3% of the throughput."""
    work = list(dataset.batches(1000))
    with (
        delayed(site.target, 0) as through,
        Migrator(through.connect, method, connections=2) as ours,
        Migrator(site.target.connect, method, connections=2) as direct,
    ):
        ratio = run_pairs(
            f"{method} through a delay of 0 ms",
            site,
            ours=lambda: ours.run(work),
            theirs=lambda: direct.run(work),
        )
    assert ratio > 0.97


def test_connections_hide_the_distance(site, dataset, run_pairs):
    """At 20 ms and small batches, ten connections load at least 9 times as fast as one."""
    work = list(dataset.batches(100))
    with (
        delayed(site.target, 20) as far,
        Migrator(far.connect, "copy", connections=10) as ten,
        Migrator(far.connect, "copy", connections=1) as one,
    ):
        ratio = run_pairs(
            "20 ms away, copy, 100 × 10 against 100 × 1",
            site,
            ours=lambda: ten.run(work),
            theirs=lambda: one.run(work),
        )
    assert ratio >= 9
