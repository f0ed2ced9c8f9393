"""What a rehearsed distance is for. Runs only when this file is named.

With few records the first and last batches weigh in: ask for 40,000 or more.
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
