"""The ledger: which batches of a migration are committed, kept beside the rows themselves.

A batch's ledger row is written in the batch's own transaction, so either both are there or
neither. Its primary key is the file's content, the table and the batch's first record: whoever
writes the same batch a second time waits for the first transaction and is then refused. For that to
hold, all runs have to cut a file alike; so the batch size is kept as well, in a row for record 0,
and the first run to write it decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.source.files import Batch
from pgload.source.tables import Table, literal, qualified_name

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

NAME = "pgload_ledger"
_KEY = "pgload_ledger_pkey"
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS {NAME} (
        file text NOT NULL,           -- SHA-256 of the file's content
        "table" text NOT NULL,
        first_record bigint NOT NULL, -- in the file, from 1; 0 stands for the file itself
        records integer NOT NULL,     -- of the batch, those that were rejected included
        rejected integer NOT NULL,
        batch_size integer NOT NULL,
        file_name text NOT NULL,
        committed_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT {_KEY} PRIMARY KEY (file, "table", first_record)
    )"""
_CREATED_MEANWHILE = ("23505", "42P07")  # by another run, in the same moment


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of a file and its table."""

    batch_size: int  # how the file is cut
    batches: Mapping[int, int]  # first record → records, of the batches that are committed
    records: int  # committed
    rejected: int


class _Statements(NamedTuple):
    """For one file and table; what is left open is the batch's first record, and a count."""

    insert: str
    reject: str


class Ledger:
    """The ledger in a database, over a connection of its own.

    Other runs that write a file are noticed by a lock that each holds as long as it is connected.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Statements are made for the workers, who may go on when this connection is gone.
        self._begun: dict[tuple[str, Table], _Statements] = {}

    def create(self) -> None:
        """Make the table, in the first schema of the search path, unless it is there."""
        import psycopg2

        try:
            self._run(_CREATE)
        except psycopg2.Error as error:
            if error.pgcode not in _CREATED_MEANWHILE:
                raise

    def read(self, file: str, table: Table) -> Entry | None:
        """What is known of a file's content; None when no run has begun it."""
        if self._one("SELECT to_regclass(%s) IS NULL", (NAME,)):
            return None
        rows = self._run(
            f"SELECT first_record, records, rejected, batch_size FROM {NAME} "
            'WHERE file = %s AND "table" = %s',
            (file, self._table(table)),
        )
        if not rows:
            return None
        batches = {first: records for first, records, _, _ in rows if first}
        rejected = sum(row[2] for row in rows)
        return Entry(rows[0][3], batches, sum(batches.values()) - rejected, rejected)

    def begin(self, file: str, name: str, table: Table, batch_size: int) -> Entry:
        """Enter a file, and say what of it is committed already, and how it is to be cut."""
        first = self._statements(file, name, table, batch_size)
        self._run(first.insert.format(0, 0) + " ON CONFLICT DO NOTHING")
        entry = self.read(file, table)
        assert entry is not None
        self._begun[file, table] = self._statements(file, name, table, entry.batch_size)
        return entry

    def is_empty(self, table: Table) -> bool:
        """Whether the table itself holds no row."""
        return not self._one(f"SELECT EXISTS (SELECT FROM {self._table(table)})")

    def forget(self, file: str, table: Table) -> None:
        """Delete all that is known of a file."""
        self._run(
            f'DELETE FROM {NAME} WHERE file = %s AND "table" = %s', (file, self._table(table))
        )

    def take_part(self, file: str, table: Table) -> bool:
        """Say that this run writes the file; gives whether another one does as well."""
        text = f"{NAME} {file} {self._table(table)}".encode()
        key = int.from_bytes(blake2b(text, digest_size=8).digest(), signed=True)
        alone = self._one("SELECT pg_try_advisory_lock(%s)", (key,))
        self._run("SELECT pg_advisory_lock_shared(%s)", (key,))
        if alone:
            self._run("SELECT pg_advisory_unlock(%s)", (key,))
        return not alone

    def row(self, file: str, table: Table, batch: Batch) -> bytes:
        """The statement that enters a batch."""
        insert = self._begun[file, table].insert
        return insert.format(batch.first_record, len(batch.records)).encode()

    def rejected(self, file: str, table: Table, batch: Batch, count: int) -> bytes:
        """The statement that enters how many of a batch's records were not written."""
        return self._begun[file, table].reject.format(batch.first_record, count).encode()

    def _statements(self, file: str, name: str, table: Table, batch_size: int) -> _Statements:
        names = (file, self._table(table), name)
        quoted = [
            literal(text, self._connection).replace("{", "{{").replace("}", "}}") for text in names
        ]
        return _Statements(
            insert=f'INSERT INTO {NAME} (file, "table", file_name, batch_size, rejected, '
            f"first_record, records) VALUES ({', '.join(quoted)}, {batch_size}, 0, {{}}, {{}})",
            reject=f'UPDATE {NAME} SET rejected = {{1}} WHERE file = {quoted[0]} AND "table" = '
            f"{quoted[1]} AND first_record = {{0}}",
        )

    def _table(self, table: Table) -> str:
        return qualified_name(table, self._connection)

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _one(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        return self._run(statement, values)[0][0]


def is_committed_already(error: Exception) -> bool:
    """Whether the server refused a ledger row because the batch's is there."""
    diag = getattr(error, "diag", None)
    return (
        getattr(error, "pgcode", None) == "23505"
        and diag is not None
        and (diag.constraint_name == _KEY)
    )
