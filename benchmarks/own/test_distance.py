"""Loads over a simulated latency. The first and last batches count less in larger loads:

pytest benchmarks/own/test_distance.py --records 40000
"""

import pytest

from benchmarks.own import peers
from pgload.load.loader import Loader
from pgload.source.reader import read_batches
from pgload.targets.cloud import LOCAL_CLOUDS
from pgload.targets.delay import delayed

RTT = 20  # ms


@pytest.fixture
def near_target(one_file_target, cloud):
    """A target without latency, real or simulated."""
    if cloud not in LOCAL_CLOUDS or "rtt_asked_ms" in one_file_target.facts:
        pytest.skip(f"{cloud} has a latency already")
    return one_file_target


def test_connections_hide_latency(near_target, dataset, run_pairs):
    """At 20 ms and small batches, ten connections load at least 9 times as fast as one."""
    work = list(dataset.batches(100))
    with (
        delayed(near_target.target, RTT) as far,
        Loader(far.connect, "copy", connections=10) as ten,
        Loader(far.connect, "copy", connections=1) as one,
    ):
        ratio = run_pairs(
            f"RTT {RTT} ms, copy, 100 × 10 against 100 × 1",
            near_target,
            contender=lambda: ten.run(work),
            baseline=lambda: one.run(work),
        )
    assert ratio >= 9


def test_one_round_trip(near_target, dataset, run_pairs):
    """At 20 ms, `values` 100 × 1 is at least 2.5 times as fast as execute_values.

    execute_values waits three round trips: for psycopg2's BEGIN, the INSERT and the COMMIT.
    """
    ((path, table),) = dataset.tables.items()
    with (
        delayed(near_target.target, RTT) as far,
        peers.execute_values(far, 1) as load,
        Loader(far.connect, "values", connections=1) as loader,
    ):
        ratio = run_pairs(
            f"RTT {RTT} ms, values against execute_values, 100 × 1",
            near_target,
            contender=lambda: loader.run((table, batch) for batch in read_batches(path, 100)),
            baseline=lambda: load(path, table, 100),
        )
    assert ratio >= 2.5
