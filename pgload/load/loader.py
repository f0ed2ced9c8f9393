"""`Loader`: one thread encodes batches, worker threads write them, each over its own connection."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from threading import Condition, Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from pgload.errors import RecordError, TooManyConnectionsError
from pgload.load.methods import Method, make_method
from pgload.load.session import EncodedBatch, Session, Writer
from pgload.load.stats import BatchStat, LoadResult
from pgload.schema.table import Table
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

Work = tuple[Table, Batch]
Item = TypeVar("Item")

ENCODED_AHEAD = 2  # batches that wait for a worker; more would only take up memory
# Seconds that Python lets a thread run before another one may. With the default of 5 ms, a worker
# that has the server's answer waits for the encoder about as long as a small batch takes the
# server.
SWITCH_INTERVAL = 0.0005
# Seconds. A signal that arrives just before a wait begins is handled only when the wait ends.
SIGNAL_INTERVAL = 0.5
CLOSE_TIMEOUT = 2.0  # seconds that a server may take to end a connection that was closed
CANCEL_INTERVAL = 0.1  # seconds between two attempts to cancel a running batch


class Loader:
    """Loads batches over `connections` connections, which are opened when it is entered.

        with Loader(target.connect, "copy", connections=4) as loader:
            result = loader.run((table, batch) for batch in read_batches(path, 1000))

    `run` may be called any number of times. Raises `TargetError` when a connection cannot be
    opened; with `allow_fewer`, a server that refuses further connections is loaded over those it
    gave, if any.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        method: str,
        *,
        connections: int = 1,
        allow_fewer: bool = False,
        writer: Writer | None = None,
    ) -> None:
        self._connect = connect
        self._method = method
        self._requested = connections
        self._allow_fewer = allow_fewer
        self._writer = writer or Writer()
        self._sessions: list[Session] = []
        self._methods: dict[Table, Method] = {}

    def __enter__(self) -> Self:
        try:
            while len(self._sessions) < self._requested:
                self._sessions.append(self._open_session())
        except TooManyConnectionsError as error:
            opened = len(self._sessions)
            if not (opened and self._allow_fewer):
                self._close()
                raise TooManyConnectionsError(
                    f"{error} (it gave {opened} of {self._requested} connections)"
                ) from None
        except BaseException:
            self._close()
            raise
        self._threads = ThreadPoolExecutor(len(self._sessions) + 1, "pgload")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown()
        self._close()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._sessions)

    def pids(self) -> list[int]:
        """The process ids of the server's backends behind the connections."""
        return [session.connection.info.backend_pid for session in self._sessions]

    def sending(self) -> int:
        """The number of connections whose data is on its way, as in `Session.is_sending`."""
        return sum(session.is_sending() for session in self._sessions)

    def prepare(self, tables: Iterable[Table]) -> None:
        """Build what batches into the tables need, so that no `run` has to."""
        for table in tables:
            self._method_of(table).prepare(self._sessions[0].connection)

    def run(
        self, work: Iterable[Work], *, on_batch: Callable[[BatchStat], None] | None = None
    ) -> LoadResult:
        """Write all batches, each in a transaction of its own, and return the statistics.

        Batches are taken from `work` one by one, encoded in order by one thread, a little ahead of
        the workers, and written by whichever worker is free; those of the same partition are
        written by the same worker, in order. One encoder is enough, since Python runs one thread
        at a time, and the server works while the client encodes.
        `on_batch` is called for every committed batch, in its worker's thread. The result then has
        no batches, so that memory does not grow with the load.

        The first failure ends the load and is raised. After a `LoadError` from the server, the
        batches that are being written are finished; after a `RecordError`, or whatever `work`
        raises, all batches before it are written. Ctrl-C cancels the batches that are being
        written, leaves no transaction open, and raises `KeyboardInterrupt`.
        """
        load = _Load(self._method_of, self._writer, work, self._sessions, on_batch)
        started, cpu = datetime.now(UTC), time.process_time()
        load.begin = time.perf_counter()
        switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            self._start_threads(load)
            while not load.finished.wait(SIGNAL_INTERVAL):
                pass
        except BaseException:
            load.halt()
            self._start_threads(load)  # the first call may have been interrupted
            # In a thread: where the network is gone, to cancel may take minutes, and a second
            # Ctrl-C would not be handled before that.
            Thread(target=self._cancel, args=(load,), name="pgload-cancel", daemon=True).start()
            while not load.finished.wait(SIGNAL_INTERVAL):
                pass
            raise
        finally:
            sys.setswitchinterval(switch_interval)
        seconds = time.perf_counter() - load.begin
        if load.errors:
            raise load.errors[0]
        return LoadResult(
            method=self._method,
            connections=len(self._sessions),
            started=started,
            seconds=seconds,
            begin=load.begin,
            cpu_seconds=time.process_time() - cpu,
            batches=sorted(load.batches, key=lambda batch: batch.number),
        )

    def _method_of(self, table: Table) -> Method:
        """The method for batches of a table, made once."""
        method = self._methods.get(table)
        if method is None:
            method = make_method(self._method, self._writer.staging_table(table))
            self._methods[table] = method
        return method

    def _open_session(self) -> Session:
        """Open one more connection; the server counts one that was just closed for a moment."""
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while True:
            try:
                return Session(self._connect, len(self._sessions))
            except TooManyConnectionsError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(CLOSE_TIMEOUT / 20)

    def _close(self) -> None:
        while self._sessions:
            self._sessions.pop().close()

    def _start_threads(self, load: _Load) -> None:
        for _ in range(len(self._sessions) + 1):
            self._threads.submit(load.run_next_task)

    def _cancel(self, load: _Load) -> None:
        """Cancel what the server runs for a load until its threads have ended."""
        while not load.finished.wait(CANCEL_INTERVAL):
            for session in self._sessions:
                session.cancel()


class _Load:
    """One call of `Loader.run`: what its threads do, and what they share."""

    def __init__(
        self,
        method_of: Callable[[Table], Method],
        writer: Writer,
        work: Iterable[Work],
        sessions: Sequence[Session],
        on_batch: Callable[[BatchStat], None] | None,
    ) -> None:
        self._method_of = method_of
        self._writer = writer
        self._tasks: list[Callable[[], None]] = [partial(self._encode_all, work)]
        self._tasks += [partial(self._write_all, session) for session in sessions]
        self._unfinished = len(self._tasks)
        self._lock = Lock()
        self._halted = Event()
        self._encoded = BoundedQueue[EncodedBatch](ENCODED_AHEAD, receivers=len(sessions))
        self.batches: list[BatchStat] = []
        self._on_batch = on_batch or self.batches.append
        self.begin = 0.0  # on the clock of `time.perf_counter`
        self.finished = Event()
        self.errors: list[BaseException] = []

    def halt(self) -> None:
        """Begin no further batch."""
        self._halted.set()
        self._encoded.stop()

    def run_next_task(self) -> None:
        """Run the next task that no thread has taken, if there is one."""
        with self._lock:
            if not self._tasks:
                return
            task = self._tasks.pop()
        task()
        with self._lock:
            self._unfinished -= 1
            if self._unfinished == 0:
                self.finished.set()

    def _encode_all(self, work: Iterable[Work]) -> None:
        """The encoder's task: encode the batches in order, as long as workers take them."""
        table = None
        try:
            for number, (next_table, batch) in enumerate(work, 1):
                if next_table is not table:  # the hash of a table takes long for many columns
                    table, method = next_table, self._method_of(next_table)
                start, cpu = time.perf_counter(), time.thread_time()
                try:
                    payload = method.encode(batch)
                except RecordError as error:
                    if not self._writer.accepts_unencodable:
                        raise
                    payload = error
                encoded = EncodedBatch(
                    number=number,
                    table=table,
                    batch=batch,
                    method=method,
                    payload=payload,
                    start=start,
                    seconds=time.perf_counter() - start,
                    cpu_seconds=time.thread_time() - cpu,
                )
                if not self._encoded.put(encoded, batch.partition):
                    return
        except BaseException as error:
            self.errors.append(error)
        finally:
            self._encoded.finish()  # what was encoded before an error is still written

    def _write_all(self, session: Session) -> None:
        """A worker's task: write batches until there are no more."""
        clock = time.perf_counter
        try:
            waiting_since = self.begin
            while (encoded := self._encoded.get(session.worker)) is not None:
                wait, cpu = clock() - waiting_since, time.thread_time()
                result = self._writer.write(session, encoded, self._halted)
                end = waiting_since = clock()
                self._on_batch(
                    BatchStat(
                        number=encoded.number,
                        file=encoded.batch.path.name,
                        table=encoded.table.name,
                        first_record=encoded.batch.first_record,
                        records=result.records,
                        bytes=sum(map(len, encoded.batch.records)),
                        worker=session.worker,
                        start=encoded.start - self.begin,
                        encode=encoded.seconds,
                        write=result.write,
                        commit=result.commit,
                        end=end - self.begin,
                        wait=wait,
                        encode_cpu=encoded.cpu_seconds,
                        write_cpu=time.thread_time() - cpu,
                        attempts=result.attempts,
                        rejected=result.rejected,
                        error=result.error,
                    )
                )
        except BaseException as error:
            self.errors.append(error)
            self.halt()


class BoundedQueue(Generic[Item]):
    """A first-in, first-out queue for threads, the receivers; `put` waits while it is full.

    It is full with `limit` items, or for an item of a partition with as many as there are
    receivers. `queue.Queue` has no partitions, and cannot be shut down before Python 3.13.
    """

    def __init__(self, limit: int, *, receivers: int = 1) -> None:
        self._limit = limit
        self._receivers = receivers
        self._items: deque[tuple[int | None, Item]] = deque()  # each with its receiver; None: any
        self._finished = self._stopped = False
        self._changed = Condition()

    def put(self, item: Item, partition: int | None = None) -> bool:
        """Append an item; returns False, and drops it, once the queue is stopped.

        All items of one partition go to the same receiver.
        """
        receiver, limit = None, self._limit
        if partition is not None:
            receiver, limit = partition % self._receivers, max(limit, self._receivers)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < limit)
            if self._stopped:
                return False
            self._items.append((receiver, item))
            self._changed.notify_all()
            return True

    def get(self, receiver: int = 0) -> Item | None:
        """The receiver's next item; None once the queue is stopped, or is finished without one."""
        with self._changed:
            while not self._stopped:
                for at, (wanted, item) in enumerate(self._items):
                    if wanted is None or wanted == receiver:
                        del self._items[at]
                        self._changed.notify_all()
                        return item
                if self._finished:
                    return None
                self._changed.wait()
            return None

    def finish(self) -> None:
        """Declare that no item will follow."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End the queue at once: items still in it are never returned."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
