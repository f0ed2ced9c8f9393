"""The ledger: which batches of a migration are committed, kept beside the rows themselves.

A batch's ledger row is written in the batch's own transaction, so either both are there or
neither. Its primary key is the file's content, the table and the batch's first record: whoever
writes the same batch a second time waits for the first transaction and is then refused. For that to
hold, all runs have to cut a file alike; so the batch size is kept as well, in a row for record 0,
and the first run to write it decides.
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
        first_record bigint NOT NULL, -- in the file, from 1; 0 stands for the file itself
        records integer NOT NULL,     -- of the batch, those that were rejected included
        rejected integer NOT NULL,
        batch_size integer NOT NULL,
        file_name text NOT NULL,
        run text NOT NULL,            -- which migration has written it
        committed_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT {_KEY} PRIMARY KEY (file, "table", first_record)
    )"""
_FIND = """
    SELECT format('%%I.%%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)"""
_CREATED_MEANWHILE = ("23505", "42P07")  # by another run, in the same moment


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of a file and its table."""

    batch_size: int  # how the file is cut
    batches: Mapping[int, int]  # first record → records, of the batches that are committed
    starts: Sequence[int]  # their first records, sorted
    records: int  # committed
    rejected: int

    def holds(self, batch: Batch) -> bool:
        """Whether the batch is committed.

        Raises `SourceError` for one of which a part is: the file was cut otherwise, by another
        version of pgload, and to write it would write that part twice.
        """
        first, end = batch.first_record, batch.first_record + len(batch.records)
        at = bisect_left(self.starts, first)
        begun = self.starts[at : bisect_left(self.starts, end)]
        if list(begun) == [first] and self.batches[first] == len(batch.records):
            return True
        last = self.starts[at - 1] if at else 0
        if begun or (last and last + self.batches[last] > first):
            raise SourceError(
                f"{batch.path.name}: records {first} to {end - 1} are committed in part, in other "
                "batches than this version of pgload makes: finish with the one that began"
            )
        return False


NOTHING = Entry(0, {}, (), 0, 0)


class _Statements(NamedTuple):
    """For one file and table; what is left open is the batch's first record, and a count."""

    insert: str
    reject: str
    own: str


class Ledger:
    """The ledger in a database, over a connection of its own.

    Other runs that write a file are noticed by a lock that each holds as long as it is connected.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._run_id = uuid4().hex
        self._name: str | None = None  # with its schema: the search path may differ in workers
        # Statements are made for the workers, who may go on when this connection is gone.
        self._begun: dict[tuple[str, Table], _Statements] = {}

    def create(self) -> None:
        """Make the table, in the first schema of the search path, unless there is one in any."""
        import psycopg2

        if self._found():
            return
        try:
            self._run(_CREATE)
        except psycopg2.Error as error:
            if error.pgcode not in _CREATED_MEANWHILE:
                raise
        self._found()

    def read(self, file: str, table: Table) -> Entry | None:
        """What is known of a file's content; None when no run has begun it."""
        if not self._found():
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
        return Entry(rows[0][3], batches, list(batches), records, rejected)

    def records_of_name(self, name: str, but: str, table: Table) -> int:
        """How many records are committed of files of that name whose content is another one."""
        if not self._found():
            return 0
        return int(
            self._one(
                f"SELECT coalesce(sum(records - rejected), 0) FROM {self._in_query} "
                'WHERE file_name = %s AND file <> %s AND "table" = %s',
                (name, but, self._table(table)),
            )
        )

    def begin(
        self, file: str, name: str, table: Table, batch_size: int, *, anew: bool = False
    ) -> tuple[Entry, bool]:
        """Enter a file. Gives what of it is committed, and whether another run writes it, too.

        `anew` forgets what earlier runs have committed; not while another run writes the file.
        """
        key = self._lock(file, table)
        alone = self._one("SELECT pg_try_advisory_lock(%s)", (key,))
        if not alone:  # where it has just begun, this waits until it has entered the file
            self._run("SELECT pg_advisory_lock_shared(%s)", (key,))
        if alone and anew:
            self._run(
                f'DELETE FROM {self._in_query} WHERE file = %s AND "table" = %s',
                (file, self._table(table)),
            )
        first = self._statements(file, name, table, batch_size)
        self._run(first.insert.format(0, 0) + " ON CONFLICT DO NOTHING")
        entry = self.read(file, table)
        assert entry is not None
        self._begun[file, table] = self._statements(file, name, table, entry.batch_size)
        if alone:
            self._run("SELECT pg_advisory_lock_shared(%s)", (key,))
            self._run("SELECT pg_advisory_unlock(%s)", (key,))
        return entry, not alone

    def forget(self, table: Table) -> str:
        """The statement that forgets a table; it belongs into the transaction that makes it.

        For a new table holds nothing, whatever an earlier one of its name held.
        """
        name = literal(self._table(table), self._connection)
        return f'DELETE FROM {self._name} WHERE "table" = {name}'

    def in_work(self, file: str, table: Table) -> bool:
        """Whether another run writes the file at the moment."""
        return bool(
            self._one(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND classid::bigint << 32 | objid::bigint = %s AND pid <> pg_backend_pid())",
                (self._lock(file, table),),
            )
        )

    def is_empty(self, table: Table) -> bool:
        """Whether the table itself holds no row."""
        return not self._one(f"SELECT EXISTS (SELECT FROM {self._table(table)})")

    # For the workers, who run these over their own connections.

    def row(self, file: str, table: Table, batch: Batch) -> bytes:
        """The statement that enters a batch."""
        insert = self._begun[file, table].insert
        return insert.format(batch.first_record, len(batch.records)).encode()

    def rejected(self, file: str, table: Table, batch: Batch, count: int) -> bytes:
        """The statement that enters how many of a batch's records were not written."""
        return self._begun[file, table].reject.format(batch.first_record, count).encode()

    def own(self, file: str, table: Table, batch: Batch) -> bytes:
        """The query for the records and rejects of a batch; no row if another run wrote it."""
        return self._begun[file, table].own.format(batch.first_record).encode()

    def _statements(self, file: str, name: str, table: Table, batch_size: int) -> _Statements:
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
            reject=f"UPDATE {ledger} SET rejected = {{1}} {where}",
            own=f"SELECT records - rejected, rejected FROM {ledger} {where} AND run = {run}",
        )

    def _found(self) -> bool:
        """Whether there is a ledger; from then on its name is known."""
        if self._name is None:
            for (name,) in self._run(_FIND, (NAME,)):
                self._name = name
        return self._name is not None

    @property
    def _in_query(self) -> str:
        """The ledger's name in a query that has values beside it."""
        return str(self._name).replace("%", "%%")

    def _lock(self, file: str, table: Table) -> int:
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
    """Whether the server refused a ledger row because the batch's is there."""
    constraint = getattr(getattr(error, "diag", None), "constraint_name", None)
    return getattr(error, "pgcode", None) == "23505" and constraint == _KEY
