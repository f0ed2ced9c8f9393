"""The bottleneck of a load: its connections' time, divided by what they waited for.

A connection is always in one of these states, and all of its time is attributed to a bottleneck:

- It waits for a batch to be encoded: the client.
- It writes a batch, and its backend is at work or waits for something within the server: the
  server, divided by the wait events that were sampled meanwhile.
- It writes a batch, and its backend waits for the client: what the client sends or the server
  answers is on its way, or the worker has the answer and waits for Python's interpreter. The
  worker's own CPU time is attributed to the client, and one round-trip time for each round trip to
  the network. The rest is divided between the two: to the client goes the share of the load's time
  in which the client kept one core busy, which is all that Python can use, and to the network what
  remains (bandwidth, for example). Without a network between them, all of the rest is the client's.

The time from a worker's last batch to the end of the load is idle, and attributed to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgload.contract import BOTTLENECKS
from pgload.load.observe import CLIENT, Observation
from pgload.load.stats import LoadResult

ADVICE = {
    "client": "the client's processor is the bottleneck: use a method that needs less of it (copy "
    "needs the least) or a machine with faster cores; a larger server would not help",
    "network": "round trips to the server are the bottleneck: use larger batches or more "
    "connections, or run the client in the server's region",
    "server_cpu": "the server's processors are the bottleneck: use a method that needs less of "
    "them (copy needs the least), drop indexes and triggers while loading, or choose an instance "
    "with more or faster vCPUs",
    "wal": "writing the write-ahead log is the bottleneck: use larger batches, which need fewer "
    "commits, or more connections, which share a flush, or choose storage with faster log writes",
    "io": "the server's disk is the bottleneck: choose more memory (shared_buffers) or a faster "
    "disk, or drop indexes while loading",
    "locks": "connections waiting for each other are the bottleneck: use fewer of them, spread the "
    "rows over partitions, or keep other sessions off the table",
}
CLOSE_SECOND = 0.8  # the second largest share gets its advice too, from this part of the largest on

# How a wait event ("type:event" in lower case) begins, and its bottleneck; the first match counts.
# Names change their case and become longer from version to version, so beginnings are compared.
# Events of Aurora are among them.
EVENTS = (
    ("io:wal", "wal"),
    ("io:xactsync", "wal"),
    ("lwlock:wal", "wal"),
    ("lwlock:syncrep", "wal"),
    ("ipc:syncrep", "wal"),
    ("timeout:commitdelay", "wal"),
    ("io:", "io"),
    ("lwlock:aio", "io"),
    ("lwlock:bufferio", "io"),
    ("ipc:bufferio", "io"),
    ("lwlock:", "locks"),
    ("lock:", "locks"),
    ("bufferpin:", "locks"),
    ("buffer:", "locks"),
    ("ipc:procarraygroupupdate", "locks"),
    ("ipc:xactgroupupdate", "locks"),
    ("timeout:spindelay", "locks"),
    ("", "server_cpu"),  # at work, or waiting for another process that works for it
)

LOOPBACK = 0.0002  # seconds; a shorter round trip has not left the machine

# Round trips of a method for each batch and for each of its records; others take (1, 0).
ROUND_TRIPS = {"copy": (2, 0), "executemany": (2, 1)}


@dataclass(frozen=True)
class Bottleneck:
    """What most of the connections' time went to."""

    name: str  # one of BOTTLENECKS
    shares: Mapping[str, float]  # of each of BOTTLENECKS; their sum is 1
    advice: str


def bottleneck_of(loads: Iterable[Mapping[str, float]]) -> Bottleneck:
    """The bottleneck of one or several loads, given the seconds that `attribute` returned."""
    seconds = Counter[str]()
    for load in loads:
        seconds.update(load)
    total = sum(seconds.values()) or 1.0  # 0 for a load without records
    shares = {name: seconds[name] / total for name in BOTTLENECKS}
    first, second = sorted(BOTTLENECKS, key=lambda name: shares[name], reverse=True)[:2]
    advice = ADVICE[first]
    if shares[second] > CLOSE_SECOND * shares[first]:
        advice += f"; and, nearly as much, {ADVICE[second]}"
    return Bottleneck(name=first, shares=shares, advice=advice)


def attribute(result: LoadResult, observation: Observation, rtt: float) -> dict[str, float]:
    """The seconds that a load's connections spent on each of BOTTLENECKS, summed over them.

    `rtt` is the seconds of a round trip on an idle connection.
    """
    writing = result.total("write") + result.total("commit")
    write_cpu = result.total("write_cpu")
    round_trips = _round_trips(result) * rtt
    states = observation.count_states(result.begin, result.end)
    in_server = {state: n for state, n in states.items() if state != CLIENT}
    if states:
        whole = result.connections * result.seconds
        server = min(writing, whole * sum(in_server.values()) / states.total())
    else:  # the server hides its states: attribute to it what the client cannot explain
        server = max(0.0, writing - write_cpu - round_trips)
        in_server = {"": 1}
    seconds = dict.fromkeys(BOTTLENECKS, 0.0)
    for state, n in in_server.items():
        seconds[bottleneck_of_event(state)] += server * n / sum(in_server.values())

    rest = writing - server
    working = min(rest, write_cpu)
    rest -= working
    travelling = min(rest, round_trips)
    rest -= travelling
    busy = min(1.0, result.cpu_share) if rtt > LOOPBACK else 1.0
    seconds["client"] += result.total("wait") + working + busy * rest
    seconds["network"] += travelling + (1 - busy) * rest
    return seconds


def bottleneck_of_event(event: str) -> str:
    """The one of BOTTLENECKS that a state of a backend, other than `CLIENT`, counts for."""
    return next(name for start, name in EVENTS if event.lower().startswith(start))


def _round_trips(result: LoadResult) -> int:
    per_batch, per_record = ROUND_TRIPS.get(result.method, (1, 0))
    return per_batch * len(result.batches) + per_record * result.records
