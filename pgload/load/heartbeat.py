"""Whether another process is alive, where no session lock can show it: it advances a counter.

A session lock shows it exactly, and ends with the process, but a pooler in transaction mode gives
a client no session. There the process advances a counter on the server, its beat, and other
processes watch it. Clocks are not compared: a process is alive if its beat was seen to advance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

from pgload.errors import TargetError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

Key = TypeVar("Key")

INTERVAL = 2.0  # seconds between two beats
MISSED = 3  # beats, after which a process is considered dead
READS = 4  # in an interval; with each being as slow as a beat, at least three beats are awaited
CLOSE_TIMEOUT = 2.0  # seconds that the last statement may take


class Heartbeat:
    """Runs the statement `beat` every `INTERVAL` seconds in a thread, over a connection of its own.

    A beat that fails is dropped, and the next one opens a new connection.
    """

    def __init__(self, connect: Callable[[], Connection], beat: bytes) -> None:
        self._connect = connect
        self._beat = beat
        self._last: bytes | None = None
        self._closed = Event()
        self._thread = Thread(target=self._run, name="pgload-heartbeat", daemon=True)
        self._thread.start()

    def close(self, last: bytes | None = None) -> None:
        """End, with a last statement instead of a beat if one is given."""
        self._last = last
        self._closed.set()
        self._thread.join(CLOSE_TIMEOUT)

    def _run(self) -> None:
        """The thread's task."""
        connection: Connection | None = None
        closed = False
        while not closed:
            closed = self._closed.wait(INTERVAL)
            statement = self._last if closed else self._beat
            if statement is not None:
                connection = self._execute(statement, connection)
        if connection is not None:
            connection.close()

    def _execute(self, statement: bytes, connection: Connection | None) -> Connection | None:
        import psycopg2

        try:
            if connection is None or connection.closed:
                connection = self._connect()
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except (psycopg2.Error, TargetError):
            if connection is not None:
                connection.close()
            return None
        return connection


def watch(read: Callable[[], Mapping[Key, int]]) -> set[Key]:
    """The keys of the processes that are alive; `read` returns the beats by key.

    Returns at once where there is none, and as soon as all have advanced; otherwise after
    `MISSED` intervals.
    """
    first = read()
    alive = set[Key]()
    for _ in range(MISSED * READS):
        if alive == first.keys():
            break
        time.sleep(INTERVAL / READS)
        now = read()
        alive |= {key for key, beat in first.items() if now.get(key, beat) != beat}
    return alive
