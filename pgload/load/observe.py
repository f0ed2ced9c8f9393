"""Observes a load over a connection of its own: its backends' states, and the server's counters.

Where the server runs on this machine, the processor time of its processes is read from the system.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pgload.errors import PgloadError
from pgload.load import machine

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# Seconds. A sample takes some 0.2 ms of the client's CPU and 0.3 ms of the server's, most of it for
# waking up; where both share two cores that is 1% of them.
SAMPLE_INTERVAL = 0.03
SAMPLES = 2000  # of a load at most, roughly
COUNTERS_INTERVAL = 1.0  # seconds between two readings of the server's counters

# States of a backend, beside a wait's type:event.
CLIENT = "Client"  # it waits until its client sends or receives something
CPU = "CPU"  # it is at work, and waits for nothing that PostgreSQL reports

# The function behind the view pg_stat_activity, with the same rules of who may see what; the view
# adds the names of databases and users, which takes a server five times as long. What a role may
# not see is NULL, the state included. Prepared, because planning would take longer than the rest.
PREPARE = f"""
    PREPARE pgload_sample (int[]) AS SELECT pid, CASE
        WHEN state LIKE 'idle%' OR wait_event_type = 'Client' THEN '{CLIENT}'
        WHEN wait_event IS NULL THEN '{CPU}'
        ELSE wait_event_type || ':' || wait_event
    END, CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) END
    FROM pg_stat_get_activity(NULL) WHERE state IS NOT NULL AND pid = ANY ($1)"""


class CounterQuery(NamedTuple):
    """A query of counters in one row, for servers from version `since` to before `until`.

    Times are in seconds; a server measures some only with a setting such as `track_io_timing`.
    """

    since: int
    until: int
    query: str


NEVER = 10_000_000
COUNTERS = (
    CounterQuery(0, NEVER, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS wal_bytes"),
    CounterQuery(
        14_00_00,
        NEVER,
        "SELECT wal_records, wal_fpi AS wal_full_pages, wal_buffers_full FROM pg_stat_wal",
    ),
    CounterQuery(
        14_00_00,
        18_00_00,
        "SELECT wal_sync AS wal_syncs, nullif(wal_sync_time, 0) / 1000 AS wal_sync_seconds "
        "FROM pg_stat_wal",
    ),
    CounterQuery(
        19_00_00,
        NEVER,
        "SELECT wal_fpi_bytes AS wal_full_page_bytes FROM pg_stat_wal",
    ),
    CounterQuery(
        19_00_00,
        NEVER,
        "SELECT sum(waits) AS lock_waits, sum(wait_time) / 1000 AS lock_wait_seconds "
        "FROM pg_stat_lock",
    ),
    CounterQuery(
        18_00_00,
        NEVER,
        "SELECT sum(fsyncs) AS wal_syncs, nullif(sum(fsync_time), 0) / 1000 AS wal_sync_seconds "
        "FROM pg_stat_io WHERE object = 'wal'",
    ),
    CounterQuery(
        16_00_00,
        NEVER,
        "SELECT sum(reads) AS backend_reads, sum(writes) AS backend_writes, "
        "sum(extends) AS backend_extends "
        "FROM pg_stat_io WHERE backend_type = 'client backend' AND object = 'relation'",
    ),
    CounterQuery(
        0,
        16_00_00,
        "SELECT buffers_backend AS backend_writes FROM pg_stat_bgwriter",
    ),
    CounterQuery(
        17_00_00,
        NEVER,
        "SELECT num_timed + num_requested AS checkpoints, buffers_written AS checkpoint_buffers "
        "FROM pg_stat_checkpointer",
    ),
    CounterQuery(
        0,
        17_00_00,
        "SELECT checkpoints_timed + checkpoints_req AS checkpoints, "
        "buffers_checkpoint AS checkpoint_buffers FROM pg_stat_bgwriter",
    ),
)


class Sample(NamedTuple):
    """The states of the load's backends at one moment: `CLIENT`, `CPU` or a wait's type:event."""

    at: float  # on the clock of `time.perf_counter`
    states: Sequence[str]
    # By index of a backend that waits for a lock: the indexes of those it waits for. Others than
    # the load's backends are missing.
    holders: Mapping[int, Sequence[int]] = MappingProxyType({})
    sending: int = 0  # connections of the load whose data was on its way to the server


class ServerSettings(NamedTuple):
    """What an observation needs to know of the server."""

    port: int
    commit_delay: float  # seconds
    commit_siblings: int


SETTINGS_QUERY = """
    SELECT current_setting('port')::int, current_setting('commit_delay')::float8 / 1000000,
    current_setting('commit_siblings')::int"""


@dataclass(frozen=True)
class Observation:
    """What was observed of one load; what the server hides is missing."""

    samples: Sequence[Sample] = ()
    # Differences over the load. A backend publishes its counters at most once a second, so those of
    # a short load are partly the previous load's; `wal_bytes` is exact.
    counters: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Sequence[float] = ()  # when one was noticed, on the clock of `time.perf_counter`
    usage: machine.Usage | None = None
    pooled: bool = False  # a pooler hides which of the server's processes worked for the load
    direct: bool = False  # the server runs on this machine, with no proxy in front of it
    commit_delay: float = 0.0  # seconds that a commit waits for others before it flushes

    def count_states(self, begin: float, end: float) -> Counter[str]:
        """How often backends were in which state, from `begin` to `end` on the samples' clock."""
        return Counter(
            state for sample in self.samples if begin <= sample.at <= end for state in sample.states
        )


class Observer:
    """Observes loads, one after the other, over one connection that it opens when it is entered.

        with Loader(target.connect, "copy") as loader:
            with Observer(target.connect, loader.pids, loader.sending) as observer:
                observer.begin()
                result = loader.run(work)
                observation = observer.end()

    `pids` returns the process ids of the load's backends, and `sending` the number of connections
    whose data is on its way to the server. They are called for every sample, because a worker may
    have to open its connection again. Through a pooler (`pooled`) the ids are not those of the
    server's processes, so only its counters are observed. No failure in here ends a load: what
    cannot be observed is missing in the `Observation`.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        pids: Callable[[], Sequence[int]],
        sending: Callable[[], int] = lambda: 0,
        *,
        pooled: bool = False,
    ) -> None:
        self._connect = connect
        self._pids = pids
        self._sending = sending
        self._pooled = pooled
        self._connection: Connection | None = None
        self._counters_query = ""
        self._settings: ServerSettings | None = None
        self._server_here = self._direct = False
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._connection = self._connect()
        except PgloadError:  # the load may have taken the last one
            return self
        if not self._pooled:
            self._query(PREPARE)
            self._server_here = machine.runs_here(self._connection)
        if (found := self._query(SETTINGS_QUERY)) is not None:
            self._settings = ServerSettings(*found[1][0])
            self._direct = machine.is_direct(self._connection, self._settings.port)
        version = self._connection.server_version
        queries = [each.query for each in COUNTERS if each.since <= version < each.until]
        allowed = [query for query in queries if self._query(query) is not None]
        if allowed:
            parts = ", ".join(f"({query}) AS v{n}" for n, query in enumerate(allowed))
            self._counters_query = f"SELECT * FROM {parts}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        if self._connection is not None:
            self._connection.close()

    def begin(self) -> None:
        """Start to observe; call it right before the load."""
        self._stop()  # a load that failed did not call `end`
        self._samples: list[Sample] = []
        self._checkpoints: list[float] = []
        self._first = self._last = self._read_counters()
        self._stopped.clear()
        if self._connection is not None:
            self._thread = threading.Thread(
                target=self._watch_checkpoints if self._pooled else self._sample,
                name="pgload-observer",
                daemon=True,
            )
            self._thread.start()
        self._before = self._read_machine()

    def end(self) -> Observation:
        """Stop to observe, and return what was observed since `begin`; call it after the load."""
        after = self._read_machine()
        self._stop()
        self._look_for_checkpoint()
        known = self._first.keys() & self._last.keys()
        counters = {name: self._last[name] - self._first[name] for name in sorted(known)}
        settings = self._settings
        delays = settings is not None and len(self._pids()) > settings.commit_siblings
        return Observation(
            samples=tuple(self._samples),
            counters=counters,
            checkpoints=tuple(self._checkpoints),
            usage=machine.usage(self._before, after, server_here=self._server_here),
            pooled=self._pooled,
            direct=self._server_here and self._direct,
            commit_delay=settings.commit_delay if settings and delays else 0.0,
        )

    def _stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _sample(self) -> None:
        """The thread's task: take samples until `_stop` is called."""
        begin = counted = time.perf_counter()
        pause = SAMPLE_INTERVAL
        # At random moments: regular ones would fall into step with batches or a link's packets.
        while not self._stopped.wait(pause * random.uniform(0.5, 1.5)):
            start, sending = time.perf_counter(), self._sending()
            pids = ", ".join(map(str, self._pids()))
            found = self._query(f"EXECUTE pgload_sample ('{{{pids}}}')")
            if found is None:  # the connection was lost, or this role may not call the function
                return
            now = time.perf_counter()
            self._samples.append(_sample((start + now) / 2, found[1], sending))
            if now - counted > COUNTERS_INTERVAL:
                counted = now
                self._look_for_checkpoint()
            # Less often where the server is far away or slow to answer, and in a long load.
            pause = max(SAMPLE_INTERVAL, now - start, (now - begin) / SAMPLES)

    def _watch_checkpoints(self) -> None:
        """The thread's task where the load's backends are not known."""
        while not self._stopped.wait(COUNTERS_INTERVAL):
            self._look_for_checkpoint()

    def _read_machine(self) -> machine.Reading:
        return machine.read(self._pids(), server_here=self._server_here)

    def _look_for_checkpoint(self) -> None:
        before = self._last.get("checkpoints", 0)
        self._last = self._read_counters() or self._last
        if self._last.get("checkpoints", 0) > before:
            self._checkpoints.append(time.perf_counter())

    def _read_counters(self) -> dict[str, float]:
        """The present values of the server's counters; empty where none can be read."""
        found = self._query(self._counters_query) if self._counters_query else None
        if found is None:
            return {}
        names, ((*values,),) = found
        pairs = zip(names, values, strict=True)
        return {name: float(value) for name, value in pairs if value is not None}

    def _query(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]] | None:
        """The column names and rows of a query; None without a connection, or after an error."""
        import psycopg2

        if self._connection is None:
            return None
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query)
                if cursor.description is None:  # PREPARE
                    return [], []
                return [column.name for column in cursor.description], cursor.fetchall()
        except psycopg2.Error:
            return None


def _sample(
    at: float, rows: Sequence[tuple[int, str, Sequence[int] | None]], sending: int
) -> Sample:
    """A sample of rows of backends: process id, state, and the process ids that it waits for."""
    index = {pid: n for n, (pid, _, _) in enumerate(rows)}
    holders = {
        n: tuple(index[pid] for pid in blockers if pid in index)
        for n, (_, _, blockers) in enumerate(rows)
        if blockers
    }
    return Sample(at, tuple(state for _, state, _ in rows), holders, sending)
