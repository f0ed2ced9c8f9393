"""`Migrator`: worker threads write batches, each over a connection of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from threading import Event, Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pgload.errors import LoadError, PgloadError, TooManyConnectionsError
from pgload.load.handover import Handover
from pgload.load.methods import Method, make_method
from pgload.load.stats import BatchStat, LoadResult
from pgload.source.files import Batch
from pgload.source.tables import Table

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import connection as Connection  # noqa: N812

ENCODED_AHEAD = 2  # batches that wait for a worker; more would only take up memory
# Seconds that Python leaves a thread in its turn. With the usual 5 ms a worker that comes back from
# the server waits for the encoder about as long as the server needs for a small batch.
TURN = 0.0005
NOTICE_EVERY = 0.5  # seconds between two looks at whether a signal has come
CANCEL_EVERY = 0.1  # seconds between two attempts to end a batch that is in the server's hands
# SQLSTATEs of text that no column can hold: no UTF-8, \u0000, half a surrogate pair. The server names
# no record then; taking them apart does.
NO_TEXT = ("22021", "22P05", "22P02")

Work = tuple[Table, Batch]


class Migrator:
    """Loads batches through `connections` connections, opened when it is entered.

        with Migrator(target.connect, "copy", connections=4) as migrator:
            result = migrator.run((table, batch) for batch in read_batches(path, 1000))

    `run` may be called any number of times. Raises `TargetError` when a connection cannot be had.
    """

    def __init__(
        self, connect: Callable[[], Connection], method: str, *, connections: int = 1
    ) -> None:
        self._connect = connect
        self._method = method
        self._wanted = connections
        self._connections: list[Connection] = []

    def __enter__(self) -> Self:
        try:
            while len(self._connections) < self._wanted:
                self._connections.append(self._connect())
        except TooManyConnectionsError as error:
            had = len(self._connections)
            self._close()
            raise TooManyConnectionsError(
                f"{error} (it gave {had} of {self._wanted} connections)"
            ) from None
        except BaseException:
            self._close()
            raise
        self._threads = ThreadPoolExecutor(self._wanted + 1, "pgload")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown()
        self._close()

    def _close(self) -> None:
        while self._connections:
            self._connections.pop().close()

    def pids(self) -> list[int]:
        """The process ids of the server's backends that it loads through."""
        return [each.info.backend_pid for each in self._connections]

    def run(self, work: Iterable[Work]) -> LoadResult:
        """Write all batches, each in a transaction of its own, and say how it went.

        Batches are taken from `work` one by one, encoded in order by one thread, a little ahead of
        the workers, and written by whichever worker is free. One encoder is enough, since Python
        runs one thread at a time, and with it the server is at work while the client encodes.

        The first failure ends the load and is raised: a `LoadError` from the server, after which
        the batches in its hands are finished; a `RecordError`, or whatever `work` raises, after
        which those before it are written.
        Ctrl-C cancels them, leaves none of their transactions open and goes on as
        `KeyboardInterrupt`.
        """
        import psycopg2

        load = _Load(self._method, work, self._connections)
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
            load.encoded.stop()
            self._hand_out(load)  # it may have been cut off in the middle
            while not load.finished.wait(CANCEL_EVERY):
                for connection in self._connections:
                    with suppress(psycopg2.Error):  # one that is gone has nothing to cancel
                        connection.cancel()
            raise
        finally:
            sys.setswitchinterval(turns)
        seconds = time.perf_counter() - load.begin
        if load.errors:
            raise load.errors[0]
        return LoadResult(
            method=self._method,
            connections=len(self._connections),
            started=started,
            seconds=seconds,
            begin=load.begin,
            cpu_seconds=time.process_time() - cpu,
            batches=sorted(load.batches, key=lambda batch: batch.number),
        )

    def _hand_out(self, load: _Load) -> None:
        for _ in range(len(self._connections) + 1):
            self._threads.submit(load.take_part)


class _Encoded(NamedTuple):
    number: int
    table: Table
    batch: Batch
    method: Method
    payload: Any
    start: float  # of the encoding, on the clock of `time.perf_counter`
    seconds: float
    cpu: float  # seconds of the encoder's thread


class _Load:
    """What the threads of one load share."""

    def __init__(
        self, method: str, work: Iterable[Work], connections: Sequence[Connection]
    ) -> None:
        self._method = method
        self._roles: list[Callable[[], None]] = [partial(self._encode, work)]
        self._roles += [partial(self._write_all, n, each) for n, each in enumerate(connections)]
        self._lock = Lock()
        self._unfinished = len(self._roles)
        self.finished = Event()
        self.begin = 0.0
        self.encoded = Handover[_Encoded](ENCODED_AHEAD)
        self.batches: list[BatchStat] = []
        self.errors: list[BaseException] = []

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
                method = methods.get(table) or make_method(self._method, table)
                methods[table] = method
                start, cpu = time.perf_counter(), time.thread_time()
                payload = method.encode(batch)
                seconds, cpu = time.perf_counter() - start, time.thread_time() - cpu
                item = _Encoded(number, table, batch, method, payload, start, seconds, cpu)
                if not self.encoded.put(item):
                    return
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.encoded.finish()  # what was encoded before an error is still written

    def _write_all(self, worker: int, connection: Connection) -> None:
        """A worker's life: write batches until there are no more."""
        try:
            asked = time.perf_counter()
            while (item := self.encoded.get()) is not None:
                self._write(item, worker, connection, wait=time.perf_counter() - asked)
                asked = time.perf_counter()
        except BaseException as error:
            self.errors.append(error)
            self.encoded.stop()

    def _write(self, item: _Encoded, worker: int, connection: Connection, wait: float) -> None:
        import psycopg2
        from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

        clock = time.perf_counter
        start, cpu = clock(), time.thread_time()
        try:
            with connection.cursor() as cursor:
                item.method.write(cursor, item.payload)
                written = committed = clock()
                if connection.info.transaction_status == TRANSACTION_STATUS_INTRANS:
                    cursor.execute("COMMIT")
                    committed = clock()
        except psycopg2.Error as error:
            _roll_back(connection)
            if error.pgcode in NO_TEXT:
                item.method.rows.check(item.batch)
            raise _load_error(item.table, item.batch, error) from None
        self.batches.append(
            BatchStat(
                number=item.number,
                file=item.batch.path.name,
                table=item.table.name,
                first_record=item.batch.first_record,
                records=len(item.batch.records),
                bytes=sum(map(len, item.batch.records)),
                worker=worker,
                start=item.start - self.begin,
                encode=item.seconds,
                write=written - start,
                commit=committed - written,
                end=committed - self.begin,
                wait=wait,
                encode_cpu=item.cpu,
                write_cpu=time.thread_time() - cpu,
            )
        )


def _roll_back(connection: Connection) -> None:
    import psycopg2
    from psycopg2.extensions import TRANSACTION_STATUS_IDLE

    if not connection.closed and connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
        try:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
        except psycopg2.Error:
            connection.close()


def _load_error(table: Table, batch: Batch, error: psycopg2.Error) -> PgloadError:
    last = batch.first_record + len(batch.records) - 1
    said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    state = f" (SQLSTATE {error.pgcode})" if error.pgcode else ""
    context = f"; {error.diag.context}" if error.diag.context else ""
    return LoadError(
        f"{batch.path.name}: records {batch.first_record}–{last} into {table.name}: "
        f"{said}{state}{context}"
    )
