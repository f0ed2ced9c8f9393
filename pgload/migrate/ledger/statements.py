"""Statements of the ledger that the workers run, in the transaction of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgload.migrate.counts import RowCounts
from pgload.migrate.ledger.entries import BatchKey, FileKey, LedgerFile
from pgload.migrate.ledger.table import NAME
from pgload.schema.table import Table, literal, qualified_name
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


class BatchStatements:
    """The statements for a batch of a file that this run has begun; `file` is its SHA-256.

    They hold all names and values as literals, since the ledger's connection may be lost when a
    worker needs them.
    """

    def __init__(self, run: str) -> None:
        self.ledger: str | None = None  # its qualified name
        self._run = run
        self._files: dict[FileKey, tuple[str, int]] = {}  # the name as a literal; batch size
        self._tables: dict[Table, tuple[str, str]] = {}  # the qualified name, and as a literal

    def add_file(self, file: LedgerFile, batch_size: int, connection: Connection) -> None:
        """Add a file that this run has begun with this batch size."""
        name = qualified_name(file.table, connection)
        self._tables[file.table] = (name, literal(name, connection))
        self._files[file.key] = (literal(file.name, connection), batch_size)

    def key_of(self, file: str, table: Table, batch: Batch) -> BatchKey:
        """The key of a batch's row."""
        return BatchKey(file, self._tables[table][0], batch.first_record, self._run)

    def insert(self, file: str, table: Table, batch: Batch) -> bytes:
        """The statement that records a batch."""
        name, batch_size = self._files[file, table]
        return (
            f'INSERT INTO {self.ledger} (file, "table", file_name, run, batch_size, rejected, '
            f"first_record, records) VALUES ('{file}', {self._tables[table][1]}, {name}, "
            f"'{self._run}', {batch_size}, 0, {batch.first_record}, {len(batch.records)})"
        ).encode()

    def set_rejected(self, file: str, table: Table, batch: Batch, count: int) -> bytes:
        """The statement that records how many of a batch's records were rejected."""
        where = self._where(file, table, batch)
        return f"UPDATE {self.ledger} SET rejected = {count} WHERE {where}".encode()

    def add_counts(self, file: str, table: Table, batch: Batch, counts: str) -> str:
        """The statement that adds a relation's one row, a `RowCounts`, to a batch's row."""
        sums = ", ".join(f"{name} = l.{name} + c.{name}" for name in RowCounts._fields)
        return (
            f"UPDATE {self.ledger} AS l SET {sums} FROM {counts} AS c "
            f"WHERE {self._where(file, table, batch)} AND c.skipped + c.updated + c.suppressed > 0"
        )

    def select(self, file: str, table: Table, batch: Batch) -> bytes:
        """The query for a batch's records, rejects and `RowCounts`.

        It returns no row if another run has written the batch.
        """
        where = self._where(file, table, batch)
        return (
            f"SELECT records, rejected, skipped, updated, suppressed FROM {self.ledger} "
            f"WHERE {where} AND run = '{self._run}'"
        ).encode()

    def _where(self, file: str, table: Table, batch: Batch) -> str:
        return (
            f"file = '{file}' AND \"table\" = {self._tables[table][1]} "
            f"AND first_record = {batch.first_record}"
        )


def is_already_committed(error: Exception) -> bool:
    """Whether the server refused a ledger row because the batch is recorded already."""
    diag = getattr(error, "diag", None)
    return (
        getattr(error, "pgcode", None) == "23505"
        and getattr(diag, "table_name", None) == NAME
        and getattr(diag, "constraint_name", None) == f"{NAME}_pkey"
    )
