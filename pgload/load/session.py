"""A worker's connection, and the writing of an encoded batch over it."""

from __future__ import annotations

import fcntl
import termios
import time
from array import array
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

# SQLSTATEs of text that no column can hold (invalid UTF-8, \u0000, half of a surrogate pair) and
# of records that are not objects. The server does not name the record then.
INVALID_TEXT = ("22021", "22P05", "22P02", "22023")
HINTS = {  # by SQLSTATE
    "53100": "make room on the server's disk",
    "25006": "the server takes no writes: connect to the primary",
    "42501": "grant the user this privilege, or connect as another user",
}


class Session:
    """The connection of one worker; `renew` replaces it after it was lost."""

    def __init__(self, connect: Callable[[], Connection], worker: int) -> None:
        self.worker = worker  # its number, from 0
        self.connection = connect()
        self.prepared: set[Table] = set()  # the tables that a writer has set this connection up for
        # Through a pooler, whose connections keep no settings; None: not known yet.
        self.pooled: bool | None = None
        self.settings = b""  # of each transaction, through a pooler
        self._connect = connect

    def renew(self) -> None:
        """Close the connection and open a new one. Raises `TargetError`."""
        self.close()
        self.prepared.clear()
        self.pooled = None
        self.connection = self._connect()

    def is_sending(self) -> bool:
        """Whether data is in the socket's buffer, or on its way without an acknowledgement.

        False where the system does not report it.
        """
        import psycopg2

        unsent = array("i", [0])
        with suppress(psycopg2.Error, OSError):  # closed; or a system without this request
            fcntl.ioctl(self.connection.fileno(), termios.TIOCOUTQ, unsent)
        return unsent[0] > 0

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
        """Cancel what the server runs for this worker; may be called from any thread."""
        import psycopg2

        with suppress(psycopg2.Error):  # nothing runs on a lost connection
            self.connection.cancel()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class EncodedBatch(NamedTuple):
    """A batch that is ready to be written."""

    number: int  # within the load, from 1
    table: Table
    batch: Batch
    method: Method
    payload: Any  # what the method encoded; the `RecordError` if it could not
    start: float  # of the encoding, on the clock of `time.perf_counter`
    seconds: float  # that the encoding took
    cpu_seconds: float


class WriteResult(NamedTuple):
    """How a batch was written; `write` and `commit` are in seconds."""

    records: int  # committed
    write: float
    commit: float
    attempts: int = 1
    rejected: int = 0  # records that were not written
    error: str | None = None  # why the attempt before the last one failed


class Writer:
    """Writes each batch once; a failure ends the load.

    Subclasses may retry, stage and reject: migrate/writing/retry.py has the one that does.
    """

    accepts_unencodable = False  # whether `write` takes a batch whose payload is a `RecordError`

    def staging_table(self, table: Table) -> Table:
        """The table that the records of `table` are inserted into; `table` itself, if not staged.

        It has the same columns.
        """
        return table

    def write(self, session: Session, encoded: EncodedBatch, halted: Event) -> WriteResult:  # noqa: ARG002
        """Write and commit a batch, leaving no transaction open.

        `halted` is set when the load has to end early. Raises `LoadError` or `RecordError`.
        """
        import psycopg2

        try:
            write, commit = write_batch(session, encoded)
        except psycopg2.Error as error:
            session.roll_back()
            if error.pgcode in INVALID_TEXT:
                encoded.method.encoder.check(encoded.batch)  # raises for the record
            raise load_error(encoded, error) from None
        return WriteResult(len(encoded.batch.records), write, commit)


def write_batch(
    session: Session, encoded: EncodedBatch, *, before: bytes = b"", after: bytes = b""
) -> tuple[float, float]:
    """Write and commit a batch; returns the seconds of each, 0 for a commit within the write.

    `before` and `after` are SQL statements for the same transaction.
    """
    from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

    clock = time.perf_counter
    start = clock()
    with session.connection.cursor() as cursor:
        encoded.method.write(cursor, encoded.payload, before=before, after=after)
        written = committed = clock()
        if session.connection.info.transaction_status == TRANSACTION_STATUS_INTRANS:
            cursor.execute("COMMIT")
            committed = clock()
    return written - start, committed - written


def load_error(encoded: EncodedBatch, error: Exception) -> LoadError:
    """The error for a batch that could not be written; it names file, records, table and reason."""
    batch = encoded.batch
    some = "" if batch.selected is None else f"{len(batch.records)} of "
    context = getattr(getattr(error, "diag", None), "context", None)
    return LoadError(
        f"{batch.path.name}: {some}records {batch.first_record}–{batch.numbers[-1]} into "
        f"{encoded.table.name}: "
        f"{with_hint(error)}{f' ({context})' if context else ''}"
    )


def with_hint(error: Exception) -> str:
    """The reason of an error, and what to do about it where that is known."""
    hint = HINTS.get(getattr(error, "pgcode", None) or "")
    return f"{reason(error)}; {hint}" if hint else reason(error)


def reason(error: Exception) -> str:
    """An error's message on one line, with its SQLSTATE if it has one."""
    diag, sqlstate = getattr(error, "diag", None), getattr(error, "pgcode", None)
    message = diag.message_primary if diag else None
    message = message or " ".join(str(error).split()) or type(error).__name__
    return f"{message} (SQLSTATE {sqlstate})" if sqlstate else message
