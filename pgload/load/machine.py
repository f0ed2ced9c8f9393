"""The processor time of this machine's processes, as Linux has it in /proc; absent elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

PROC = Path("/proc")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
NANOSECOND = 1e-9
IDLE_FIELDS = (3, 4)  # idle and iowait, of the fields of a line of /proc/stat
BUSY_FIELDS = 8  # those after the first 8 are parts of them


@dataclass(frozen=True)
class ProcessTime:
    """Seconds of a process: on a processor, and ready to run but waiting for a processor."""

    cpu: float = 0.0
    delay: float = 0.0

    def __add__(self, other: ProcessTime) -> ProcessTime:
        return ProcessTime(self.cpu + other.cpu, self.delay + other.delay)

    def __sub__(self, other: ProcessTime) -> ProcessTime:
        return ProcessTime(self.cpu - other.cpu, self.delay - other.delay)


@dataclass(frozen=True)
class Reading:
    """What the processors of this machine have done until now."""

    at: float  # on the clock of `time.perf_counter`
    client: ProcessTime  # this process
    backends: Mapping[int, ProcessTime] = field(default_factory=dict)  # of the load, by process id
    server: float = 0.0  # CPU seconds of all the server's processes
    machine: float | None = None  # CPU seconds of all processes; None where it is not known


@dataclass(frozen=True)
class Usage:
    """What the processors of this machine did between two readings; see `usage`."""

    backends: ProcessTime | None  # their sum; None where the server runs elsewhere
    client: ProcessTime
    others: float  # share of the processors that neither client nor server used, 0 to 1
    others_of_busy: float = 0.0  # the same time as a share of that in which processors were busy


def read(pids: Iterable[int], *, server_here: bool) -> Reading:
    """Read the processors' times; `pids` are those of the load's backends."""
    backends = dict[int, ProcessTime]()
    server = 0.0
    if server_here:
        for pid in pids:
            if (found := _process_time(PROC / str(pid))) is not None:
                backends[pid] = found
        server = _server_cpu(next(iter(backends), 0))
    return Reading(time.perf_counter(), _own_time(), backends, server, _machine_cpu())


def usage(before: Reading, after: Reading, *, server_here: bool) -> Usage:
    """The difference of two readings."""
    zero = ProcessTime()
    backends = sum(
        (now - before.backends.get(pid, zero) for pid, now in after.backends.items()), zero
    )
    client = after.client - before.client
    others = of_busy = 0.0
    if before.machine is not None and after.machine is not None:
        busy = after.machine - before.machine
        seconds = max(0.0, busy - client.cpu - (after.server - before.server))
        others = min(1.0, seconds / ((os.cpu_count() or 1) * (after.at - before.at)))
        of_busy = seconds / busy if busy else 0.0
    return Usage(backends if server_here else None, client, others, of_busy)


def runs_here(connection: Connection) -> bool:
    """Whether the server's processes are among those of this machine."""
    info = connection.info
    if not (info.host.startswith("/") or info.host in LOOPBACK_HOSTS):
        return False
    try:
        return (PROC / str(info.backend_pid) / "comm").read_text().startswith("postgres")
    except OSError:
        return False


def is_direct(connection: Connection, server_port: int) -> bool:
    """Whether a connection goes to the server on this machine itself, not to a proxy."""
    info = connection.info
    if info.host.startswith("/"):  # a server locks its sockets
        return Path(f"{info.host}/.s.PGSQL.{info.port}.lock").exists()
    return info.host in LOOPBACK_HOSTS and info.port == server_port


def _process_time(folder: Path) -> ProcessTime | None:
    """The time of a process or thread; None once it has ended."""
    with suppress(OSError, ValueError):
        cpu, delay = (folder / "schedstat").read_text().split()[:2]
        return ProcessTime(int(cpu) * NANOSECOND, int(delay) * NANOSECOND)
    with suppress(OSError, ValueError, IndexError):  # a kernel without schedstat
        return ProcessTime(_cpu(_stat(folder)))
    return None


def _stat(folder: Path) -> list[str]:
    """The fields of a process's state after its name; see proc(5). Raises as reading a file."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _cpu(stat: list[str], *, with_ended_children: bool = False) -> float:
    """CPU seconds of a process, to 10 ms."""
    ticks = map(int, stat[11 : 15 if with_ended_children else 13])
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def _own_time() -> ProcessTime:
    """Of this process, without the delays of a thread that has ended."""
    threads = (PROC / "self" / "task").glob("*")
    delays = [found.delay for each in threads if (found := _process_time(each)) is not None]
    return ProcessTime(time.process_time(), sum(delays))


def _server_cpu(backend: int) -> float:
    """CPU seconds of the backend's postmaster and all that it has started, ended or not."""
    seconds = 0.0
    with suppress(OSError, ValueError, IndexError):  # there may be no list of children
        postmaster = _stat(PROC / str(backend))[1]
        children = (PROC / f"{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in children:
            with suppress(OSError):  # it has ended
                seconds += _cpu(_stat(PROC / pid))
        seconds += _cpu(_stat(PROC / postmaster), with_ended_children=True)
    return seconds


def _machine_cpu() -> float | None:
    try:
        first = (PROC / "stat").read_text().partition("\n")[0]
    except OSError:
        return None
    ticks = list(map(int, first.split()[1 : BUSY_FIELDS + 1]))
    busy = sum(ticks) - sum(ticks[n] for n in IDLE_FIELDS)
    return busy / os.sysconf("SC_CLK_TCK")
