"""The bottleneck of a load: its connections' time, divided by what they waited for.

A connection is always in one of these states, and all of its time is attributed to a bottleneck:

- It waits for a batch to be encoded: the client.
- Its backend waits for something within the server, in the samples: what the wait event names. A
  wait for a lock counts for what the lock's holder waits for, if that is a disk.
- Its backend is on a processor, or ready to run and waiting for one: the server's processors. Where
  the server runs on this machine, these seconds come from the system, elsewhere from the samples
  without a wait event. Where samples have more of these than the system, a commit delay explains
  the difference, or data on its way, and what they do not is unknown.
- Its backend waits for the client: what the client sends or the server answers is on its way, or
  the worker has the answer and waits for Python's interpreter. The worker's own CPU time is
  attributed to the client, and one round-trip time for each round trip to the network, as is the
  time in which the sockets held data that had not arrived. The rest is divided between the two: to
  the client goes the share of the load's time in which the client kept one core busy, which is all
  that Python can use, and to the network what remains; without a network between them, that is
  unknown.
- The client or its backend is ready to run, but waits for a processor. What the system reports
  of this time is divided by who used the processors: the part of other programs is unknown, and not
  the client's or the server's.

The time from a worker's last batch to the end of the load is idle, and attributed to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pgload.contract import BOTTLENECKS
from pgload.load.advice import Circumstances, advice
from pgload.load.observe import CLIENT, CPU, Observation, Sample
from pgload.load.stats import LoadResult

CLOSE_SECOND = 0.8  # the second largest share gets its advice too, from this part of the largest on

# How a wait event ("type:event" in lower case) begins, and its bottleneck; the first match counts.
# Names change their case and become longer from version to version, so beginnings are compared.
# Events of Aurora are among them.
EVENTS = (
    ("cpu", "server_cpu"),
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
    ("ipc:", "server_cpu"),  # waits for another process that works for it
    ("", "server_wait"),
)
DISKS = ("wal", "io")  # the bottlenecks that a wait for a lock may stand for
# A lock that an application takes on purpose limits it whatever its holder does.
DELIBERATE = "lock:advisory"

# Round trips of a method for each batch and for each of its records; others take (1, 0).
ROUND_TRIPS = {"copy": (2, 0), "executemany": (2, 1)}


@dataclass(frozen=True)
class Attribution:
    """The time of one load's connections by bottleneck, in seconds summed over them."""

    seconds: dict[str, float]  # of each of BOTTLENECKS
    waits: dict[str, float] = field(default_factory=dict)  # of `server_wait`, by event
    circumstances: Circumstances = field(default_factory=Circumstances)


@dataclass(frozen=True)
class Bottleneck:
    """What most of the connections' time went to."""

    name: str  # one of BOTTLENECKS
    shares: dict[str, float]  # of each of BOTTLENECKS; their sum is 1
    advice: str


def bottleneck_of(loads: Iterable[Attribution]) -> Bottleneck:
    """The bottleneck of one or several loads of the same setting."""
    loads = list(loads)
    seconds, waits = Counter[str](), Counter[str]()
    for load in loads:
        seconds.update(load.seconds)
        waits.update(load.waits)
    total = sum(seconds.values()) or 1.0  # 0 for a load without records
    shares = {name: seconds[name] / total for name in BOTTLENECKS}
    first, second = sorted(BOTTLENECKS, key=lambda name: shares[name], reverse=True)[:2]
    names = [first]
    if shares[second] > CLOSE_SECOND * shares[first]:
        names.append(second)
    event = max(waits, key=lambda name: waits[name], default="")
    circumstances = Circumstances.of([load.circumstances for load in loads])
    return Bottleneck(first, shares, advice(names, circumstances, event))


def attribute(result: LoadResult, observation: Observation, rtt: float) -> Attribution:
    """Divide the time of a load's connections; `rtt` is the seconds of an idle round trip."""
    usage = observation.usage
    others = usage.others_of_busy if usage is not None else 0.0
    client_delay = usage.client.delay if usage is not None else 0.0
    writing = result.total("write") + result.total("commit")
    at_work, waiting = _in_server(result, observation, writing)
    waited = sum(waiting.values())
    rest = max(0.0, writing - at_work - waited)
    seconds = dict.fromkeys(BOTTLENECKS, 0.0)
    for (name, _), n in waiting.items():
        seconds[name] += n
    lost = 0.0  # to other programs, for want of a processor

    on_processors, unexplained = 0.0, at_work
    if usage is not None and usage.backends is not None:
        busy = usage.backends.cpu + usage.backends.delay
        working = min(at_work, busy)
        unexplained -= working
        # A backend that becomes ready to run still shows what it waited for, and so does one that
        # reads or writes files, which takes processor time as well.
        unseen = busy - working
        unseen = min(rest, max(min(unseen, usage.backends.delay), unseen - waited))
        rest -= unseen
        on_processors = working + unseen
        lost += on_processors * others * _share(usage.backends.delay, busy)
        seconds["server_cpu"] += on_processors - lost
    delayed = min(unexplained, observation.commit_delay * len(result.batches))
    unexplained -= delayed
    seconds["wal"] += delayed
    elsewhere = usage is None or usage.backends is None

    # Samples go over the same network: one may arrive right behind the data that it waited for,
    # when the backend is about to work on it.
    over_network = bool(observation.samples) and not observation.direct
    sending = _sending(result, observation, writing) - on_processors - waited if over_network else 0
    behind = 0.0 if elsewhere else max(0.0, min(unexplained, sending))
    unexplained -= behind
    seconds["server_cpu" if elsewhere else "unknown"] += unexplained

    worker_cpu = min(rest, result.total("write_cpu"))
    rest -= worker_cpu
    round_trips = _round_trips(result) * rtt
    travelling = min(rest, max(round_trips, sending - behind))
    rest -= travelling
    busy_share, delay_share = result.cpu_share, client_delay / result.seconds
    interpreter = rest * min(1.0, busy_share + delay_share)
    if observation.pooled:  # most of the rest is the server's work, which is not seen
        interpreter = 0.0
    rest -= interpreter
    client = worker_cpu
    starved = interpreter * others * _share(delay_share, busy_share + delay_share)
    client += interpreter - starved
    lost += starved
    encode_delay = min(result.total("encode") - result.total("encode_cpu"), client_delay)
    starved = result.total("wait") * others * _share(encode_delay, result.total("encode"))
    client += result.total("wait") - starved
    lost += starved

    seconds["client"] += client
    seconds["network"] += travelling + behind
    # Without samples, the rest may have been spent within the server.
    seconds["network" if over_network else "unknown"] += rest
    seconds["unknown"] += lost
    return Attribution(
        seconds,
        {event: n for (name, event), n in waiting.items() if name == "server_wait"},
        Circumstances(
            method=result.method,
            connections=result.connections,
            bandwidth=over_network and 2 * round_trips < travelling + behind + rest,
            hidden=not any(sample.states for sample in observation.samples),
            pooled=observation.pooled,
            same_machine=not elsewhere,
            others=usage.others if usage is not None else 0.0,
            lost=_share(lost, sum(seconds.values())),
        ),
    )


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part) / whole) if whole > 0 else 0.0


def _sending(result: LoadResult, observation: Observation, writing: float) -> float:
    """Seconds in which data of the connections was on its way, by the samples."""
    sending = states = 0
    for sample in observation.samples:
        if result.begin <= sample.at <= result.end:
            sending += sample.sending
            states += result.connections
    return min(writing, _share(sending, states) * result.connections * result.seconds)


def bottleneck_of_event(event: str) -> str:
    """The one of BOTTLENECKS that a state of a backend, other than `CLIENT`, counts for."""
    return next(name for start, name in EVENTS if event.lower().startswith(start))


def _in_server(
    result: LoadResult, observation: Observation, writing: float
) -> tuple[float, dict[tuple[str, str], float]]:
    """Seconds in which backends were at work, and those in which they waited within the server.

    The latter are by bottleneck and wait event. All come from the samples, and are together not
    more than `writing`.
    """
    counts, samples = Counter[tuple[str, str]](), 0
    for sample in observation.samples:
        if result.begin <= sample.at <= result.end:
            samples += len(sample.states)
            counts.update(zip(_causes(sample), sample.states, strict=True))
    inside = {key: n for key, n in counts.items() if key[1] != CLIENT}
    total = sum(inside.values())
    if not total:
        return 0.0, {}
    whole = result.connections * result.seconds
    scale = min(whole / samples, writing / total)
    seconds = {key: n * scale for key, n in inside.items()}
    return seconds.pop(("server_cpu", CPU), 0.0), seconds


def _causes(sample: Sample) -> Iterator[str]:
    """What each backend of a sample counts for; "" for one that waits for its client."""
    names = ["" if state == CLIENT else bottleneck_of_event(state) for state in sample.states]
    # The server does not name the holder of an LWLock: one of the backends that wait for no lock.
    running = [name for name in names if name not in ("locks", "")]
    for n, name in enumerate(names):
        if name != "locks" or sample.states[n].lower().startswith(DELIBERATE):
            yield name
        elif n in sample.holders:
            yield _cause_of_holder(sample, names, n)
        elif running and all(each in DISKS for each in running):
            yield running[0]
        else:
            yield name


def _cause_of_holder(sample: Sample, names: list[str], waiter: int) -> str:
    """The disk that the holder of a lock waits for, over others that wait for locks; or `locks`."""
    seen, pending = set[int](), [waiter]
    while pending:
        n = pending.pop()
        if n in seen:
            continue
        seen.add(n)
        if names[n] in DISKS:
            return names[n]
        pending += sample.holders.get(n, ())
    return "locks"


def _round_trips(result: LoadResult) -> int:
    per_batch, per_record = ROUND_TRIPS.get(result.method, (1, 0))
    return per_batch * len(result.batches) + per_record * result.records
