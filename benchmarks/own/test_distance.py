"""What a rehearsed distance is for. Runs only when this file is named.

With few records the first and last batches weigh in: ask for 40,000 or more.
"""

import pytest

from benchmarks.own import peers
from pgload.load.loader import Loader
from pgload.source.reader import read_batches
from pgload.targets.cloud import LOCAL_CLOUDS
from pgload.targets.delay import delayed

RTT = 20  # ms


@pytest.fixture
def site(open_site, cloud):
    """A site that is not far away already."""
    if cloud not in LOCAL_CLOUDS or "rtt_asked_ms" in open_site.facts:
        pytest.skip(f"{cloud} has a distance of its own")
    return open_site


def test_connections_hide_the_distance(site, dataset, run_pairs):
    """At 20 ms and small batches, ten connections load at least 9 times as fast as one."""
    work = list(dataset.batches(100))
    with (
        delayed(site.target, RTT) as far,
        Loader(far.connect, "copy", connections=10) as ten,
        Loader(far.connect, "copy", connections=1) as one,
    ):
        ratio = run_pairs(
            f"{RTT} ms away, copy, 100 × 10 against 100 × 1",
            site,
            ours=lambda: ten.run(work),
            theirs=lambda: one.run(work),
        )
    assert ratio >= 9


def test_one_round_trip(site, dataset, run_pairs):
    """At 20 ms, `values` 100 × 1 is at least 2.5 times as fast as what everybody writes.

    That waits three times for the server: for psycopg2's BEGIN, the INSERT and the COMMIT.
    """
    ((path, table),) = dataset.tables.items()
    with (
        delayed(site.target, RTT) as far,
        peers.execute_values(far, 1) as load,
        Loader(far.connect, "values", connections=1) as loader,
    ):
        ratio = run_pairs(
            f"{RTT} ms away, values against execute_values, 100 × 1",
            site,
            ours=lambda: loader.run((table, batch) for batch in read_batches(path, 100)),
            theirs=lambda: load(path, table, 100),
        )
    assert ratio >= 2.5
