"""Writes batches with their ledger rows, retries transient errors, and rejects bad records.

Every record of a batch is committed once or rejected once, whatever happens to the connection.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pgload.errors import LoadError, RecordError, TargetError
from pgload.load.methods import Method
from pgload.load.session import EncodedBatch, Session, Writer, WriteResult, load_error, reason
from pgload.migrate.backoff import pauses
from pgload.migrate.counts import NONE, RowCounts
from pgload.migrate.ledger.entries import BatchKey
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.ledger.statements import is_already_committed
from pgload.migrate.options import RETRY_TIMEOUT
from pgload.migrate.outputs.rejects import Reject
from pgload.migrate.sqlstates import is_data_error, is_transient, must_reconnect
from pgload.migrate.writing.good_records import GoodRecords
from pgload.migrate.writing.reject_limit import RejectLimit
from pgload.migrate.writing.session_settings import session_settings, transaction_settings
from pgload.migrate.writing.upsert import Upsert
from pgload.schema.table import Table
from pgload.targets.pooler import is_pooled

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SPLIT = ("values", "json")  # methods whose payload is a list of statements
# Rejects are reported once: a crash must not take the batch that they are of.
DURABLE = (
    b"SELECT pg_catalog.set_config('synchronous_commit', 'local', true) "
    b"WHERE pg_catalog.current_setting('synchronous_commit') = 'off';"
)
MAY_BE_COMMITTED = (
    "without a ledger it is unknown whether they are committed: compare the table with the file "
    "before you load it again"
)


class Reporter(Protocol):
    """What the writer reports to; `Outputs` implements it."""

    def hold_rejects(
        self, worker: int, batch: BatchKey | None, rejects: Sequence[Reject]
    ) -> None: ...
    def confirm_rejects(self, worker: int) -> None: ...
    def drop_rejects(self, worker: int) -> None: ...
    def count_rows(self, file: str, table: str, counts: RowCounts) -> None: ...
    def retry(self, worker: int, reason: str) -> None: ...
    def connection_state(self, worker: int, state: str) -> None: ...


class Outcome(NamedTuple):
    """What became of a batch."""

    result: WriteResult
    counts: RowCounts


class RetryingWriter(Writer):
    """Writes each batch with its ledger row, and retries it after a transient error.

    Of a batch with a data error the bad records are found and reported, and the others written.
    Raises `LoadError` for any other error, for too many rejects (see `RejectLimit`), and after
    `retry_timeout` seconds in which no worker could write a batch: a worker that cannot reconnect
    waits as long as others make progress. Without a ledger a batch whose connection was lost is not
    retried, since it may be committed.

    `file_ids` are the SHA-256 of each file's content, `upserts` those of the tables that need one;
    `may_suppress` are the tables on which the server may drop rows, so that they are counted.
    """

    accepts_unencodable = True

    def __init__(
        self,
        report: Reporter,
        *,
        ledger: Ledger | None = None,
        file_ids: Mapping[Path, str] | None = None,
        upserts: Mapping[Table, Upsert] | None = None,
        may_suppress: Collection[Table] = (),
        max_rejects: int | None = None,
        retry_timeout: float = RETRY_TIMEOUT,
    ) -> None:
        self._report = report
        self._ledger = ledger.statements if ledger else None
        self._file_ids = file_ids or {}
        self._upserts = upserts or {}
        self._may_suppress = may_suppress
        self._limit = RejectLimit(max_rejects)
        self._retry_timeout = retry_timeout
        self.written_by_others: set[Path] = set()  # files of which other runs have written batches
        self._last_written = 0.0  # when any worker last wrote a batch; time.monotonic

    def staging_table(self, table: Table) -> Table:
        """The staging table where the table has one."""
        return self._upserts[table].staging if table in self._upserts else table

    def write(self, session: Session, encoded: EncodedBatch, halted: Event) -> WriteResult:
        """Write and commit a batch, with as many attempts as it takes. Raises `LoadError`."""
        import psycopg2

        began, failure = time.monotonic(), None
        for attempt, pause in enumerate(pauses(), 1):
            self._report.connection_state(session.worker, "writing")
            try:
                outcome = self._attempt(session, encoded)
            except (psycopg2.Error, TargetError) as error:
                session.roll_back()
                lost = session.connection.closed
                if lost and self._ledger is None:
                    raise LoadError(f"{load_error(encoded, error)}; {MAY_BE_COMMITTED}") from None
                tried = time.monotonic() - max(began, self._last_written)
                # A silence or a wait may have taken all the time: one retry follows at least.
                in_time = tried <= self._retry_timeout or attempt == 1
                retriable = is_transient(error) or (lost and isinstance(error, psycopg2.Error))
                stop = halted.is_set() or not (in_time and retriable)
                failure = reason(error)
                if not stop:
                    self._report.retry(session.worker, failure)
                    self._report.connection_state(session.worker, "lost" if lost else "retrying")
                    stop = halted.wait(pause)
                if stop:
                    if not lost:  # otherwise it is unknown whether the batch is committed
                        self._drop_rejects(session.worker)
                    raise load_error(encoded, error) from None
                if must_reconnect(error):
                    session.connection.close()
            except BaseException:
                session.roll_back()
                self._drop_rejects(session.worker)
                raise
            else:
                self._last_written = time.monotonic()
                if outcome.result.rejected:
                    self._report.confirm_rejects(session.worker)
                else:  # those of an earlier attempt
                    self._drop_rejects(session.worker)
                self._limit.confirm(session.worker, len(encoded.batch.records))
                if any(outcome.counts):
                    name = encoded.batch.path.name
                    self._report.count_rows(name, encoded.table.name, outcome.counts)
                self._report.connection_state(session.worker, "waiting")
                return outcome.result._replace(attempts=attempt, error=failure)
        raise AssertionError  # pragma: no cover: `pauses` does not end

    def _attempt(self, session: Session, encoded: EncodedBatch) -> Outcome:
        import psycopg2

        if session.connection.closed:
            session.renew()
        first = self._prepare(session, encoded.table)
        if self._ledger:
            file = self._file_ids[encoded.batch.path]
            first.append(self._ledger.insert(file, encoded.table, encoded.batch))
        before = b"; ".join(filter(None, first))
        try:
            if not isinstance(encoded.payload, RecordError):
                try:
                    return self._write_whole(session, encoded, before)
                except psycopg2.Error as error:
                    if is_already_committed(error) or not is_data_error(error):
                        raise
                    session.roll_back()
            return self._write_good(session, encoded, before)
        except psycopg2.Error as error:
            if not is_already_committed(error):
                raise
            session.roll_back()
            return self._already_committed(session, encoded)

    def _prepare(self, session: Session, table: Table) -> list[bytes]:
        """Set up a connection and its staging table; returns what each transaction begins with.

        Through a pooler, where nothing outlives a transaction, that is all of it, else nothing.
        """
        upsert, connection = self._upserts.get(table), session.connection
        if session.pooled is None:
            pooled = is_pooled(connection)
            if pooled:
                session.settings = transaction_settings(self._retry_timeout, connection)
            else:
                with connection.cursor() as cursor:
                    cursor.execute(session_settings(self._retry_timeout))
            session.pooled = pooled
        if session.pooled:
            staging = upsert.prepare(connection, pooled=True) if upsert else b""
            return [session.settings, staging]
        if upsert and table not in session.prepared:
            with connection.cursor() as cursor:
                cursor.execute(upsert.prepare(connection))
            session.prepared.add(table)
        return []

    def _already_committed(self, session: Session, encoded: EncodedBatch) -> Outcome:
        """What is recorded of a committed batch; nothing where another run wrote it.

        This run has written it itself where the connection was lost before the server's answer.
        """
        assert self._ledger is not None
        file = self._file_ids[encoded.batch.path]
        with session.connection.cursor() as cursor:
            cursor.execute(self._ledger.select(file, encoded.table, encoded.batch))
            row = cursor.fetchone()
        if row is None:
            self.written_by_others.add(encoded.batch.path)
            return Outcome(WriteResult(0, 0.0, 0.0), NONE)
        records, rejected, counts = row[0], row[1], RowCounts(*row[2:])
        written = records - rejected - counts.not_written
        return Outcome(WriteResult(written, 0.0, 0.0, rejected=rejected), counts)

    def _write_whole(self, session: Session, encoded: EncodedBatch, before: bytes) -> Outcome:
        """Write and commit a batch without bad records."""
        from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

        records, clock = len(encoded.batch.records), time.perf_counter
        start = clock()
        with session.connection.cursor() as cursor:
            if encoded.table in self._may_suppress:
                cursor.execute(b"BEGIN;" + before)
                before = b""
            counts = self._send(cursor, encoded, encoded.method, encoded.payload, records, before)
            written = committed = clock()
            if session.connection.info.transaction_status == TRANSACTION_STATUS_INTRANS:
                self._record_suppressed(cursor, encoded, counts)
                cursor.execute("COMMIT")
                committed = clock()
        times = (written - start, committed - written)
        return Outcome(WriteResult(records - counts.not_written, *times), counts)

    def _send(
        self,
        cursor: Cursor,
        encoded: EncodedBatch,
        method: Method,
        payload: Any,
        records: int,
        before: bytes = b"",
    ) -> RowCounts:
        """Write encoded records; returns what the server reports of their rows."""
        upsert = self._upserts.get(encoded.table)
        if upsert is not None:
            note = ""
            if self._ledger:
                file = self._file_ids[encoded.batch.path]
                note = self._ledger.add_counts(file, encoded.table, encoded.batch, "counts")
            after = upsert.statement(cursor.connection, records=records, note=note)
            method.write(cursor, payload, before=before, after=after)
            row = cursor.fetchone()
            assert row is not None
            return RowCounts(*row)
        if encoded.table not in self._may_suppress:
            method.write(cursor, payload, before=before)
            return NONE
        written = 0
        # The driver reports the rows of one statement only, the last one of a query.
        for piece in [[each] for each in payload] if method.name in SPLIT else [payload]:
            method.write(cursor, piece)
            written += cursor.rowcount
        return RowCounts(suppressed=max(records - written, 0))

    def _record_suppressed(self, cursor: Cursor, encoded: EncodedBatch, counts: RowCounts) -> None:
        """Add to the ledger what an upsert has not added already."""
        if self._ledger and counts.suppressed and encoded.table not in self._upserts:
            file = self._file_ids[encoded.batch.path]
            values = ", ".join(f"{n} AS {name}" for name, n in counts._asdict().items())
            cursor.execute(
                self._ledger.add_counts(file, encoded.table, encoded.batch, f"(SELECT {values})")
            )

    def _write_good(self, session: Session, encoded: EncodedBatch, before: bytes) -> Outcome:
        """Write a batch's good records in one transaction, and report the others as rejects."""
        start = time.perf_counter()
        batch, upsert = encoded.batch, self._upserts.get(encoded.table)
        self._report.connection_state(session.worker, "rejecting")
        with session.connection.cursor() as cursor:
            cursor.execute(b"BEGIN; SET CONSTRAINTS ALL IMMEDIATE;" + DURABLE + before)
            good = GoodRecords(
                cursor,
                encoded,
                self.staging_table(encoded.table),
                send=partial(self._send, cursor, encoded),
                clear=upsert.clear(cursor.connection) if upsert else b"",
                changes_rows=encoded.table in self._may_suppress,
            )
            counts = good.write()
            rejects = good.rejects()
            self._record_suppressed(cursor, encoded, counts)
            if self._ledger and rejects:
                file = self._file_ids[batch.path]
                cursor.execute(self._ledger.set_rejected(file, encoded.table, batch, len(rejects)))
            if rejects:
                self._limit.hold(session.worker, encoded, rejects)
                self._hold_rejects(session.worker, encoded, rejects)
            written = time.perf_counter()
            cursor.execute("COMMIT")
        result = WriteResult(
            len(batch.records) - len(rejects) - counts.not_written,
            write=written - start,
            commit=time.perf_counter() - written,
            rejected=len(rejects),
        )
        return Outcome(result, counts)

    def _hold_rejects(self, worker: int, encoded: EncodedBatch, rejects: Sequence[Reject]) -> None:
        """Put rejects on the disk before the commit."""
        key = None
        if self._ledger:
            file = self._file_ids[encoded.batch.path]
            key = self._ledger.key_of(file, encoded.table, encoded.batch)
        self._report.hold_rejects(worker, key, rejects)

    def _drop_rejects(self, worker: int) -> None:
        """Forget rejects of an attempt that was not committed."""
        self._limit.drop(worker)
        self._report.drop_rejects(worker)
