"""Loads over a simulated latency. The first and last batches count less in larger loads:

pytest benchmarks/own/test_distance.py --records 40000
"""

from dataclasses import replace
from unittest.mock import Mock

import pytest

from benchmarks.own import peers
from pgload.load.loader import Loader
from pgload.load.verify import fingerprint
from pgload.migrate.writing.partitions import key_of, read_divided
from pgload.migrate.writing.retry import RetryingWriter
from pgload.migrate.writing.upsert import make_upserts
from pgload.schema.table import create_table, qualified_name
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


@pytest.mark.parametrize(("rtt", "times"), [(RTT, 2.5), (0, 0.9)])
def test_update_over_connections(near_target, dataset, run_pairs, rtt, times):
    """At 20 ms `--on-conflict update` is at least 2.5 times as fast over 4 connections as over
    one, and without latency not slower."""
    ((path, table),) = dataset.tables.items()
    connection = near_target.connection
    keyed = replace(table, name="keyed", key=("bidNtceNo", "bidNtceOrd"))
    name = qualified_name(keyed, connection)
    with connection.cursor() as cursor:
        cursor.execute(create_table(keyed, connection, unique_key=True))
    upserts = make_upserts([keyed], "update", connection)
    key = key_of(keyed, connection, may_change=False)

    def load(loader):
        partitioning = key.partitioning(dataset.records, 100, loader.connections)
        loader.run((keyed, batch) for batch in read_divided(path, 100, partitioning))

    def verify():
        assert fingerprint(keyed, connection) == near_target.expected[table]
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {name}")

    try:
        with (
            delayed(near_target.target, rtt) as far,
            Loader(far.connect, "values", connections=4, writer=_writer(upserts)) as four,
            Loader(far.connect, "values", connections=1, writer=_writer(upserts)) as one,
        ):
            ratio = run_pairs(
                f"RTT {rtt} ms, on conflict update, 100 × 4 against 100 × 1",
                near_target,
                contender=lambda: load(four),
                baseline=lambda: load(one),
                verify_contender=verify,
                verify_baseline=verify,
            )
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {name}")
    assert ratio >= times


def _writer(upserts):
    return RetryingWriter(Mock(), upserts=upserts)
