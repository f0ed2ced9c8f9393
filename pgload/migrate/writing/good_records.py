"""Writes the good records of a batch; the bad ones become rejects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgload.errors import RecordError
from pgload.load.encode import RowEncoder
from pgload.load.methods import Method, make_method
from pgload.load.session import EncodedBatch
from pgload.migrate.counts import NONE, RowCounts
from pgload.migrate.outputs.rejects import Reject
from pgload.migrate.sqlstates import (
    FOREIGN_KEY,
    NOT_NULL,
    UNTRANSLATABLE,
    column_of,
    is_data_error,
    is_value_error,
)
from pgload.migrate.writing.input_check import check_input, pieces
from pgload.schema.table import Table
from pgload.source.reader import Batch
from pgload.source.scan import DECODE_ERRORS

if TYPE_CHECKING:
    import psycopg2
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

_BEGIN, _BEGIN_PART = b"SAVEPOINT pgload_batch", b"SAVEPOINT pgload"
_ROLL_BACK = b"ROLLBACK TO SAVEPOINT pgload_batch"

Send = Callable[[Method, Any, int], RowCounts]


class GoodRecords:
    """Writes a batch's good records in the open transaction.

    `table` is the one that `send` writes to: it is called with a method, what that encoded, and
    the number of records. `clear` is the statement that empties a staging table, if there is one;
    `changes_rows` is whether a trigger or a rule of the table may.
    """

    def __init__(
        self,
        cursor: Cursor,
        encoded: EncodedBatch,
        table: Table,
        *,
        send: Send,
        clear: bytes,
        changes_rows: bool,
    ) -> None:
        self._cursor = cursor
        self._encoded = encoded
        self._table = table
        self._send = send
        self._clear = clear
        self._changes_rows = changes_rows
        self._rejects: dict[int, Reject] = {}  # by the record's position in the batch

    def write(self) -> RowCounts:
        """Write them. Raises `psycopg2.Error` for what is not a data error."""
        positions = range(len(self._encoded.batch.records))
        self._reject_unencodable(positions)
        self._reject_refused()
        self._cursor.execute(b"; ".join([_BEGIN, _BEGIN_PART]))
        counts = self._write_parts(self._encoded.method, positions)
        again = self._retry_references()
        if again is None:
            return counts
        if not self._clear:
            return counts.plus(again)
        # Of records with the same key the order decides, but those were written after later ones.
        self._cursor.execute(b"; ".join([_ROLL_BACK, _BEGIN_PART]))
        return self._write_parts(make_method("unnest", self._table), positions)

    def rejects(self) -> list[Reject]:
        """The bad records, in their order."""
        rejects = [reject for _, reject in sorted(self._rejects.items())]
        offsets = self._encoded.batch.offsets([reject.record for reject in rejects])
        return [replace(reject, offset=offsets[reject.record]) for reject in rejects]

    def _reject_unencodable(self, positions: Sequence[int]) -> None:
        """Reject what the method itself cannot encode."""
        batch, method = self._encoded.batch, self._encoded.method
        if not isinstance(self._encoded.payload, RecordError):
            return
        for at in positions:
            try:
                method.encode(batch.select([at]))
            except RecordError as error:
                self._reject(at, error, error.column)

    def _reject_refused(self) -> None:
        """Reject all records with a value that its column's type refuses, without writing them."""
        table, batch = self._encoded.table.name, self._encoded.batch
        for at, refusal in check_input(self._cursor, self._table, batch).items():
            reject = Reject(
                file=batch.path.name,
                record=batch.numbers[at],
                offset=None,
                table=table,
                column=refusal.column,
                sqlstate=refusal.sqlstate,
                message=refusal.message,
                data=batch.records[at],
            )
            self._rejects.setdefault(at, reject)

    def _write_parts(self, method: Method, positions: Sequence[int]) -> RowCounts:
        """Write the records at these positions at once; where that is a data error, in parts.

        Those that are rejected already are left out.
        """
        import psycopg2

        positions = [at for at in positions if at not in self._rejects]
        if not positions:
            return NONE
        try:
            payload = method.encode(self._encoded.batch.select(positions))
            counts = self._send(method, payload, len(positions))
        except (psycopg2.Error, RecordError) as error:
            if not is_data_error(error):
                raise
            self._cursor.execute("ROLLBACK TO SAVEPOINT pgload")
            if len(positions) == 1:
                if method.name == "json" and getattr(error, "pgcode", None) == UNTRANSLATABLE:
                    # The server reads the fields that have no column, too; other methods do not.
                    return self._write_parts(make_method("unnest", self._table), positions)
                column = column_of(error)
                if column is None and is_value_error(error):
                    column = self._find_column(positions)
                self._reject(positions[0], error, column)
                self._reject_same_nulls(self._rejects[positions[0]])
                return NONE
            counts = NONE
            for part in pieces(positions):
                counts = counts.plus(self._write_parts(method, part))
            return counts
        after = [b"RELEASE SAVEPOINT pgload", self._clear, _BEGIN_PART]
        self._cursor.execute(b"; ".join(filter(None, after)))
        return counts

    def _reject_same_nulls(self, found: Reject) -> None:
        """Reject all records whose value is missing as in `found`, for the same reason.

        Not where a trigger may fill some of them, or a partition requires what others do not.
        """
        name_in = f'relation "{self._encoded.table.name}"'
        if found.sqlstate != NOT_NULL or self._changes_rows or name_in not in found.message:
            return
        batch = self._encoded.batch
        encoder = RowEncoder([each for each in self._table.columns if each.name == found.column])
        for at, number in enumerate(batch.numbers):
            try:
                values = encoder.values(batch, at)
            except (RecordError, *DECODE_ERRORS):
                continue
            if all(value is None for value in values):
                reject = replace(found, record=number, data=batch.records[at])
                self._rejects.setdefault(at, reject)

    def _retry_references(self) -> RowCounts | None:
        """Write records again that refer to rows which have been written after them.

        In one statement, at whose end the server checks them together: so every method takes the
        same records of a batch. Those that fail still stay rejects; None if all of them do.
        """
        counts, written = NONE, False
        method = make_method("unnest", self._table)
        waiting = self._rejected_by(FOREIGN_KEY)
        while waiting:
            for at in waiting:
                del self._rejects[at]
            counts = counts.plus(self._write_parts(method, waiting))
            before, waiting = waiting, self._rejected_by(FOREIGN_KEY)
            if len(waiting) == len(before):
                break
            written = True
        return counts if written else None

    def _rejected_by(self, sqlstate: str) -> list[int]:
        return sorted(at for at, reject in self._rejects.items() if reject.sqlstate == sqlstate)

    def _reject(self, at: int, error: psycopg2.Error | RecordError, column: str | None) -> None:
        part = self._encoded.batch.select([at])
        self._rejects[at] = _make_reject(self._encoded.table.name, part, column, error)

    def _find_column(self, positions: Sequence[int]) -> str | None:
        """The column whose value is refused, from COPY's error context; None if it names none."""
        import psycopg2

        copy = make_method("copy", self._table)
        try:
            copy.write(self._cursor, copy.encode(self._encoded.batch.select(positions)))
        except (psycopg2.Error, RecordError) as error:
            return column_of(error)
        finally:
            self._cursor.execute("ROLLBACK TO SAVEPOINT pgload")
        return None


def _make_reject(
    table: str, part: Batch, column: str | None, error: psycopg2.Error | RecordError
) -> Reject:
    """The reject of a part of one record, without its offset."""
    message = error.reason if isinstance(error, RecordError) else error.diag.message_primary
    return Reject(
        file=part.path.name,
        record=part.first_record,
        offset=None,
        table=table,
        column=column,
        sqlstate=getattr(error, "pgcode", None),
        message=message or str(error),
        data=part.records[0],
    )
