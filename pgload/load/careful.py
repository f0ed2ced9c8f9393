"""The writer of a migration: nothing lost, nothing twice, whatever happens on the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Protocol

from pgload.errors import LoadError, RecordError, TargetError
from pgload.load.ledger import Ledger, is_committed_already
from pgload.load.merge import Merge
from pgload.load.rejects import Reject
from pgload.load.writer import Encoded, Session, Writer, Written, load_error, reason, write_batch
from pgload.source.files import Batch
from pgload.source.tables import Table

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# SQLSTATEs, or their first two characters, after which another attempt may succeed: lost
# connections; too many of them; a server that ends, crashes or starts; serialization failure,
# deadlock, a lock or a query that was given up.
RETRIED = ("08", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "57014")
# Those that are a record's fault: a value, a constraint, a trigger's or a view's refusal, a row
# that is too large.
REJECTED = ("21", "22", "23", "44", "54", "P0")
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 32.0  # seconds between attempts, doubled each time
PATIENCE = 300.0  # seconds that a batch is tried for


class Report(Protocol):
    """Who is told what happens; `Outputs` is one."""

    def reject(self, rejects: Sequence[Reject]) -> None: ...
    def retry(self, worker: int, reason: str) -> None: ...
    def connection_state(self, worker: int, state: str) -> None: ...


class CarefulWriter(Writer):
    """Writes each batch with its ledger row, and again after trouble that passes.

    A batch that fails for its data is halved until the records at fault are found; these are
    reported and the others written. Without a ledger a batch whose connection was lost is not tried
    again, since it may have been committed: `LoadError`. So it is after `patience` seconds of
    trouble, for any other error, and for more than `max_rejects` rejects.
    """

    keeps_bad_records = True

    def __init__(
        self,
        report: Report,
        *,
        ledger: Ledger | None = None,
        file_ids: Mapping[Path, str] | None = None,
        merges: Mapping[Table, Merge] | None = None,
        offset_of: Callable[[Path, int], int | None] = lambda _path, _record: None,
        max_rejects: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._report = report
        self._ledger = ledger
        self._file_ids = file_ids or {}
        self._merges = merges or {}
        self._offset_of = offset_of
        self._max_rejects = max_rejects
        self._patience = patience
        self._rejects = 0
        self._lock = Lock()

    def destination(self, table: Table) -> Table:
        return self._merges[table].staging if table in self._merges else table

    def write(self, session: Session, item: Encoded, halted: Event) -> Written:
        import psycopg2

        self._report.connection_state(session.worker, "writing")
        known: set[int] = set()  # records of this batch that were reported by an earlier attempt
        attempts, pause = 0, FIRST_PAUSE
        give_up = time.monotonic() + self._patience
        while True:
            attempts += 1
            try:
                if session.connection.closed:
                    session.renew()
                written = self._attempt(session, item, known)
                self._report.connection_state(session.worker, "waiting")
                return written._replace(attempts=attempts)
            except (psycopg2.Error, TargetError) as error:
                lost = bool(session.connection.closed)
                session.roll_back()
                if is_committed_already(error):
                    # By this run, whose connection was lost before it heard of it, or by another.
                    records = len(item.batch.records) if attempts > 1 else 0
                    return Written(records, 0.0, 0.0, attempts)
                unsafe = lost and self._ledger is None
                if not _may_pass(error) or unsafe or halted.is_set() or time.monotonic() > give_up:
                    raise load_error(item, error) from None
                self._report.retry(session.worker, reason(error))
                self._report.connection_state(session.worker, "lost" if lost else "waiting")
            halted.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _attempt(self, session: Session, item: Encoded, known: set[int]) -> Written:
        import psycopg2

        before, after = self._around(session, item)
        if not isinstance(item.payload, RecordError):
            try:
                seconds = write_batch(session, item, before=before, after=after)
                return Written(len(item.batch.records), *seconds)
            except psycopg2.Error as error:
                if is_committed_already(error) or not _is_the_data(error):
                    raise
                session.roll_back()
        return self._without_the_bad(session, item, known, before, after)

    def _around(self, session: Session, item: Encoded) -> tuple[bytes, bytes]:
        """The statements before and after a batch."""
        merge = self._merges.get(item.table)
        if merge and item.table not in session.prepared:
            with session.connection.cursor() as cursor:
                cursor.execute(merge.prepare(session.connection))
            session.prepared.add(item.table)
        before = b""
        if self._ledger:
            before = self._ledger.row(self._file_ids[item.batch.path], item.table, item.batch)
        return before, merge.statement(session.connection) if merge else b""

    def _without_the_bad(
        self, session: Session, item: Encoded, known: set[int], before: bytes, after: bytes
    ) -> Written:
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
            self._count(item, new)
            self._report.reject(new)  # on the disk before the commit
            known |= {reject.record for reject in new}
            written = time.perf_counter()
            cursor.execute("COMMIT")
        return Written(
            len(item.batch.records) - len(rejects),
            written - start,
            time.perf_counter() - written,
            rejected=len(rejects),
        )

    def _write_part(
        self, cursor: Cursor, item: Encoded, part: Batch, after: bytes, rejects: list[Reject]
    ) -> None:
        import psycopg2

        cursor.execute("SAVEPOINT pgload")
        try:
            item.method.write(cursor, item.method.encode(part), after=after)
        except (psycopg2.Error, RecordError) as error:
            if not _is_the_data(error):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT pgload; RELEASE SAVEPOINT pgload")
            if len(part.records) == 1:
                rejects.append(self._reject(item, part, error))
                return
        else:
            cursor.execute("RELEASE SAVEPOINT pgload")
            return
        for half in part.parts((len(part.records) + 1) // 2):
            self._write_part(cursor, item, half, after, rejects)

    def _reject(self, item: Encoded, part: Batch, error: psycopg2.Error | RecordError) -> Reject:
        diag = getattr(error, "diag", None)
        column = getattr(error, "column", None) or (diag and diag.column_name)
        return Reject(
            file=part.path.name,
            record=part.first_record,
            offset=self._offset_of(part.path, part.first_record),
            table=item.table.name,
            column=column or None,
            sqlstate=getattr(error, "pgcode", None),
            message=(diag.message_primary if diag else None) or str(error),
            data=part.records[0],
        )

    def _count(self, item: Encoded, rejects: Sequence[Reject]) -> None:
        with self._lock:
            self._rejects += len(rejects)
            if self._max_rejects is not None and self._rejects > self._max_rejects:
                raise LoadError(
                    f"{item.batch.path.name}: record {rejects[-1].record} is reject number "
                    f"{self._rejects}, and --max-rejects is {self._max_rejects}: "
                    f"{rejects[-1].message}"
                )


def _is_the_data(error: Exception) -> bool:
    state = getattr(error, "pgcode", None)
    return isinstance(error, RecordError) or bool(state and state.startswith(REJECTED))


def _may_pass(error: Exception) -> bool:
    state = getattr(error, "pgcode", None)
    # libpq's own errors, such as a connection that was cut, have no state.
    return state is None or state.startswith(RETRIED)
