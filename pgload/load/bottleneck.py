"""What held a load back: its connections' time, divided among what they waited for.

A connection is at any moment in one of these states, and all of its time is accounted for:

- It waits for a batch to be encoded. That is the client's.
- It writes a batch, and its backend is at work or waits within the server. That is the server's,
  divided by the wait events that were sampled meanwhile.
- It writes a batch, and its backend waits for the client: what the client sent or the server
  answered is under way, or the worker has its answer and waits for Python's interpreter. The
  worker's own CPU time is the client's; a round-trip time for each round trip is the network's; of
  what is left, the client's is the part of the load for which the client was busy on one core,
  which is all that Python can use, and the network's (bandwidth, for example) is the other part;
  all of it is the client's where no network lies between.

No batches left is not a wait: the time from a worker's last batch to the end of the load counts
nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgload.contract import BOTTLENECKS
from pgload.load.observe import CLIENT, Observation
from pgload.load.stats import LoadResult

ADVICE = {
    "client": "the client's processor sets the pace: use a method that costs it less (copy costs "
    "least) or a machine with faster cores; a larger server would change nothing",
    "network": "round trips set the pace: use larger batches or more connections, or run the "
    "client in the server's region",
    "server_cpu": "the server's processors set the pace: use a method that costs them less (copy "
    "costs least), drop indexes and triggers while loading, or take an instance with more or "
    "faster vCPUs",
    "wal": "writing the log sets the pace: use larger batches, which share a commit, or more "
    "connections, which share a flush, or take storage with a faster log",
    "io": "the server's disk sets the pace: take more memory (shared_buffers) or a faster disk, or "
    "drop indexes while loading",
    "locks": "connections stand in each other's way: use fewer of them, spread the rows over "
    "partitions, or keep other sessions off the table",
}
NEARLY = 0.8  # from this part of the largest share on, the second one gets its advice too

# How a wait event, type:event in small letters, begins, and whose it is; the first that fits
# counts. Names change their case and grow between versions, so beginnings are compared. Events of
# Aurora are among them.
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
    ("", "server_cpu"),  # at work, or at a work of its own that it waits for
)

LOOPBACK = 0.0002  # seconds; a shorter round trip has not left the machine

# Round trips that a method needs for a batch and for each of its records; others take (1, 0).
ROUND_TRIPS = {"copy": (2, 0), "executemany": (2, 1)}


@dataclass(frozen=True)
class Bottleneck:
    """What held a load back most, and by how much."""

    name: str  # one of BOTTLENECKS
    shares: Mapping[str, float]  # of each of BOTTLENECKS; their sum is 1
    advice: str


def bottleneck(result: LoadResult, observation: Observation, rtt: float) -> Bottleneck:
    """The verdict on one load; `rtt` is the seconds of a round trip while nothing else goes on."""
    return verdict([divide(result, observation, rtt)])


def verdict(loads: Iterable[Mapping[str, float]]) -> Bottleneck:
    """The verdict on what `divide` gave for one or several loads."""
    seconds = Counter[str]()
    for load in loads:
        seconds.update(load)
    whole = sum(seconds.values()) or 1.0  # 0 for a load of nothing
    shares = {name: seconds[name] / whole for name in BOTTLENECKS}
    first, second = sorted(BOTTLENECKS, key=lambda name: shares[name], reverse=True)[:2]
    advice = ADVICE[first]
    if shares[second] > NEARLY * shares[first]:
        advice += f"; and nearly as much, {ADVICE[second]}"
    return Bottleneck(first, shares, advice)


def divide(result: LoadResult, observation: Observation, rtt: float) -> dict[str, float]:
    """The seconds of a load that its connections spent on each of BOTTLENECKS, summed over them."""
    writing = result.total("write") + result.total("commit")
    doing = observation.doing(result.begin, result.end)
    at_work = {event: n for event, n in doing.items() if event != CLIENT}
    if doing:
        whole = result.connections * result.seconds
        in_server = min(writing, whole * sum(at_work.values()) / sum(doing.values()))
    else:  # it could not be seen: what the client's side does not explain is the server's
        with_hint = result.total("write_cpu") + _round_trips(result) * rtt
        in_server = max(0.0, writing - with_hint)
        at_work = {"": 1}
    seconds = dict.fromkeys(BOTTLENECKS, 0.0)
    for event, n in at_work.items():
        seconds[owner(event)] += in_server * n / sum(at_work.values())

    left = writing - in_server
    working = min(left, result.total("write_cpu"))
    left -= working
    travelling = min(left, _round_trips(result) * rtt)
    left -= travelling
    busy = min(1.0, result.cpu_share) if rtt > LOOPBACK else 1.0
    seconds["client"] += result.total("wait") + working + busy * left
    seconds["network"] += travelling + (1 - busy) * left
    return seconds


def owner(event: str) -> str:
    """Which of BOTTLENECKS a wait event within the server counts for."""
    return next(name for start, name in EVENTS if event.lower().startswith(start))


def _round_trips(result: LoadResult) -> int:
    each, of_record = ROUND_TRIPS.get(result.method, (1, 0))
    return each * len(result.batches) + of_record * result.records
