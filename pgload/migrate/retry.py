"""The writer of a migration: nothing lost, nothing twice, whatever happens on the way."""

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
from pgload.migrate.run_files import Reject
from pgload.migrate.upsert import Merge
from pgload.schema.table import Table
from pgload.source.reader import Batch

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 32.0  # seconds between attempts, doubled each time
PATIENCE = 300.0  # seconds
# A batch whose connection is lost is tried again at once, and waits for its ledger row as long as
# the server believes in the lost one. Left alone, that is for hours.
SETTINGS = b"""
    SET idle_in_transaction_session_timeout = '1min';
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3
"""
NOBODY_KNOWS = "without a ledger nobody knows whether they are there: look before you go on"


class Reporter(Protocol):
    """Who is told what happens; `Outputs` is one."""

    def reject(self, rejects: Sequence[Reject]) -> None: ...
    def retry(self, worker: int, reason: str) -> None: ...
    def connection_state(self, worker: int, state: str) -> None: ...


class RetryingWriter(Writer):
    """Writes each batch with its ledger row, and again after trouble that passes.

    A batch that fails for its data is halved until the records at fault are found; these are
    reported and the others written. `LoadError` for any other error, for more than `max_rejects`
    rejects, and when `patience` seconds have passed without a batch that could be written, by
    whichever worker: so one that finds no connection any more waits while others go on. Without a
    ledger a batch whose connection was lost is not tried again, since it may be committed.
    """

    accepts_unencodable = True

    def __init__(
        self,
        report: Reporter,
        *,
        ledger: Ledger | None = None,
        file_ids: Mapping[Path, str] | None = None,
        merges: Mapping[Table, Merge] | None = None,
        max_rejects: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._report = report
        self._ledger = ledger
        self._file_ids = file_ids or {}
        self._merges = merges or {}
        self._max_rejects = max_rejects
        self._patience = patience
        self._rejects = 0
        self._written = 0.0  # when the last batch was, by any worker
        self._lock = Lock()

    def staging_table(self, table: Table) -> Table:
        return self._merges[table].staging if table in self._merges else table

    def write(self, session: Session, item: EncodedBatch, halted: Event) -> WriteResult:
        import psycopg2

        known: set[int] = set()  # records of this batch that were reported by an earlier attempt
        began, pause, failure = time.monotonic(), FIRST_PAUSE, None
        for attempt in count(1):
            self._report.connection_state(session.worker, "writing")
            try:
                written = self._attempt(session, item, known)
                self._written = time.monotonic()
                self._report.connection_state(session.worker, "waiting")
                return written._replace(attempts=attempt, error=failure)
            except (psycopg2.Error, TargetError) as error:
                trouble = error
                session.roll_back()
            except BaseException:
                session.roll_back()
                raise
            lost = session.connection.closed
            if lost and self._ledger is None:
                raise LoadError(f"{load_error(item, trouble)}; {NOBODY_KNOWS}") from None
            tried = time.monotonic() - max(began, self._written)
            passes = lost or is_transient(trouble)
            if not passes or tried > self._patience or halted.is_set():
                raise load_error(item, trouble) from None
            failure = reason(trouble)
            self._report.retry(session.worker, failure)
            self._report.connection_state(session.worker, "lost" if lost else "trying again")
            if halted.wait(pause * random.uniform(0.5, 1.0)):
                raise load_error(item, trouble) from None
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError  # pragma: no cover: `count` does not end

    def _attempt(self, session: Session, item: EncodedBatch, known: set[int]) -> WriteResult:
        import psycopg2

        if session.connection.closed:
            session.renew()
        merge = self._set_up(session, item.table)
        before = after = b""
        if self._ledger:
            before = self._ledger.row(self._file_ids[item.batch.path], item.table, item.batch)
        if merge:
            after = merge.statement(session.connection)
        try:
            if not isinstance(item.payload, RecordError):
                try:
                    seconds = write_batch(session, item, before=before, after=after)
                    return WriteResult(len(item.batch.records), *seconds)
                except psycopg2.Error as error:
                    if is_already_committed(error) or not is_data_error(error):
                        raise
                    session.roll_back()
            return self._without_the_bad(session, item, known, before, after)
        except psycopg2.Error as error:
            if not is_already_committed(error):
                raise
            session.roll_back()
            return self._as_committed(session, item)

    def _set_up(self, session: Session, table: Table) -> Merge | None:
        """Prepare a connection for a table, once."""
        merge = self._merges.get(table)
        if table not in session.prepared:
            with session.connection.cursor() as cursor:
                if not session.prepared:
                    cursor.execute(SETTINGS)
                if merge:
                    cursor.execute(merge.prepare(session.connection))
            session.prepared.add(table)
        return merge

    def _as_committed(self, session: Session, item: EncodedBatch) -> WriteResult:
        """A batch that is there already: by this run, which lost the answer, or by another one."""
        assert self._ledger is not None
        file = self._file_ids[item.batch.path]
        with session.connection.cursor() as cursor:
            cursor.execute(self._ledger.own(file, item.table, item.batch))
            records, rejected = cursor.fetchone() or (0, 0)
        return WriteResult(records, 0.0, 0.0, rejected=rejected)

    def _without_the_bad(
        self, session: Session, item: EncodedBatch, known: set[int], before: bytes, after: bytes
    ) -> WriteResult:
        """Write what can be written of a batch, in one transaction, and report the rest."""
        start = time.perf_counter()
        rejects: list[Reject] = []
        if item.table in self._merges:
            after += b";" + self._merges[item.table].clear(session.connection)
        with session.connection.cursor() as cursor:
            cursor.execute(b"BEGIN; SET CONSTRAINTS ALL IMMEDIATE;" + before)
            self._write_part(cursor, item, item.batch, after, rejects)
            if self._ledger and rejects:
                file = self._file_ids[item.batch.path]
                cursor.execute(self._ledger.rejected(file, item.table, item.batch, len(rejects)))
            new = [reject for reject in rejects if reject.record not in known]
            self._report.reject(new)  # on the disk before the commit
            known |= {reject.record for reject in new}
            self._count(item, new)
            written = time.perf_counter()
            cursor.execute("COMMIT")
        return WriteResult(
            len(item.batch.records) - len(rejects),
            written - start,
            time.perf_counter() - written,
            rejected=len(rejects),
        )

    def _write_part(
        self, cursor: Cursor, item: EncodedBatch, part: Batch, after: bytes, rejects: list[Reject]
    ) -> None:
        import psycopg2

        cursor.execute("SAVEPOINT pgload")
        try:
            item.method.write(cursor, item.method.encode(part), after=after)
        except (psycopg2.Error, RecordError) as error:
            if not is_data_error(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT pgload")
            if len(part.records) == 1:
                column = column_of(error) or self._column_at_fault(cursor, item, part, error)
                rejects.append(make_reject(item.table.name, part, column, error))
            cursor.execute("RELEASE SAVEPOINT pgload")
            if len(part.records) == 1:
                return
        else:
            cursor.execute("RELEASE SAVEPOINT pgload")
            return
        for half in part.parts((len(part.records) + 1) // 2):
            self._write_part(cursor, item, half, after, rejects)

    def _column_at_fault(
        self, cursor: Cursor, item: EncodedBatch, part: Batch, error: Exception
    ) -> str | None:
        """The column that does not take its value, as COPY tells; None where it does not."""
        import psycopg2

        if not is_value_error(error):
            return None
        copy = make_method("copy", self.staging_table(item.table))
        try:
            copy.write(cursor, copy.encode(part))
        except (psycopg2.Error, RecordError) as found:
            error = found
        cursor.execute("ROLLBACK TO SAVEPOINT pgload")
        return column_of(error)

    def _count(self, item: EncodedBatch, rejects: Sequence[Reject]) -> None:
        with self._lock:
            self._rejects += len(rejects)
            if self._max_rejects is not None and self._rejects > self._max_rejects:
                raise LoadError(
                    f"{item.batch.path.name}: record {rejects[-1].record} is reject number "
                    f"{self._rejects}, and --max-rejects is {self._max_rejects}: "
                    f"{rejects[-1].message}"
                )


# SQLSTATEs, or their first characters, after which another attempt may succeed: lost connections;
# too many of them; no memory; a server that ends, crashes or starts; serialization failure,
# deadlock, a lock or a query that was given up.
RETRIED = ("08", "53200", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "57014")
# Those that are a record's fault: a value, a constraint, a view's or a trigger's refusal (also with
# the states that the SQL standard has for those), a row that is too large.
REJECTED = ("09", "21", "22", "23", "27", "2F", "38", "39", "44", "45", "54", "P0")
BAD_VALUE = "22"  # of which the server names the column only where it reads text, as in COPY
_COLUMN_IN_CONTEXT = re.compile(r'COPY .+, line 1, column (.+?)(?:: ".*|: null input)?')


def make_reject(
    table: str, part: Batch, column: str | None, error: psycopg2.Error | RecordError
) -> Reject:
    """The record that `part` is, with what was wrong with it."""
    said = error.reason if isinstance(error, RecordError) else error.diag.message_primary
    return Reject(
        file=part.path.name,
        record=part.first_record,
        offset=part.offset(part.first_record),
        table=table,
        column=column,
        sqlstate=getattr(error, "pgcode", None),
        message=said or str(error),
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
    """Whether a record is at fault."""
    state = getattr(error, "pgcode", None)
    return isinstance(error, RecordError) or bool(state and state.startswith(REJECTED))


def is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    state = getattr(error, "pgcode", None)
    # libpq's own errors, such as a connection that was cut, have no state.
    return state is None or state.startswith(RETRIED)


def is_value_error(error: Exception) -> bool:
    """Whether it is one value that its column does not take."""
    return (getattr(error, "pgcode", None) or "").startswith(BAD_VALUE)
