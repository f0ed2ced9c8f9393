"""The ledger: a table on the target that records which batches are committed.

A batch's ledger row is written in the batch's own transaction, so both are committed or neither.
Its primary key is the file's content, the table and the batch's first record: a second transaction
that writes the same batch waits for the first one and then fails. For that, all runs have to cut a
file into the same batches, so the batch size is recorded too, in a row for record 0, by the first
run that writes the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from pgload.errors import SourceError
from pgload.schema.table import Table, literal, qualified_name
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

NAME = "pgload_ledger"
_KEY = "pgload_ledger_pkey"
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS {NAME} (
        file text NOT NULL,           -- SHA-256 of the file's content
        "table" text NOT NULL,
        first_record bigint NOT NULL, -- of the batch, from 1; 0 in the row of the file itself
        records integer NOT NULL,     -- in the batch, including rejected ones
        rejected integer NOT NULL,
        batch_size integer NOT NULL,
        file_name text NOT NULL,
        run text NOT NULL,            -- the migration that wrote the batch
        committed_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT {_KEY} PRIMARY KEY (file, "table", first_record)
    )"""
_FIND = """
    SELECT format('%%I.%%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)"""
# Unique violation and duplicate table: another run created it at the same moment.
_ALREADY_CREATED = ("23505", "42P07")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger records of a file and its table."""

    batch_size: int  # that the file is cut by; 0: none is recorded
    batches: Mapping[int, int]  # first record → records, of the committed batches
    starts: Sequence[int]  # their first records, sorted
    records: int  # committed
    rejected: int

    def holds(self, batch: Batch) -> bool:
        """Whether the batch is committed.

        Raises `SourceError` for a batch that is committed in part: the file was cut differently,
        by another version of pgload, and writing the batch would write that part twice.
        """
        first, end = batch.first_record, batch.first_record + len(batch.records)
        at = bisect_left(self.starts, first)
        within = self.starts[at : bisect_left(self.starts, end)]
        if list(within) == [first] and self.batches[first] == len(batch.records):
            return True
        previous = self.starts[at - 1] if at else 0
        if within or (previous and previous + self.batches[previous] > first):
            raise SourceError(
                f"{batch.path.name}: records {first} to {end - 1} are committed in part, in "
                "batches that another version of pgload cut: resume with that version"
            )
        return False


EMPTY = Entry(batch_size=0, batches={}, starts=(), records=0, rejected=0)


class _Statements(NamedTuple):
    """Templates for one file and table; the placeholders are the first record, and a count."""

    insert: str
    set_rejected: str
    select: str


class Ledger:
    """The ledger in a database, over a connection of its own.

    Each run holds a shared advisory lock on every file it writes, as long as it is connected; so
    other runs notice it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run_id = uuid4().hex
        self._name: str | None = None  # with its schema: the workers' search path may differ
        # Made once, since the workers need them even when this connection is lost.
        self._statements: dict[tuple[str, Table], _Statements] = {}

    def create(self) -> None:
        """Create the table in the first schema of the search path, unless one of them has it."""
        import psycopg2

        if self._exists():
            return
        try:
            self._run(_CREATE)
        except psycopg2.Error as error:
            if error.pgcode not in _ALREADY_CREATED:
                raise
        self._exists()

    def read(self, file: str, table: Table) -> Entry | None:
        """What is recorded of a file's content; None when no run has begun it."""
        if not self._exists():
            return None
        rows = self._run(
            f"SELECT first_record, records, rejected, batch_size FROM {self._in_query} "
            'WHERE file = %s AND "table" = %s ORDER BY first_record',
            (file, self._table(table)),
        )
        if not rows:
            return None
        batches = {first: records for first, records, _, _ in rows if first}
        rejected = sum(row[2] for row in rows)
        records = sum(batches.values()) - rejected
        return Entry(
            batch_size=rows[0][3],
            batches=batches,
            starts=list(batches),
            records=records,
            rejected=rejected,
        )

    def records_of_other_versions(self, name: str, file: str, table: Table) -> int:
        """How many records are committed of files with this name and other content."""
        if not self._exists():
            return 0
        return int(
            self._one(
                f"SELECT coalesce(sum(records - rejected), 0) FROM {self._in_query} "
                'WHERE file_name = %s AND file <> %s AND "table" = %s',
                (name, file, self._table(table)),
            )
        )

    def begin(
        self, file: str, name: str, table: Table, batch_size: int, *, restart: bool = False
    ) -> tuple[Entry, bool]:
        """Record a file. Gives what of it is committed, and whether another run writes it too.

        `restart` deletes what earlier runs have recorded, unless another run writes the file now.
        """
        key = self._lock_key(file, table)
        alone = self._one("SELECT pg_try_advisory_lock(%s)", (key,))
        if not alone:  # waits until a run that has just begun has recorded the file
            self._run("SELECT pg_advisory_lock_shared(%s)", (key,))
        if alone and restart:
            self._run(
                f'DELETE FROM {self._in_query} WHERE file = %s AND "table" = %s',
                (file, self._table(table)),
            )
        statements = self._make_statements(file, name, table, batch_size)
        self._run(statements.insert.format(0, 0) + " ON CONFLICT DO NOTHING")
        entry = self.read(file, table)
        assert entry is not None
        self._statements[file, table] = self._make_statements(file, name, table, entry.batch_size)
        if alone:
            self._run("SELECT pg_advisory_lock_shared(%s)", (key,))
            self._run("SELECT pg_advisory_unlock(%s)", (key,))
        return entry, not alone

    def delete_statement(self, table: Table) -> str:
        """The statement that deletes what is recorded of a table.

        It belongs into the transaction that creates the table: a new one is empty, whatever an
        earlier table of the same name held.
        """
        name = literal(self._table(table), self._connection)
        return f'DELETE FROM {self._name} WHERE "table" = {name}'

    def is_being_written(self, file: str, table: Table) -> bool:
        """Whether another run writes the file now."""
        return bool(
            self._one(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND classid::bigint << 32 | objid::bigint = %s AND pid <> pg_backend_pid())",
                (self._lock_key(file, table),),
            )
        )

    def is_empty(self, table: Table) -> bool:
        """Whether the table itself has no rows."""
        return not self._one(f"SELECT EXISTS (SELECT FROM {self._table(table)})")

    # Statements that the workers run over their own connections.

    def insert_statement(self, file: str, table: Table, batch: Batch) -> bytes:
        """Records a batch."""
        statement = self._statements[file, table].insert
        return statement.format(batch.first_record, len(batch.records)).encode()

    def rejected_statement(self, file: str, table: Table, batch: Batch, count: int) -> bytes:
        """Records how many of a batch's records were rejected."""
        return self._statements[file, table].set_rejected.format(batch.first_record, count).encode()

    def select_statement(self, file: str, table: Table, batch: Batch) -> bytes:
        """Gives a batch's committed and rejected records; no row if another run wrote it."""
        return self._statements[file, table].select.format(batch.first_record).encode()

    def _make_statements(self, file: str, name: str, table: Table, batch_size: int) -> _Statements:
        names = (file, self._table(table), name, self._run_id)
        file, of_table, name, run = (
            literal(text, self._connection).replace("{", "{{").replace("}", "}}") for text in names
        )
        ledger = str(self._name).replace("{", "{{").replace("}", "}}")
        where = f'WHERE file = {file} AND "table" = {of_table} AND first_record = {{0}}'
        return _Statements(
            insert=f'INSERT INTO {ledger} (file, "table", file_name, run, batch_size, rejected, '
            f"first_record, records) VALUES ({file}, {of_table}, {name}, {run}, {batch_size}, 0, "
            "{}, {})",
            set_rejected=f"UPDATE {ledger} SET rejected = {{1}} {where}",
            select=f"SELECT records - rejected, rejected FROM {ledger} {where} AND run = {run}",
        )

    def _exists(self) -> bool:
        """Whether the database has a ledger; if so, remembers its name."""
        if self._name is None:
            for (name,) in self._run(_FIND, (NAME,)):
                self._name = name
        return self._name is not None

    @property
    def _in_query(self) -> str:
        """The ledger's name in a query with parameters."""
        return str(self._name).replace("%", "%%")

    def _lock_key(self, file: str, table: Table) -> int:
        text = f"{NAME} {file} {self._table(table)}".encode()
        return int.from_bytes(blake2b(text, digest_size=8).digest(), signed=True)

    def _table(self, table: Table) -> str:
        return qualified_name(table, self._connection)

    def _run(self, statement: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _one(self, statement: str, values: tuple[Any, ...] | None = None) -> Any:
        return self._run(statement, values)[0][0]


def is_already_committed(error: Exception) -> bool:
    """Whether the server refused a ledger row because the batch is recorded already."""
    constraint = getattr(getattr(error, "diag", None), "constraint_name", None)
    return getattr(error, "pgcode", None) == "23505" and constraint == _KEY
