"""The attribution of a load's time to bottlenecks, from made-up observations; needs no server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import BOTTLENECKS
from pgload.load.bottleneck import (
    ADVICE,
    EVENTS,
    attribute,
    bottleneck_of,
    bottleneck_of_event,
)
from pgload.load.observe import CLIENT, CPU, Observation, Sample
from tests.support.loading import make_result


def make_observation(*states: str) -> Observation:
    """One sample within the load, and one before it that does not count."""
    return Observation(samples=[Sample(99.0, ["Lock:tuple"] * 99), Sample(105.0, states)])


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (CPU, "server_cpu"),
        ("IO:WALSync", "wal"),  # 13 to 16
        ("IO:WalSync", "wal"),  # since 17
        ("LWLock:WALWrite", "wal"),
        ("LWLock:WALInsert", "wal"),
        ("IPC:SyncRep", "wal"),
        ("IO:XactSync", "wal"),  # Aurora
        ("IO:DataFileRead", "io"),
        ("IO:AioIoCompletion", "io"),
        ("IPC:BufferIO", "io"),
        ("LWLock:BufferIO", "io"),  # 13
        ("LWLock:BufferContent", "locks"),
        ("Lock:extend", "locks"),
        ("Lock:relation", "locks"),
        ("Timeout:PgSleep", "server_cpu"),
        ("Extension:Anything", "server_cpu"),
    ],
)
def test_events(event: str, name: str) -> None:
    """Every wait event within the server has one bottleneck, whatever a version calls it."""
    assert bottleneck_of_event(event) == name


def test_writing_while_the_backend_waits() -> None:
    """Round trips are the network's; what remains is divided by how busy the client was."""
    result = make_result(cpu=4.0)  # 20 s of writing, in half of which the backend waits
    seconds = attribute(result, make_observation(CLIENT, CPU), rtt=0.1)
    assert seconds["server_cpu"] == pytest.approx(10)
    assert seconds["network"] == pytest.approx(20 * 0.1 + 0.6 * 8)
    assert seconds["client"] == pytest.approx(0.4 * 8)


def test_without_a_network() -> None:
    """Over a loopback connection, only round trips are attributed to the network."""
    seconds = attribute(make_result(cpu=4.0), make_observation(CLIENT, CPU), rtt=0.0001)
    assert (seconds["network"], seconds["client"]) == pytest.approx((0.002, 9.998))


def test_round_trips_of_copy() -> None:
    """COPY takes two round trips for each batch."""
    result = make_result(method="copy", cpu=10.0)
    seconds = attribute(result, make_observation(CLIENT), rtt=0.1)
    assert (seconds["network"], seconds["client"]) == pytest.approx((2 * 20 * 0.1, 20 - 4))


def test_wait_and_idle() -> None:
    """Waiting for an encoded batch is the client's; idle time counts for nothing."""
    result = make_result(wait=0.4, write=0.1, cpu=10.0)  # 8 s, 2 s, and 10 s idle
    seconds = attribute(result, make_observation(*[CLIENT] * 9, "Lock:tuple"), rtt=0.0)
    assert seconds["locks"] == pytest.approx(2)
    assert seconds["client"] == pytest.approx(8)


def test_nothing_observed() -> None:
    """Where the server hides its states, what the client cannot explain is the server's."""
    seconds = attribute(make_result(batches=10), Observation(), rtt=0.2)
    assert seconds["network"] == pytest.approx(2)
    assert seconds["server_cpu"] == pytest.approx(8)


@given(
    st.lists(st.sampled_from([CLIENT, *(start + "x" for start, _ in EVENTS)]), max_size=30),
    st.sampled_from(["values", "copy", "executemany", "another"]),
    st.floats(0, 1),
    st.floats(0, 30),
    st.floats(0, 0.5),
    st.floats(0.001, 0.5),
)
def test_shares(
    states: list[str], method: str, rtt: float, cpu: float, wait: float, write: float
) -> None:
    """Whatever was observed, no share is negative, their sum is 1, and the largest is named."""
    result = make_result(method=method, cpu=cpu, wait=wait, write=write)
    found = bottleneck_of([attribute(result, make_observation(*states), rtt)])
    assert tuple(found.shares) == BOTTLENECKS
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) >= 0
    assert found.shares[found.name] == max(found.shares.values())
    assert found.advice.startswith(ADVICE[found.name])


def test_several_rounds() -> None:
    """Rounds count by their seconds."""
    rounds = [{"client": 1.0, "wal": 0.0}, {"client": 0.0, "wal": 3.0}]
    assert bottleneck_of(rounds).shares["wal"] == 0.75


def test_close_second() -> None:
    """Where two bottlenecks have nearly the same share, both get their advice."""
    both = bottleneck_of([{"client": 5.0, "wal": 4.5, "locks": 0.5}])
    assert both.name == "client"
    assert both.advice == f"{ADVICE['client']}; and, nearly as much, {ADVICE['wal']}"
    assert bottleneck_of([{"client": 5.0, "wal": 3.0}]).advice == ADVICE["client"]
