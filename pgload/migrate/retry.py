"""`RetryingWriter`: retries transient errors, bisects batches with bad records, writes the ledger.

Every record of a batch is committed once or rejected once, whatever happens to the connection.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Protocol

from pgload.errors import LoadError, RecordError, TargetError
from pgload.load.methods import make_method
from pgload.load.session import (
    EncodedBatch,
    Session,
    Writer,
    WriteResult,
    load_error,
    reason,
    write_batch,
)
from pgload.migrate.ledger import Ledger, is_already_committed
from pgload.migrate.options import RETRY_TIMEOUT
from pgload.migrate.run_files import Reject
from pgload.migrate.upsert import Upsert
from pgload.schema.table import Table
from pgload.source.reader import Batch

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 32.0  # seconds between attempts, doubled each time
# A batch whose connection is lost is retried at once, and its ledger row then waits until the
# server gives up the lost connection. By default that may take hours.
SESSION_SETTINGS = b"""
    SET idle_in_transaction_session_timeout = '1min';
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3
"""
MAY_BE_COMMITTED = (
    "without a ledger it is unknown whether they are committed: compare the table with the file "
    "before you load it again"
)


class Reporter(Protocol):
    """What the writer reports to; `Outputs` implements it."""

    def reject(self, rejects: Sequence[Reject]) -> None: ...
    def retry(self, worker: int, reason: str) -> None: ...
    def connection_state(self, worker: int, state: str) -> None: ...


class RetryingWriter(Writer):
    """Writes each batch with its ledger row, and retries it after a transient error.

    A batch with a data error is bisected until the bad records are found; these are reported and
    the others written. Raises `LoadError` for any other error, for more than `max_rejects`
    rejects, and after `retry_timeout` seconds in which no worker could write a batch: so a worker
    that cannot reconnect waits as long as others make progress. Without a ledger a batch whose
    connection was lost is not retried, since it may be committed.

    `file_ids` gives the SHA-256 of each file's content, `upserts` the tables that need one.
    """

    accepts_unencodable = True

    def __init__(
        self,
        report: Reporter,
        *,
        ledger: Ledger | None = None,
        file_ids: Mapping[Path, str] | None = None,
        upserts: Mapping[Table, Upsert] | None = None,
        max_rejects: int | None = None,
        retry_timeout: float = RETRY_TIMEOUT,
    ) -> None:
        self._report = report
        self._ledger = ledger
        self._file_ids = file_ids or {}
        self._upserts = upserts or {}
        self._max_rejects = max_rejects
        self._retry_timeout = retry_timeout
        self._rejects = 0
        self._last_written = 0.0  # when any worker last wrote a batch; time.monotonic
        self._lock = Lock()

    def staging_table(self, table: Table) -> Table:
        """The staging table where the table has one."""
        return self._upserts[table].staging if table in self._upserts else table

    def write(self, session: Session, encoded: EncodedBatch, halted: Event) -> WriteResult:
        """Write and commit a batch, with as many attempts as it takes. Raises `LoadError`."""
        import psycopg2

        reported: set[int] = set()  # records that an earlier attempt has reported as rejects
        began, pause, failure = time.monotonic(), FIRST_PAUSE, None
        for attempt in count(1):
            self._report.connection_state(session.worker, "writing")
            try:
                written = self._attempt(session, encoded, reported)
            except (psycopg2.Error, TargetError) as error:
                session.roll_back()
                lost = session.connection.closed
                if lost and self._ledger is None:
                    raise LoadError(f"{load_error(encoded, error)}; {MAY_BE_COMMITTED}") from None
                tried = time.monotonic() - max(began, self._last_written)
                retryable = (lost or is_transient(error)) and tried <= self._retry_timeout
                if not retryable or halted.is_set():
                    raise load_error(encoded, error) from None
                failure = reason(error)
                self._report.retry(session.worker, failure)
                self._report.connection_state(session.worker, "lost" if lost else "retrying")
                if halted.wait(pause * random.uniform(0.5, 1.0)):
                    raise load_error(encoded, error) from None
                pause = min(2 * pause, LONGEST_PAUSE)
            except BaseException:
                session.roll_back()
                raise
            else:
                self._last_written = time.monotonic()
                self._report.connection_state(session.worker, "waiting")
                return written._replace(attempts=attempt, error=failure)
        raise AssertionError  # pragma: no cover: `count` does not end

    def _attempt(self, session: Session, encoded: EncodedBatch, reported: set[int]) -> WriteResult:
        import psycopg2

        if session.connection.closed:
            session.renew()
        upsert = self._prepare(session, encoded.table)
        before = after = b""
        if self._ledger:
            file = self._file_ids[encoded.batch.path]
            before = self._ledger.insert_statement(file, encoded.table, encoded.batch)
        if upsert:
            after = upsert.statement(session.connection)
        try:
            if not isinstance(encoded.payload, RecordError):
                try:
                    seconds = write_batch(session, encoded, before=before, after=after)
                    return WriteResult(len(encoded.batch.records), *seconds)
                except psycopg2.Error as error:
                    if is_already_committed(error) or not is_data_error(error):
                        raise
                    session.roll_back()
            return self._write_bisecting(session, encoded, reported, before=before, after=after)
        except psycopg2.Error as error:
            if not is_already_committed(error):
                raise
            session.roll_back()
            return self._already_committed(session, encoded)

    def _prepare(self, session: Session, table: Table) -> Upsert | None:
        """Set up a connection for a table, once."""
        upsert = self._upserts.get(table)
        if table not in session.prepared:
            with session.connection.cursor() as cursor:
                if not session.prepared:
                    cursor.execute(SESSION_SETTINGS)
                if upsert:
                    cursor.execute(upsert.prepare(session.connection))
            session.prepared.add(table)
        return upsert

    def _already_committed(self, session: Session, encoded: EncodedBatch) -> WriteResult:
        """What is recorded of a committed batch; nothing where another run wrote it.

        This run has written it itself where the connection was lost before the server's answer.
        """
        assert self._ledger is not None
        file = self._file_ids[encoded.batch.path]
        with session.connection.cursor() as cursor:
            cursor.execute(self._ledger.select_statement(file, encoded.table, encoded.batch))
            records, rejected = cursor.fetchone() or (0, 0)
        return WriteResult(records, 0.0, 0.0, rejected=rejected)

    def _write_bisecting(
        self,
        session: Session,
        encoded: EncodedBatch,
        reported: set[int],
        *,
        before: bytes,
        after: bytes,
    ) -> WriteResult:
        """Write a batch's good records in one transaction, and report the others as rejects."""
        start = time.perf_counter()
        rejects: list[Reject] = []
        if encoded.table in self._upserts:
            after += b";" + self._upserts[encoded.table].clear(session.connection)
        with session.connection.cursor() as cursor:
            cursor.execute(b"BEGIN; SET CONSTRAINTS ALL IMMEDIATE;" + before)
            self._bisect(cursor, encoded, encoded.batch, after, rejects)
            if self._ledger and rejects:
                file = self._file_ids[encoded.batch.path]
                cursor.execute(
                    self._ledger.rejected_statement(
                        file, encoded.table, encoded.batch, len(rejects)
                    )
                )
            new = [reject for reject in rejects if reject.record not in reported]
            self._report.reject(new)  # on the disk before the commit
            reported |= {reject.record for reject in new}
            self._check_max_rejects(encoded, new)
            written = time.perf_counter()
            cursor.execute("COMMIT")
        return WriteResult(
            len(encoded.batch.records) - len(rejects),
            write=written - start,
            commit=time.perf_counter() - written,
            rejected=len(rejects),
        )

    def _bisect(
        self,
        cursor: Cursor,
        encoded: EncodedBatch,
        part: Batch,
        after: bytes,
        rejects: list[Reject],
    ) -> None:
        """Write a part of a batch; where that is a data error, each half of it."""
        import psycopg2

        split = False
        cursor.execute("SAVEPOINT pgload")
        try:
            encoded.method.write(cursor, encoded.method.encode(part), after=after)
        except (psycopg2.Error, RecordError) as error:
            if not is_data_error(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT pgload")
            split = len(part.records) > 1
            if not split:
                column = column_of(error) or self._find_column(cursor, encoded, part, error)
                rejects.append(make_reject(encoded.table.name, part, column, error))
        cursor.execute("RELEASE SAVEPOINT pgload")
        if split:
            for half in part.parts((len(part.records) + 1) // 2):
                self._bisect(cursor, encoded, half, after, rejects)

    def _find_column(
        self, cursor: Cursor, encoded: EncodedBatch, part: Batch, error: Exception
    ) -> str | None:
        """The column whose value is refused, from COPY's error context; None if it names none."""
        import psycopg2

        if not is_value_error(error):
            return None
        copy = make_method("copy", self.staging_table(encoded.table))
        try:
            copy.write(cursor, copy.encode(part))
        except (psycopg2.Error, RecordError) as copy_error:
            error = copy_error
        cursor.execute("ROLLBACK TO SAVEPOINT pgload")
        return column_of(error)

    def _check_max_rejects(self, encoded: EncodedBatch, rejects: Sequence[Reject]) -> None:
        with self._lock:
            self._rejects += len(rejects)
            if self._max_rejects is not None and self._rejects > self._max_rejects:
                last = rejects[-1]
                raise LoadError(
                    f"{encoded.batch.path.name}: record {last.record} is reject number "
                    f"{self._rejects}, and --max-rejects is {self._max_rejects}: {last.message}"
                )


# SQLSTATEs, or their first characters, after which another attempt may succeed: lost connections;
# too many of them; out of memory; a server that stops, crashes or starts; serialization failure,
# deadlock, lock timeout, a canceled query.
TRANSIENT_STATES = (
    "08", "53200", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "57014",
)  # fmt: skip
# Those that are the record's fault: a value, a constraint, a view or a trigger that refuses it
# (also by the states that the SQL standard has for those), a row that is too large.
DATA_STATES = ("09", "21", "22", "23", "27", "2F", "38", "39", "44", "45", "54", "P0")
# A value that its type does not take; the server names the column only where it reads text (COPY).
VALUE_STATES = "22"
_COLUMN_IN_CONTEXT = re.compile(r'COPY .+, line 1, column (.+?)(?:: ".*|: null input)?')


def make_reject(
    table: str, part: Batch, column: str | None, error: psycopg2.Error | RecordError
) -> Reject:
    """The reject of a part of one record."""
    message = error.reason if isinstance(error, RecordError) else error.diag.message_primary
    return Reject(
        file=part.path.name,
        record=part.first_record,
        offset=part.offset(part.first_record),
        table=table,
        column=column,
        sqlstate=getattr(error, "pgcode", None),
        message=message or str(error),
        data=part.records[0],
    )


def column_of(error: Exception) -> str | None:
    """The column that an error names."""
    if isinstance(error, RecordError):
        return error.column
    diag = getattr(error, "diag", None)
    if diag is None:
        return None
    context = (diag.context or "").split("\n")[0]
    found = None if diag.column_name else _COLUMN_IN_CONTEXT.fullmatch(context)
    return diag.column_name or (found[1] if found else None)


def is_data_error(error: Exception) -> bool:
    """Whether the record is at fault."""
    state = getattr(error, "pgcode", None)
    return isinstance(error, RecordError) or bool(state and state.startswith(DATA_STATES))


def is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    state = getattr(error, "pgcode", None)
    # libpq's own errors, such as a lost connection, have no SQLSTATE.
    return state is None or state.startswith(TRANSIENT_STATES)


def is_value_error(error: Exception) -> bool:
    """Whether a single value was refused by its column's type."""
    return (getattr(error, "pgcode", None) or "").startswith(VALUE_STATES)
