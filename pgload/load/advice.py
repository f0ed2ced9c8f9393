"""What to do about a bottleneck, for the setting that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BUSY = 0.1  # the share of processors that other processes use, from which on it is reported


@dataclass(frozen=True)
class Circumstances:
    """What advice depends on, beside the bottleneck."""

    method: str = ""
    connections: int = 1
    bandwidth: bool = False  # most of the network's share is not round trips
    hidden: bool = False  # the server did not show the states of the load's backends
    pooled: bool = False  # a pooler hides which backends those are
    same_machine: bool = False  # client and server run on one machine
    others: float = 0.0  # share of this machine's processors that other processes used
    lost: float = 0.0  # share of the load's time that it waited for processors they used

    @classmethod
    def of(cls, loads: Sequence[Circumstances]) -> Circumstances:
        """Those of several loads of the same setting."""
        if not loads:
            return cls()
        return cls(
            method=loads[0].method,
            connections=loads[0].connections,
            bandwidth=sum(load.bandwidth for load in loads) * 2 > len(loads),
            hidden=all(load.hidden for load in loads),
            pooled=loads[0].pooled,
            same_machine=loads[0].same_machine,
            others=sum(load.others for load in loads) / len(loads),
            lost=sum(load.lost for load in loads) / len(loads),
        )


def advice(names: Sequence[str], circumstances: Circumstances, event: str = "") -> str:
    """The advice for one bottleneck, or for several of nearly the same share.

    `event` is the wait event that most of `server_wait` went to.
    """
    parts = [_for_one(name, circumstances, event) for name in names]
    text = "; and, nearly as much, ".join(parts)
    if circumstances.same_machine and {"client", "server_cpu"} & set(names):
        text += "; client and server share the processors of one machine"
    if circumstances.others >= BUSY:
        text += f"; other processes used {circumstances.others:.0%} of this machine's processors"
        if circumstances.lost >= BUSY:
            text += f", for which the load waited {circumstances.lost:.0%} of its time"
    return text


def _for_one(name: str, circumstances: Circumstances, event: str) -> str:
    copies, alone = circumstances.method == "copy", circumstances.connections == 1
    cheaper = "" if copies else "use a method that needs less of {} (copy needs the least), "
    if name == "client":
        return (
            f"the client's processor is the bottleneck: {cheaper.format('it')}run the client "
            "on a machine with faster cores; a larger server would not help"
        )
    if name == "network":
        if circumstances.bandwidth:
            fewer = "" if copies else ", or use copy, which sends the fewest bytes"
            return (
                "the network's bandwidth is the bottleneck: run the client in the server's region "
                f"or on a machine with a faster network{fewer}"
            )
        return (
            "round trips to the server are the bottleneck: use larger batches or more connections, "
            "or run the client in the server's region"
        )
    if name == "server_cpu":
        return (
            f"the server's processors are the bottleneck: {cheaper.format('them')}drop indexes and "
            "triggers while loading, or choose an instance with more or faster vCPUs"
        )
    if name == "wal":
        more = "more connections, which share a flush, or " if alone else ""
        return (
            "writing the write-ahead log is the bottleneck: use larger batches, which need fewer "
            f"commits, or {more}storage with faster log writes"
        )
    if name == "io":
        return (
            "the server's disk is the bottleneck: choose more memory (shared_buffers) or a faster "
            "disk, or drop indexes while loading"
        )
    if name == "locks":
        if alone:
            return "locks of other sessions are the bottleneck: keep other sessions off the table"
        return (
            "connections waiting for each other are the bottleneck: use fewer of them, spread the "
            "rows over partitions, or keep other sessions off the table"
        )
    if name == "server_wait":
        return (
            f"a wait within the server is the bottleneck ({event or 'without a name'}): find what "
            "causes it, such as a trigger, and disable it while loading"
        )
    if circumstances.pooled:
        return (
            "most of the time cannot be attributed, since a connection pooler hides what the "
            "server's processes wait for: connect to the server directly to see it"
        )
    if circumstances.hidden:
        return (
            "most of the time cannot be attributed, since the server hides its backends' states: "
            "let the user see them (GRANT pg_read_all_stats)"
        )
    if circumstances.lost >= BUSY:
        return (
            "other processes on this machine are the bottleneck: stop them, or run client and "
            "server on machines of their own, and measure again"
        )
    return (
        "most of the time cannot be attributed: keep other work off client and server, and measure "
        "again"
    )
