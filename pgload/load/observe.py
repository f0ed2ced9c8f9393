"""Watches a load from beside it, over a connection of its own: what its backends wait for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pgload.errors import PgloadError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# Seconds. A sample takes some 0.2 ms of the client's CPU and 0.3 ms of the server's, most of it to
# wake up; where both share two cores that is 1% of them.
SAMPLE_EVERY = 0.03
SAMPLES = 2000  # about so many in a load, however long it takes
COUNT_EVERY = 1.0  # seconds between two looks at the server's counters

CLIENT = "Client"  # the backend has nothing to do until its client sends or takes something
CPU = "CPU"  # it is at work, and waits for nothing that PostgreSQL knows of

# The function behind the view pg_stat_activity, with the same rules of who may see what. The view
# adds the names of databases and users, and takes a server five times as long. What a role may not
# see is NULL, its state too. Prepared, because planning would take longer than the rest.
PREPARE = f"""
    PREPARE pgload_sample (int[]) AS SELECT CASE
        WHEN state LIKE 'idle%' OR wait_event_type = 'Client' THEN '{CLIENT}'
        WHEN wait_event IS NULL THEN '{CPU}'
        ELSE wait_event_type || ':' || wait_event
    END
    FROM pg_stat_get_activity(NULL) WHERE state IS NOT NULL AND pid = ANY ($1)"""


class View(NamedTuple):
    """Counters of one view, for servers from one version to before another.

    Times are in seconds; the server takes them only if told to (`track_io_timing`, for example).
    """

    since: int
    until: int
    query: str


NEVER = 10_000_000
VIEWS = (
    View(0, NEVER, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS wal_bytes"),
    View(
        14_00_00,
        NEVER,
        "SELECT wal_records, wal_fpi AS wal_full_pages, wal_buffers_full FROM pg_stat_wal",
    ),
    View(
        14_00_00,
        18_00_00,
        "SELECT wal_sync AS wal_syncs, nullif(wal_sync_time, 0) / 1000 AS wal_sync_seconds "
        "FROM pg_stat_wal",
    ),
    View(
        18_00_00,
        NEVER,
        "SELECT sum(fsyncs) AS wal_syncs, nullif(sum(fsync_time), 0) / 1000 AS wal_sync_seconds "
        "FROM pg_stat_io WHERE object = 'wal'",
    ),
    View(
        16_00_00,
        NEVER,
        "SELECT sum(reads) AS backend_reads, sum(writes) AS backend_writes, "
        "sum(extends) AS backend_extends "
        "FROM pg_stat_io WHERE backend_type = 'client backend' AND object = 'relation'",
    ),
    View(
        0,
        16_00_00,
        "SELECT buffers_backend AS backend_writes FROM pg_stat_bgwriter",
    ),
    View(
        17_00_00,
        NEVER,
        "SELECT num_timed + num_requested AS checkpoints, buffers_written AS checkpoint_buffers "
        "FROM pg_stat_checkpointer",
    ),
    View(
        0,
        17_00_00,
        "SELECT checkpoints_timed + checkpoints_req AS checkpoints, "
        "buffers_checkpoint AS checkpoint_buffers FROM pg_stat_bgwriter",
    ),
)


class Sample(NamedTuple):
    """What the load's backends did at one moment: `CLIENT`, `CPU` or a wait's type:event."""

    at: float  # on the clock of `time.perf_counter`
    doing: Sequence[str]


@dataclass(frozen=True)
class Observation:
    """What was seen of one load. Whatever the server hides is missing, and nothing else."""

    samples: Sequence[Sample] = ()
    # Differences over the load. A backend publishes its counters at most once a second, so those of
    # a short load are partly the last one's; `wal_bytes` is exact.
    counters: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Sequence[float] = ()  # when one was noticed, on the clock of `time.perf_counter`

    def doing(self, begin: float, end: float) -> Counter[str]:
        """How often backends were seen doing what, from `begin` to `end` on that clock."""
        return Counter(
            doing for sample in self.samples if begin <= sample.at <= end for doing in sample.doing
        )


class Observer:
    """Watches loads, one after the other, over one connection that it opens when it is entered.

        with Loader(target.connect, "copy") as loader:
            with Observer(target.connect, loader.pids) as observer:
                observer.begin()
                result = loader.run(work)
                observation = observer.end()

    `pids` gives the process ids of the load's own backends; it is asked for every sample, because
    a worker may have to open its connection anew. Nothing that goes wrong here ends a load: what
    cannot be had is missing in the `Observation`.
    """

    def __init__(
        self, connect: Callable[[], Connection], pids: Callable[[], Sequence[int]]
    ) -> None:
        self._connect = connect
        self._pids = pids
        self._connection: Connection | None = None
        self._counters_query = ""
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._connection = self._connect()
        except PgloadError:  # the load may have taken the last one
            return self
        self._rows(PREPARE)
        version = self._connection.server_version
        queries = [view.query for view in VIEWS if view.since <= version < view.until]
        visible = [query for query in queries if self._rows(query) is not None]
        if visible:
            parts = ", ".join(f"({query}) AS v{n}" for n, query in enumerate(visible))
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
        """Start to watch; right before the load."""
        self._stop()  # a load that failed may have left it running
        self._samples: list[Sample] = []
        self._checkpoints: list[float] = []
        self._first = self._last = self._count()
        self._over.clear()
        if self._connection is not None:
            self._thread = threading.Thread(target=self._watch, name="pgload-observer", daemon=True)
            self._thread.start()

    def end(self) -> Observation:
        """Stop to watch, right after the load, and say what was seen since `begin`."""
        self._stop()
        self._look_for_checkpoints()
        known = self._first.keys() & self._last.keys()
        counters = {name: self._last[name] - self._first[name] for name in sorted(known)}
        return Observation(tuple(self._samples), counters, tuple(self._checkpoints))

    def _stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        begin = counted = time.perf_counter()
        pause = SAMPLE_EVERY
        while not self._over.wait(pause):
            start = time.perf_counter()
            pids = ", ".join(map(str, self._pids()))
            found = self._rows(f"EXECUTE pgload_sample ('{{{pids}}}')")
            if found is None:  # the connection is gone, or the function is not for this role
                return
            now = time.perf_counter()
            self._samples.append(Sample((start + now) / 2, tuple(doing for (doing,) in found[1])))
            if now - counted > COUNT_EVERY:
                counted = now
                self._look_for_checkpoints()
            # A server far away or in distress is asked less often; a long load as well.
            pause = max(SAMPLE_EVERY, now - start, (now - begin) / SAMPLES)

    def _look_for_checkpoints(self) -> None:
        before, self._last = self._last.get("checkpoints", 0), self._count() or self._last
        if self._last.get("checkpoints", 0) > before:
            self._checkpoints.append(time.perf_counter())

    def _count(self) -> dict[str, float]:
        """The server's counters as they stand; empty where none can be seen."""
        found = self._rows(self._counters_query) if self._counters_query else None
        if found is None:
            return {}
        names, ((*values,),) = found
        counted = zip(names, values, strict=True)
        return {name: float(value) for name, value in counted if value is not None}

    def _rows(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]] | None:
        """The columns and rows of a query; None where the server has no answer."""
        import psycopg2

        if self._connection is None:
            return None
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query)
                if cursor.description is None:  # no query
                    return [], []
                return [column.name for column in cursor.description], cursor.fetchall()
        except psycopg2.Error:
            return None
