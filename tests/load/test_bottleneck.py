"""The attribution of a load's time to bottlenecks, from made-up observations; needs no server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import BOTTLENECKS
from pgload.load.advice import Circumstances, advice
from pgload.load.bottleneck import (
    EVENTS,
    Attribution,
    attribute,
    bottleneck_of,
    bottleneck_of_event,
)
from pgload.load.machine import ProcessTime, Usage
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
        ("BufferPin:BufferPin", "locks"),
        ("Buffer:BufferExclusive", "locks"),  # since 19, instead of both
        ("Lock:extend", "locks"),
        ("Lock:relation", "locks"),
        ("IPC:ParallelFinish", "server_cpu"),
        ("Timeout:PgSleep", "server_wait"),
        ("Extension:Anything", "server_wait"),
    ],
)
def test_events(event: str, name: str) -> None:
    """Every wait event within the server has one bottleneck, whatever a version calls it."""
    assert bottleneck_of_event(event) == name


def test_writing_while_the_backend_waits() -> None:
    """Round trips are the network's; what remains is divided by how busy the client was."""
    result = make_result(cpu=4.0)  # 20 s of writing, in half of which the backend waits
    seconds = attribute(result, make_observation(CLIENT, CPU), rtt=0.1).seconds
    assert seconds["server_cpu"] == pytest.approx(10)
    assert seconds["network"] == pytest.approx(20 * 0.1 + 0.6 * 8)
    assert seconds["client"] == pytest.approx(0.4 * 8)


def test_without_a_network() -> None:
    """Over a direct connection on one machine, what the client does not explain is unknown."""
    observation = replace(make_observation(CLIENT, CPU), direct=True)
    seconds = attribute(make_result(cpu=4.0), observation, rtt=0.0001).seconds
    assert seconds["network"] == pytest.approx(0.002)
    assert seconds["client"] == pytest.approx(0.4 * 9.998)
    assert seconds["unknown"] == pytest.approx(0.6 * 9.998)


def test_round_trips_of_copy() -> None:
    """COPY takes two round trips for each batch."""
    result = make_result(method="copy", cpu=10.0)
    seconds = attribute(result, make_observation(CLIENT), rtt=0.1).seconds
    assert (seconds["network"], seconds["client"]) == pytest.approx((2 * 20 * 0.1, 20 - 4))


def test_data_on_its_way() -> None:
    """The time in which sockets held data is the network's, also where samples arrive behind it.

    The backend is then often seen at work, which the system does not confirm.
    """
    usage = Usage(ProcessTime(1.0, 0.0), ProcessTime(), 0.0)
    observation = Observation(samples=[Sample(105.0, [CLIENT, CPU], sending=2)], usage=usage)
    result = make_result(cpu=10.0)  # 20 s of writing; a client that would explain all the rest
    found = attribute(result, observation, rtt=0.0)
    assert found.seconds["server_cpu"] == pytest.approx(1)
    assert found.seconds["network"] == pytest.approx(19)
    assert "bandwidth" in bottleneck_of([found]).advice

    direct = attribute(result, replace(observation, direct=True), rtt=0.0)
    assert direct.seconds["network"] == 0


def test_processors_that_others_use() -> None:
    """Waiting for them is neither the client's nor the server's time, and the advice says so."""
    client = ProcessTime(1.0, 6.0)
    usage = Usage(ProcessTime(1.0, 3.0), client, others=0.8, others_of_busy=0.9)
    result = make_result(wait=0.5, write=0.4, encode=0.4, cpu=1.0)  # 10 s, 8 s; 8 s of encoding
    found = attribute(result, replace(make_observation(CPU), usage=usage), rtt=0.0)
    # The encoder was ready to run for 6 of its 8 s, the backends for 3 of their 4.
    lost = 10 * 0.9 * 6 / 8 + 4 * 0.9 * 3 / 4
    assert found.seconds["client"] == pytest.approx(10 - 10 * 0.9 * 6 / 8)
    assert found.seconds["server_cpu"] == pytest.approx(4 - 4 * 0.9 * 3 / 4)
    assert found.circumstances.lost == pytest.approx(lost / 18)
    bottleneck = bottleneck_of([found])
    assert bottleneck.name == "unknown"
    assert "other processes on this machine are the bottleneck" in bottleneck.advice
    assert "for which the load waited 52% of its time" in bottleneck.advice


def test_wait_and_idle() -> None:
    """Waiting for an encoded batch is the client's; idle time counts for nothing."""
    result = make_result(wait=0.4, write=0.1, cpu=10.0)  # 8 s, 2 s, and 10 s idle
    observation = make_observation(*[CLIENT] * 9, "Lock:tuple")
    seconds = attribute(result, observation, rtt=0.0).seconds
    assert seconds["locks"] == pytest.approx(2)
    assert seconds["client"] == pytest.approx(8)


def test_nothing_observed() -> None:
    """Where the server hides its states, what the client cannot explain is unknown."""
    seconds = attribute(make_result(batches=10), Observation(), rtt=0.2).seconds
    assert seconds["network"] == pytest.approx(2)
    assert seconds["unknown"] == pytest.approx(8)


def test_pooled() -> None:
    """Through a pooler the server's work is unknown, however busy the client was meanwhile."""
    result, observation = make_result(cpu=10.0), Observation(pooled=True)
    seconds = attribute(result, observation, rtt=0.2).seconds
    assert seconds["network"] == pytest.approx(4)
    assert seconds["unknown"] == pytest.approx(16)
    assert (
        "a connection pooler hides" in bottleneck_of([attribute(result, observation, 0.2)]).advice
    )


@pytest.mark.parametrize(
    ("usage", "commit_delay", "expected"),
    [
        (None, 0.0, {"server_cpu": 20}),  # the server runs elsewhere
        (Usage(ProcessTime(5.0, 0.0), ProcessTime(), 0.0), 0.0, {"server_cpu": 5, "unknown": 15}),
        (Usage(ProcessTime(5.0, 9.0), ProcessTime(), 0.0), 0.0, {"server_cpu": 14, "unknown": 6}),
        (Usage(ProcessTime(5.0, 0.0), ProcessTime(), 0.0), 0.5, {"server_cpu": 5, "wal": 10}),
        (None, 0.5, {"wal": 10, "server_cpu": 10}),
    ],
)
def test_samples_without_a_wait(
    usage: Usage | None, commit_delay: float, expected: dict[str, float]
) -> None:
    """They count as the server's processors for the seconds that the system confirms, if it can."""
    observation = replace(make_observation(CPU), usage=usage, commit_delay=commit_delay)
    seconds = attribute(make_result(), observation, rtt=0.0).seconds
    assert {name: seconds[name] for name in expected} == pytest.approx(expected)


def test_starved_backends() -> None:
    """A backend that waits for a processor when its client has sent counts for the processors."""
    usage = Usage(ProcessTime(2.0, 12.0), ProcessTime(), 0.9)
    observation = replace(make_observation(CLIENT, CLIENT, CLIENT, CPU), usage=usage)
    found = attribute(make_result(), observation, rtt=0.0)
    assert found.seconds["server_cpu"] == pytest.approx(14)
    assert "other processes used 90% of this machine" in bottleneck_of([found]).advice


@pytest.mark.parametrize(
    ("states", "holders", "name"),
    [
        (["Lock:extend", "IO:DataFileExtend"], {0: (1,)}, "io"),
        (["Lock:extend", "Lock:extend", "IO:DataFileExtend"], {0: (1,), 1: (2,)}, "io"),
        (["Lock:transactionid", "IO:WalSync"], {0: (1,)}, "wal"),
        (["Lock:extend", CPU, "IO:DataFileRead"], {0: (1,)}, "locks"),
        (["Lock:advisory", "IO:WalSync"], {0: (1,)}, "locks"),
        (["Lock:relation", "IO:WalSync", CPU], {}, "locks"),  # held by another session
        (["LWLock:BufferContent", "IO:DataFileRead"], {}, "io"),
        (["LWLock:BufferContent", "IO:DataFileRead", CPU], {}, "locks"),
        (["Lock:tuple", "Lock:tuple"], {0: (1,), 1: (0,)}, "locks"),
    ],
)
def test_lock_waits(states: list[str], holders: dict[int, tuple[int, ...]], name: str) -> None:
    """A wait for a lock counts for the disk that the lock's holder waits for."""
    observation = Observation(samples=[Sample(105.0, states, holders)])
    seconds = attribute(make_result(), observation, rtt=0.0).seconds
    others = sum(state.startswith(("IO", CPU)) for state in states)
    assert seconds[name] >= 20 * (len(states) - others) / len(states)
    assert (seconds["locks"] == 0) == (name != "locks")


@given(
    st.lists(st.sampled_from([CLIENT, *(start + "x" for start, _ in EVENTS)]), max_size=30),
    st.sampled_from(["values", "copy", "executemany", "another"]),
    st.floats(0, 1),
    st.floats(0, 30),
    st.floats(0, 0.5),
    st.floats(0.001, 0.5),
    st.one_of(
        st.none(),
        st.builds(
            Usage,
            st.builds(ProcessTime, st.floats(0, 30), st.floats(0, 30)),
            st.builds(ProcessTime, st.floats(0, 30), st.floats(0, 30)),
            st.floats(0, 1),
            st.floats(0, 1),
        ),
    ),
    st.integers(0, 2),
    st.floats(0, 0.1),
)
def test_shares(
    states: list[str],
    method: str,
    rtt: float,
    cpu: float,
    wait: float,
    write: float,
    usage: Usage | None,
    sending: int,
    commit_delay: float,
) -> None:
    """Whatever was observed, no share is negative, their sum is 1, and the largest is named."""
    result = make_result(method=method, cpu=cpu, wait=wait, write=write)
    observation = Observation(
        samples=[Sample(105.0, states, sending=sending)], usage=usage, commit_delay=commit_delay
    )
    attribution = attribute(result, observation, rtt)
    found = bottleneck_of([attribution])
    assert sum(attribution.seconds.values()) == pytest.approx(20 * (wait + write))
    assert tuple(found.shares) == BOTTLENECKS
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) >= 0
    assert found.shares[found.name] == max(found.shares.values())


def test_several_rounds() -> None:
    """Rounds count by their seconds."""
    rounds = [Attribution({"client": 1.0, "wal": 0.0}), Attribution({"client": 0.0, "wal": 3.0})]
    assert bottleneck_of(rounds).shares["wal"] == 0.75


def test_close_second() -> None:
    """Where two bottlenecks have nearly the same share, both get their advice."""
    client, wal = (advice([name], Circumstances()) for name in ("client", "wal"))
    both = bottleneck_of([Attribution({"client": 5.0, "wal": 4.5, "locks": 0.5})])
    assert both.name == "client"
    assert both.advice == f"{client}; and, nearly as much, {wal}"
    assert bottleneck_of([Attribution({"client": 5.0, "wal": 3.0})]).advice == client
