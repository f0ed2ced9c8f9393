"""The rows of files against those of their table, compared by the server.

The server turns every record into a row with its JSON functions, not with the encoders that loaded
it, and hashes it as it hashes the rows of the table. Equal sums of the hashes show that the rows
are equal. Where they are not, or other rows are in the table too, the hashes of the records are
put into a temporary table with their numbers, and joined with those of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Raw

from pgload.contract import to_json
from pgload.errors import RecordError
from pgload.load.encode import RowEncoder
from pgload.load.server_json import json_literal, rows_of_json
from pgload.load.verify import ROW_HASH, Fingerprint
from pgload.migrate.sqlstates import is_data_error
from pgload.schema.table import Column, Table, column_names, literal, qualified_name
from pgload.source.reader import Batch
from pgload.source.scan import DECODE_ERRORS

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

FETCHED = 10_000  # rows at a time
RECORD_HASH = 140_000  # the server version from which records can be hashed by their values
_EXPECTED, _PRESENT, _UNEVEN = (
    f"pg_temp.pgload_{name}" for name in ("expected", "present", "uneven")
)
# Everything is dropped at the end of the transaction, as a pool may give the session to others.
_CREATE = (
    "BEGIN; CREATE TEMPORARY TABLE pgload_expected (file integer, record bigint, hash bigint) "
    "ON COMMIT DROP; SET LOCAL statement_timeout = 0; SAVEPOINT pgload"
)
_ADD = (
    f"INSERT INTO {_EXPECTED} SELECT {{file}}, {{first}} - 1 + pg_catalog.row_number() OVER (), "
    "{hash} FROM ("
)
_ADDED = b") AS r; RELEASE SAVEPOINT pgload; SAVEPOINT pgload"
# How often the table has each hash that is expected, and, under NULL, all others.
_COUNT = f"""
    ANALYZE {_EXPECTED};
    CREATE TEMPORARY TABLE pgload_present ON COMMIT DROP AS
    SELECT e.hash, pg_catalog.count(*) AS n, pg_catalog.sum(t.hash::numeric) AS checksum
    FROM (SELECT {{hash}} AS hash FROM (SELECT {{columns}} FROM {{table}}) AS r) AS t
    LEFT JOIN (SELECT DISTINCT hash FROM {_EXPECTED}) AS e USING (hash) GROUP BY 1;
    ANALYZE {_PRESENT}"""
_SUM = f"""
    SELECT coalesce(pg_catalog.sum(n), 0), coalesce(pg_catalog.sum(checksum), 0) FROM {_PRESENT}"""
_ABSENT = f"""
    SELECT e.file, e.record FROM {_EXPECTED} AS e LEFT JOIN {_PRESENT} AS p USING (hash)
    WHERE p.n IS NULL ORDER BY 1, 2"""
# Hashes that both have, but not equally often.
_COUNT_UNEVEN = f"""
    CREATE TEMPORARY TABLE pgload_uneven ON COMMIT DROP AS
    SELECT hash, p.n - e.n AS more FROM {_PRESENT} AS p JOIN (
        SELECT hash, pg_catalog.count(*) AS n FROM {_EXPECTED} GROUP BY 1
    ) AS e USING (hash) WHERE p.n <> e.n"""
_TOO_FEW = f"""
    SELECT e.hash, -u.more, e.file, e.record FROM {_UNEVEN} AS u JOIN {_EXPECTED} AS e USING (hash)
    WHERE u.more < 0 ORDER BY 1, 3 DESC, 4 DESC"""
_TOO_MANY = f"SELECT coalesce(pg_catalog.sum(more), 0) FROM {_UNEVEN} WHERE more > 0"
_EXAMPLE = f"""
    SELECT e.file, e.record FROM {_UNEVEN} AS u JOIN {_EXPECTED} AS e USING (hash)
    WHERE u.more > 0 ORDER BY 1, 2 LIMIT 1"""
# Columns that the server fills where a record has no value.
_DEFAULTS = """
    SELECT a.attname::text FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = pg_catalog.to_regclass(%s) AND a.attnum > 0
    AND (a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL)"""

# The collations of text columns, where they are not those of the type.
_COLLATIONS = """
    SELECT a.attname::text, pg_catalog.quote_ident(n.nspname) || '.' ||
        pg_catalog.quote_ident(c.collname)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
    WHERE a.attrelid = pg_catalog.to_regclass(%s) AND a.attnum > 0
    AND c.collname <> 'default'"""

Lacks = Callable[[int, int], None]  # called with a file's index and a record's number


class Surplus(NamedTuple):
    """Rows that are in the table more often than their records are in the files."""

    rows: int
    example: tuple[int, int] | None  # a file's index and a record's number


@dataclass(frozen=True)
class FileRows:
    """A file whose records are compared over the columns of `table`."""

    index: int
    table: Table
    head: bytes  # the SQL before the records, of a SELECT of their rows
    tail: bytes


def compared_tables(
    tables: Sequence[Table], key: Sequence[str] | None, connection: Connection
) -> list[Table]:
    """For each file's table, the one with the columns that are compared, in one order for all.

    That is the `key`, or else every column that any of the files fills, but for those with a
    default that this file does not fill.
    """
    if key is not None:
        return [_only(table, key) for table in tables]
    columns: dict[str, Column] = {}
    for table in tables:
        columns |= {column.name: Column(column.name, column.type) for column in table.columns}
    with connection.cursor() as cursor:
        cursor.execute(_DEFAULTS, (qualified_name(tables[0], connection),))
        filled = {name for (name,) in cursor.fetchall()}
    found = []
    for table in tables:
        own = {column.name: column for column in table.columns}
        others = {name: column for name, column in columns.items() if name not in filled}
        both = others | own
        found.append(replace(table, columns=tuple(both[name] for name in sorted(both)), key=()))
    return found


def _only(table: Table, key: Sequence[str]) -> Table:
    columns = sorted(table.columns, key=lambda column: column.name)
    of_key = tuple(column for column in columns if column.name in key)
    # A file without the whole key, which has not been the key for it: all of its columns.
    return replace(table, columns=of_key if len(of_key) == len(key) else tuple(columns))


def file_rows(index: int, table: Table, connection: Connection) -> FileRows:
    """The file of that index, whose records fill `table`."""
    before, after = rows_of_json(table, connection, stored=True)
    return FileRows(index, table, before.encode(), after.encode())


def key_hash(table: Table, connection: Connection) -> str:
    """The hash of a row r that has only a key, the same for keys that the server holds to be equal.

    So `1.0` and `1.00` of a numeric column are one key. Where the server has no such function, the
    hash of the key's text: before PostgreSQL 14, and for types without one.
    """
    import psycopg2

    if connection.server_version < RECORD_HASH:
        return ROW_HASH
    columns = list(zip(column_names(table, connection), table.columns, strict=True))
    nulls = ", ".join(f"NULL::{column.type} AS {name}" for name, column in columns)
    with connection.cursor() as cursor:
        cursor.execute(_COLLATIONS, (qualified_name(table, connection),))
        collate = {name: f" COLLATE {collation}" for name, collation in cursor.fetchall()}
        values = ", ".join(f"r.{name}{collate.get(column.name, '')}" for name, column in columns)
        function = f"pg_catalog.hash_record_extended(ROW({values}), 0)"
        try:
            cursor.execute(f"SELECT {function} FROM (SELECT {nulls}) AS r")
        except psycopg2.errors.UndefinedFunction:
            return ROW_HASH
    return function


def count_rows(table: Table, connection: Connection) -> int:
    """How many rows the table has."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_catalog.count(*) FROM {qualified_name(table, connection)}")
        return int(cursor.fetchall()[0][0])


def exists(table: Table, connection: Connection) -> bool:
    """Whether there is such a table."""
    name = literal(qualified_name(table, connection), connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_catalog.to_regclass({name}) IS NOT NULL")
        return bool(cursor.fetchall()[0][0])


def sum_records(
    file: FileRows, first: int, records: Sequence[Raw], connection: Connection
) -> tuple[Fingerprint, list[int]]:
    """The fingerprint of the records' rows, and the numbers of those that cannot become rows.

    `first` is the number of the first record. Writes nothing.
    """
    head = f"SELECT pg_catalog.count(*), coalesce(sum({ROW_HASH}::numeric), 0) FROM (".encode()
    found: list[Fingerprint] = []

    with connection.cursor() as cursor:

        def add(_first: int, part: Sequence[Raw]) -> None:
            cursor.execute(head + file.head + json_literal(part) + file.tail + b") AS r")
            found.extend(Fingerprint(*map(int, row)) for row in cursor.fetchall())

        bad = list(_unusable(add, lambda: None, file.table, first, records))
    return Fingerprint(sum(f.rows for f in found), sum(f.checksum for f in found)), bad


class HashJoin:
    """Finds the records whose rows are not in the table, in a transaction of its own.

    with HashJoin(connection, ROW_HASH) as join:
        bad = join.add(file, 1, records)  # for all records of all files
        total = join.count(table)
        join.find_absent(lacks)
    """

    def __init__(self, connection: Connection, row_hash: str) -> None:
        self._connection = connection
        self._hash = row_hash  # the SQL expression of a row r, ROW_HASH or a `key_hash`

    def __enter__(self) -> HashJoin:
        self._cursor = self._connection.cursor()
        self._cursor.execute(_CREATE)
        return self

    def __exit__(self, *_: object) -> None:
        from pgload.load.session import Session

        if not self._connection.closed:
            Session(lambda: self._connection, 0).roll_back()

    def add(self, file: FileRows, first: int, records: Sequence[Raw]) -> list[int]:
        """Add records to those expected; returns the numbers of those that cannot become rows."""

        def insert(first: int, part: Sequence[Raw]) -> None:
            head = _ADD.format(file=file.index, first=first, hash=self._hash).encode()
            self._cursor.execute(head + file.head + json_literal(part) + file.tail + _ADDED)

        def undo() -> None:
            self._cursor.execute("ROLLBACK TO SAVEPOINT pgload")

        return list(_unusable(insert, undo, file.table, first, records))

    def count(self, table: Table) -> Fingerprint:
        """Count the rows of the table; returns the fingerprint of all of them."""
        self._cursor.execute(
            _COUNT.format(
                hash=self._hash,
                columns=", ".join(column_names(table, self._connection)),
                table=qualified_name(table, self._connection),
            )
        )
        self._cursor.execute(_SUM)
        return Fingerprint(*map(int, self._cursor.fetchall()[0]))

    def find_absent(self, lacks: Lacks) -> None:
        """Report the records of which the table has no row at all, in their order."""
        for file, record in self._fetch(_ABSENT):
            lacks(file, record)

    def find_uneven(self, lacks: Lacks, likely: Sequence[Callable[[int, int], bool]]) -> Surplus:
        """Report as many of equal records as the table has too few rows of.

        Which of them it is cannot be known. Those come first for which the first function of
        `likely`, called with file and record, is true, then the second one; of the others the last.
        """
        self._cursor.execute(_COUNT_UNEVEN)
        for (_, too_few), group in groupby(self._fetch(_TOO_FEW), lambda row: row[:2]):
            records = [(file, record) for *_, file, record in group]
            for is_likely in (*likely, _any):
                others = []
                for each in records:
                    if too_few and is_likely(*each):
                        lacks(*each)
                        too_few -= 1
                    else:
                        others.append(each)
                records = others
        self._cursor.execute(_TOO_MANY)
        rows = int(self._cursor.fetchall()[0][0])
        self._cursor.execute(_EXAMPLE)
        return Surplus(rows, self._cursor.fetchone())

    def _fetch(self, query: str) -> Iterator[tuple[int, ...]]:
        self._cursor.execute(f"DECLARE pgload_rows CURSOR FOR {query}")
        while True:
            self._cursor.execute(f"FETCH {FETCHED} FROM pgload_rows")
            rows = self._cursor.fetchall()
            if not rows:
                break
            yield from rows
        self._cursor.execute("CLOSE pgload_rows")


def _any(_file: int, _record: int) -> bool:
    return True


def _unusable(
    use: Callable[[int, Sequence[Raw]], None],
    undo: Callable[[], None],
    table: Table,
    first: int,
    records: Sequence[Raw],
) -> Iterator[int]:
    """Call `use(first, records)`, on halves where that is a data error; the numbers that fail."""
    if _succeeds(use, undo, first, records):
        return
    if len(records) == 1:
        fields = _fields(table, records[0])
        if fields is None or not _succeeds(use, undo, first, [fields]):
            yield first
    else:
        middle = len(records) // 2
        yield from _unusable(use, undo, table, first, records[:middle])
        yield from _unusable(use, undo, table, first + middle, records[middle:])


def _succeeds(
    use: Callable[[int, Sequence[Raw]], None],
    undo: Callable[[], None],
    first: int,
    records: Sequence[Raw],
) -> bool:
    import psycopg2

    try:
        use(first, records)
    except (psycopg2.Error, ValueError) as error:  # ValueError: a NUL byte
        if isinstance(error, psycopg2.Error):
            if not is_data_error(error):
                raise
            undo()
        return False
    return True


def _fields(table: Table, record: Raw) -> Raw | None:
    """The record without the fields that have no column, which the server would read, too.

    None where it cannot be read.
    """
    try:
        (tokens,) = RowEncoder(table.columns).tokens(Batch(Path(), 1, [record]))
    except (RecordError, *DECODE_ERRORS):
        return None
    pairs = zip(table.columns, tokens, strict=True)
    return Raw(to_json({column.source: Raw(token) for column, token in pairs}))
