"""How an encoded batch gets into its table over a worker's connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.errors import LoadError
from pgload.load.methods import Method
from pgload.schema.table import Table
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# SQLSTATEs of text that no column can hold (no UTF-8, \u0000, half a surrogate pair) and of records
# that are no objects. The server names no record then; taking them apart does.
NO_TEXT = ("22021", "22P05", "22P02", "22023")


class Session:
    """A worker's connection; `renew` replaces it after it was lost."""

    def __init__(self, connect: Callable[[], Connection], worker: int) -> None:
        self.worker = worker
        self.connection = connect()
        self.prepared: set[Table] = set()  # what a writer has set up on this connection
        self._connect = connect

    def renew(self) -> None:
        """Connect anew. Raises `TargetError`."""
        self.close()
        self.prepared.clear()
        self.connection = self._connect()

    def roll_back(self) -> None:
        """Leave no transaction open; a connection on which that fails is closed."""
        import psycopg2
        from psycopg2.extensions import TRANSACTION_STATUS_IDLE

        connection = self.connection
        if not connection.closed and connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
            except psycopg2.Error:
                connection.close()

    def cancel(self) -> None:
        """End what the server does for this worker; from any thread."""
        import psycopg2

        with suppress(psycopg2.Error):  # one that is gone has nothing to cancel
            self.connection.cancel()

    def close(self) -> None:
        self.connection.close()


class Encoded(NamedTuple):
    """A batch on its way to a worker."""

    number: int
    table: Table
    batch: Batch
    method: Method
    payload: Any  # a `RecordError` where it could not be encoded
    start: float  # of the encoding, on the clock of `time.perf_counter`
    seconds: float
    cpu: float  # seconds of the encoder's thread


class Written(NamedTuple):
    """What became of a batch; `write` and `commit` in seconds."""

    records: int
    write: float
    commit: float
    attempts: int = 1
    rejected: int = 0
    error: str | None = None  # why the attempt before the last one failed


class Writer:
    """Writes a batch once. A failure ends the load."""

    keeps_bad_records = False  # whether it takes a batch that could not be encoded

    def destination(self, table: Table) -> Table:
        """Where a method is to write the records of a table."""
        return table

    def write(self, session: Session, item: Encoded, halted: Event) -> Written:  # noqa: ARG002
        """Write and commit a batch, leaving no transaction open.

        `halted` is set once the load is to end early. Raises `LoadError` or `RecordError`.
        """
        import psycopg2

        try:
            seconds = write_batch(session, item)
        except psycopg2.Error as error:
            session.roll_back()
            if error.pgcode in NO_TEXT:
                item.method.rows.check(item.batch)
            raise load_error(item, error) from None
        return Written(len(item.batch.records), *seconds)


def write_batch(
    session: Session, item: Encoded, *, before: bytes = b"", after: bytes = b""
) -> tuple[float, float]:
    """Write and commit in one go; gives the seconds of each."""
    from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

    clock = time.perf_counter
    start = clock()
    with session.connection.cursor() as cursor:
        item.method.write(cursor, item.payload, before=before, after=after)
        written = committed = clock()
        if session.connection.info.transaction_status == TRANSACTION_STATUS_INTRANS:
            cursor.execute("COMMIT")
            committed = clock()
    return written - start, committed - written


_MENDS = {
    "53100": "make room on the server's disk",
    "25006": "the server takes no writes: connect to the primary",
    "42501": "grant the user the right, or set another",
}


def load_error(item: Encoded, error: Exception) -> LoadError:
    """The error for a batch that the server, or the way to it, did not take."""
    last = item.batch.first_record + len(item.batch.records) - 1
    context = getattr(getattr(error, "diag", None), "context", None)
    return LoadError(
        f"{item.batch.path.name}: records {item.batch.first_record}–{last} into {item.table.name}: "
        f"{with_hint(error)}{f' ({context})' if context else ''}"
    )


def with_hint(error: Exception) -> str:
    """The reason of an error, and what to do where that is known."""
    mend = _MENDS.get(getattr(error, "pgcode", None) or "")
    return f"{reason(error)}{f'; {mend}' if mend else ''}"


def reason(error: Exception) -> str:
    """What an error says, on one line, with its SQLSTATE."""
    diag, state = getattr(error, "diag", None), getattr(error, "pgcode", None)
    said = diag.message_primary if diag else None
    said = said or " ".join(str(error).split()) or type(error).__name__
    return f"{said} (SQLSTATE {state})" if state else said
