"""`Loader`: worker threads write batches, each over a connection of its own."""

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
from pgload.load.session import Encoded, Session, Writer
from pgload.load.stats import BatchStat, LoadResult
from pgload.schema.table import Table
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """Hands items over in order; `put` waits while `limit` items wait to be taken."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._finished = self._stopped = False
        self._changed = Condition()

    def put(self, item: Item) -> bool:
        """Add an item; gives False, and drops it, once the queue is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._limit)
            if self._stopped:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """The next item; None once the queue is stopped, or is finished and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._finished or self._items)
            if self._stopped or not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that no item will follow."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Give up: items that wait are not handed over any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


ENCODED_AHEAD = 2  # batches that wait for a worker; more would only take up memory
# Seconds that Python leaves a thread in its turn. With the usual 5 ms a worker that comes back from
# the server waits for the encoder about as long as the server needs for a small batch.
TURN = 0.0005
NOTICE_EVERY = 0.5  # seconds between two looks at whether a signal has come
CLOSING = 2.0  # seconds that a server may take to end a connection that was closed
CANCEL_EVERY = 0.1  # seconds between two attempts to end a batch that is in the server's hands
Work = tuple[Table, Batch]


class Loader:
    """Loads batches through `connections` connections, opened when it is entered.

        with Loader(target.connect, "copy", connections=4) as loader:
            result = loader.run((table, batch) for batch in read_batches(path, 1000))

    `run` may be called any number of times. Raises `TargetError` when a connection cannot be had;
    with `fewer_will_do`, when none can.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        method: str,
        *,
        connections: int = 1,
        fewer_will_do: bool = False,
        writer: Writer | None = None,
    ) -> None:
        self._connect = connect
        self._method = method
        self._wanted = connections
        self._fewer_will_do = fewer_will_do
        self._writer = writer or Writer()
        self._sessions: list[Session] = []

    def __enter__(self) -> Self:
        try:
            while len(self._sessions) < self._wanted:
                self._sessions.append(self._open())
        except TooManyConnectionsError as error:
            if not (self._sessions and self._fewer_will_do):
                had = len(self._sessions)
                self._close()
                raise TooManyConnectionsError(
                    f"{error} (it gave {had} of {self._wanted} connections)"
                ) from None
        except BaseException:
            self._close()
            raise
        self._threads = ThreadPoolExecutor(len(self._sessions) + 1, "pgload")
        return self

    def _open(self) -> Session:
        """Open one more connection; one that was just closed still counts for a moment."""
        give_up = time.monotonic() + CLOSING
        while True:
            try:
                return Session(self._connect, len(self._sessions))
            except TooManyConnectionsError:
                if time.monotonic() > give_up:
                    raise
            time.sleep(CLOSING / 20)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._sessions)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown()
        self._close()

    def _close(self) -> None:
        while self._sessions:
            self._sessions.pop().close()

    def pids(self) -> list[int]:
        """The process ids of the server's backends that it loads through."""
        return [each.connection.info.backend_pid for each in self._sessions]

    def run(
        self, work: Iterable[Work], *, on_batch: Callable[[BatchStat], None] | None = None
    ) -> LoadResult:
        """Write all batches, each in a transaction of its own, and say how it went.

        Batches are taken from `work` one by one, encoded in order by one thread, a little ahead of
        the workers, and written by whichever worker is free. One encoder is enough, since Python
        runs one thread at a time, and with it the server is at work while the client encodes.
        Every committed batch is told to `on_batch`, by its worker, where that is given; the result
        then keeps none of them, so that memory does not grow with the load.

        The first failure ends the load and is raised: a `LoadError` from the server, after which
        the batches in its hands are finished; a `RecordError`, or whatever `work` raises, after
        which those before it are written.
        Ctrl-C cancels them, leaves none of their transactions open and goes on as
        `KeyboardInterrupt`.
        """
        load = _Load(self._method, self._writer, work, self._sessions, on_batch)
        started, cpu = datetime.now(UTC), time.process_time()
        load.begin = time.perf_counter()
        turns = sys.getswitchinterval()
        sys.setswitchinterval(TURN)
        try:
            self._hand_out(load)
            # In turns, for a Ctrl-C that comes in the instant before a wait is noticed after it.
            while not load.finished.wait(NOTICE_EVERY):
                pass
        except BaseException:
            load.halt()
            self._hand_out(load)  # it may have been cut off in the middle
            # In a thread, since to cancel may take minutes where the network is gone, in which a
            # second Ctrl-C would not be heard.
            Thread(target=self._cancel, args=(load,), name="pgload-cancel", daemon=True).start()
            while not load.finished.wait(NOTICE_EVERY):
                pass
            raise
        finally:
            sys.setswitchinterval(turns)
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

    def _cancel(self, load: _Load) -> None:
        """End what the server does for a load."""
        while not load.finished.wait(CANCEL_EVERY):
            for session in self._sessions:
                session.cancel()

    def _hand_out(self, load: _Load) -> None:
        for _ in range(len(self._sessions) + 1):
            self._threads.submit(load.take_part)


class _Load:
    """What the threads of one load share."""

    def __init__(
        self,
        method: str,
        writer: Writer,
        work: Iterable[Work],
        sessions: Sequence[Session],
        on_batch: Callable[[BatchStat], None] | None,
    ) -> None:
        self._method = method
        self._writer = writer
        self._roles: list[Callable[[], None]] = [partial(self._encode, work)]
        self._roles += [partial(self._write_all, session) for session in sessions]
        self._lock = Lock()
        self._unfinished = len(self._roles)
        self._halted = Event()
        self.finished = Event()
        self.begin = 0.0
        self.encoded = Handover[Encoded](ENCODED_AHEAD)
        self.batches: list[BatchStat] = []
        self._on_batch = on_batch or self.batches.append
        self.errors: list[BaseException] = []

    def halt(self) -> None:
        """Take up no further batch."""
        self._halted.set()
        self.encoded.stop()

    def take_part(self) -> None:
        """A thread's part in the load: the next role that no thread has, if there is one."""
        with self._lock:
            if not self._roles:
                return
            role = self._roles.pop()
        role()
        with self._lock:
            self._unfinished -= 1
            if self._unfinished == 0:
                self.finished.set()

    def _encode(self, work: Iterable[Work]) -> None:
        """Encode the batches in order, as long as workers take them."""
        methods: dict[Table, Method] = {}
        try:
            for number, (table, batch) in enumerate(work, 1):
                method = methods.get(table)
                if method is None:
                    method = make_method(self._method, self._writer.destination(table))
                    methods[table] = method
                start, cpu = time.perf_counter(), time.thread_time()
                try:
                    payload = method.encode(batch)
                except RecordError as error:
                    if not self._writer.keeps_bad_records:
                        raise
                    payload = error
                seconds, cpu = time.perf_counter() - start, time.thread_time() - cpu
                item = Encoded(number, table, batch, method, payload, start, seconds, cpu)
                if not self.encoded.put(item):
                    return
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.encoded.finish()  # what was encoded before an error is still written

    def _write_all(self, session: Session) -> None:
        """A worker's life: write batches until there are no more."""
        clock = time.perf_counter
        try:
            asked = clock()
            while (item := self.encoded.get()) is not None:
                wait, cpu = clock() - asked, time.thread_time()
                written = self._writer.write(session, item, self._halted)
                asked = clock()
                self._on_batch(
                    BatchStat(
                        number=item.number,
                        file=item.batch.path.name,
                        table=item.table.name,
                        first_record=item.batch.first_record,
                        records=written.records,
                        bytes=sum(map(len, item.batch.records)),
                        worker=session.worker,
                        start=item.start - self.begin,
                        encode=item.seconds,
                        write=written.write,
                        commit=written.commit,
                        end=asked - self.begin,
                        wait=wait,
                        encode_cpu=item.cpu,
                        write_cpu=time.thread_time() - cpu,
                        attempts=written.attempts,
                        rejected=written.rejected,
                        error=written.error,
                    )
                )
        except BaseException as error:
            self.errors.append(error)
            self.halt()
