"""`Migrator`: worker threads that write batches, each over a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pgload.errors import LoadError, PgloadError
from pgload.load.methods import Method, make_method
from pgload.load.stats import BatchStat, LoadResult
from pgload.source.files import Batch
from pgload.source.tables import Table

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import connection as Connection  # noqa: N812

CANCEL_EVERY = 0.1  # seconds between two attempts to end a batch that is in the server's hands
CHARACTER_NOT_IN_REPERTOIRE = "22021"  # SQLSTATE of text that is no UTF-8

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
            self._threads = ThreadPoolExecutor(self._wanted, "pgload-worker")
        except BaseException:
            self._close()
            raise
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

    def run(self, work: Iterable[Work]) -> LoadResult:
        """Write all batches, each in a transaction of its own, and say how it went.

        Batches are handed out in order, to whichever worker is free; `work` is advanced by one
        worker at a time, so it may as well be read from a file while the load runs.

        The first worker that fails ends the load: the others finish the batch in hand, and its
        error is raised (`LoadError` for one from the server, `RecordError`, or whatever it was).
        Ctrl-C cancels the batches in hand, leaves none of their transactions open and goes on as
        `KeyboardInterrupt`.
        """
        load = _Load(work)
        started, cpu = datetime.now(UTC), time.process_time()
        load.begin = time.perf_counter()
        workers = [
            self._threads.submit(load.work, worker, connection, self._method)
            for worker, connection in enumerate(self._connections)
        ]
        try:
            wait(workers)
        except BaseException:
            load.stopped = True
            while wait(workers, timeout=CANCEL_EVERY).not_done:
                for connection in self._connections:
                    connection.cancel()
            raise
        seconds = time.perf_counter() - load.begin
        if load.errors:
            raise load.errors[0]
        return LoadResult(
            method=self._method,
            connections=len(self._connections),
            started=started,
            seconds=seconds,
            cpu_seconds=time.process_time() - cpu,
            batches=sorted(load.batches, key=lambda batch: batch.number),
        )


class _Load:
    """What the workers of one load share."""

    def __init__(self, work: Iterable[Work]) -> None:
        self._work = enumerate(work, 1)
        self._lock = threading.Lock()
        self.begin = 0.0
        self.stopped = False
        self.batches: list[BatchStat] = []
        self.errors: list[BaseException] = []

    def hand_out(self) -> Iterator[tuple[int, Work]]:
        """The batches for one worker, until there are no more or the load is stopped."""
        while True:
            with self._lock:
                item = None if self.stopped else next(self._work, None)
            if item is None:
                return
            yield item

    def work(self, worker: int, connection: Connection, method_name: str) -> None:
        """A worker's life."""
        methods: dict[Table, Method] = {}
        try:
            for number, (table, batch) in self.hand_out():
                if table not in methods:
                    methods[table] = make_method(method_name, table)
                self._write(number, table, batch, methods[table], worker, connection)
        except BaseException as error:
            self.stopped = True
            self.errors.append(error)

    def _write(
        self,
        number: int,
        table: Table,
        batch: Batch,
        method: Method,
        worker: int,
        connection: Connection,
    ) -> None:
        import psycopg2
        from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

        clock = time.perf_counter
        t0 = clock()
        payload = method.encode(batch)
        t1 = clock()
        try:
            with connection.cursor() as cursor:
                method.write(cursor, payload)
                t2 = t3 = clock()
                if connection.info.transaction_status == TRANSACTION_STATUS_INTRANS:
                    cursor.execute("COMMIT")
                    t3 = clock()
        except psycopg2.Error as error:
            _roll_back(connection)
            if error.pgcode == CHARACTER_NOT_IN_REPERTOIRE:
                method.rows.check(batch)  # the server names no record; this does
            raise _load_error(table, batch, error) from None
        self.batches.append(
            BatchStat(
                number=number,
                file=batch.path.name,
                table=table.name,
                first_record=batch.first_record,
                records=len(batch.records),
                bytes=sum(map(len, batch.records)),
                worker=worker,
                start=t0 - self.begin,
                encode=t1 - t0,
                write=t2 - t1,
                commit=t3 - t2,
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
