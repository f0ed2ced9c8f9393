"""`--verify`: whether the rows of the files are in their tables, compared by the server.

The server turns every record into a row with its JSON functions, not with the encoders that loaded
it, and hashes it as it hashes the rows of the table. So rows that were there before do not matter,
and a row that was lost or changed is missing. After `--on-conflict` only the keys are compared,
since a later record may have replaced the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from pgload.load.server_json import json_literal, rows_of_json
from pgload.load.verify import fingerprint
from pgload.migrate.ledger import EMPTY, Entry, FileKey
from pgload.migrate.plan import FilePlan
from pgload.migrate.sqlstates import is_data_error
from pgload.schema.table import Table, column_names, qualified_name
from pgload.source.reader import read_batches

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

BATCH = 1000  # records that the server hashes at a time
_EXPECTED = "pg_temp.pgload_expected"
_CREATE = (
    f"DROP TABLE IF EXISTS {_EXPECTED}; "
    "CREATE TEMPORARY TABLE pgload_expected (file integer, hash bigint)"
)
_HASH = "pg_catalog.hashtextextended((r.*)::text, 0)"
# Of equal records as many have to be there as the files hold; with keys, one row is enough.
_MISSING = """
    WITH there AS (
        SELECT {hash} AS hash, count(*) AS n FROM (SELECT {columns} FROM {table}) AS r GROUP BY 1
    ), expected AS (
        SELECT file, hash, row_number() OVER (PARTITION BY hash ORDER BY file) AS at
        FROM pg_temp.pgload_expected
    )
    SELECT e.file, count(*) FILTER (WHERE t.n IS NULL OR ({all} AND e.at > t.n))
    FROM expected e LEFT JOIN there t USING (hash) GROUP BY 1"""


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """What is in the table of a file's records."""

    file: str
    table: str
    read: int
    found: int  # records whose row is in the table; of equal ones as many as there are
    rejected: int
    skipped: int
    updated: int
    suppressed: int


@dataclass(frozen=True, slots=True)
class VerifiedTable:
    """A table and the files that went into it; `verified`: no row is missing unexplained."""

    table: str
    rows: int  # in the table, whoever wrote them
    checksum: str  # the sum of the rows' hashes, which ignores their order
    by_key: bool  # whether only the keys were compared
    missing: int  # records without a row that were neither rejected nor suppressed
    verified: bool
    files: Sequence[VerifiedFile]


def verify(
    files: Sequence[FilePlan],
    entries: Mapping[FileKey, Entry],
    connection: Connection,
    *,
    by_key: bool,
) -> list[VerifiedTable]:
    """Compare the files with their tables; `entries` is what the ledger records of the files.

    `by_key` compares only the columns of the tables' keys.
    """
    tables: dict[tuple[str | None, str], list[FilePlan]] = {}
    for file in files:
        tables.setdefault((file.table.schema, file.table.name), []).append(file)
    return [_verify_table(each, entries, connection, by_key=by_key) for each in tables.values()]


def _verify_table(
    files: Sequence[FilePlan],
    entries: Mapping[FileKey, Entry],
    connection: Connection,
    *,
    by_key: bool,
) -> VerifiedTable:
    found: list[VerifiedFile] = []
    whole = files[0].table
    # Files with the same fields are compared over the same columns.
    by_columns: dict[Table, list[FilePlan]] = {}
    for file in files:
        compared = _key_only(file.table) if by_key else file.table
        by_columns.setdefault(compared, []).append(file)
    for table, group in by_columns.items():
        found += _verify_files(table, group, entries, connection, by_key=by_key)
    rows, checksum = fingerprint(whole, connection)
    lacking = sum(each.read - each.found for each in found)
    explained = sum(each.rejected for each in found)
    # A record that is skipped has its key in the table, so it is found by its key.
    explained += sum(each.suppressed for each in found)
    return VerifiedTable(
        table=whole.name,
        rows=rows,
        checksum=str(checksum),
        by_key=by_key,
        missing=max(lacking - explained, 0),
        verified=lacking <= explained,
        files=sorted(found, key=lambda each: each.file),
    )


def _key_only(table: Table) -> Table:
    """The table with the columns of its key."""
    return replace(table, columns=tuple(c for c in table.columns if c.name in table.key))


def _verify_files(
    table: Table,
    files: Sequence[FilePlan],
    entries: Mapping[FileKey, Entry],
    connection: Connection,
    *,
    by_key: bool,
) -> list[VerifiedFile]:
    before, after = rows_of_json(table, connection, stored=True)
    read = dict.fromkeys(range(len(files)), 0)
    hashed = dict.fromkeys(range(len(files)), 0)
    with connection.cursor() as cursor:
        cursor.execute(_CREATE)
        for number, file in enumerate(files):
            head = f"INSERT INTO {_EXPECTED} SELECT {number}, {_HASH} FROM ({before}".encode()
            tail = f"{after}) AS r".encode()
            for batch in read_batches(file.scan.source, BATCH, file.scan.stamp, file.scan.form):
                read[number] += len(batch.records)
                hashed[number] += _hash(cursor, head, list(batch.records), tail)
        cursor.execute(
            _MISSING.format(
                hash=_HASH,
                columns=", ".join(column_names(table, connection)),
                table=qualified_name(table, connection),
                all="false" if by_key else "true",
            )
        )
        missing: dict[int, int] = dict(cursor.fetchall())
        cursor.execute(f"DROP TABLE {_EXPECTED}")
    found = []
    for number, file in enumerate(files):
        entry = entries.get(file.in_ledger.key, EMPTY)
        found.append(
            VerifiedFile(
                file=file.path.name,
                table=table.name,
                read=read[number],
                found=hashed[number] - missing.get(number, 0),
                rejected=entry.rejected,
                **entry.counts._asdict(),
            )
        )
    return found


def _hash(cursor: Cursor, head: bytes, records: Sequence[Raw], tail: bytes) -> int:
    """Hash records; gives how many of them can become rows."""
    import psycopg2

    try:
        cursor.execute(head + json_literal(records) + tail)
    except (psycopg2.Error, ValueError) as error:  # ValueError: a NUL byte
        if isinstance(error, psycopg2.Error) and not is_data_error(error):
            raise
        if len(records) == 1:
            return 0
        middle = len(records) // 2
        return _hash(cursor, head, records[:middle], tail) + _hash(
            cursor, head, records[middle:], tail
        )
    return len(records)


def describe(tables: Sequence[VerifiedTable]) -> list[str]:
    """A line for each table."""
    lines = []
    for table in tables:
        read = sum(each.read for each in table.files)
        found = sum(each.found for each in table.files)
        what = "keys" if table.by_key else "rows"
        bad = [each for each in table.files if each.read - each.found > each.rejected]
        where = f", in {', '.join(each.file for each in bad[:3])}" if table.missing else ""
        lines.append(
            f"{'verified' if table.verified else 'not verified'}: {table.table} has the {what} of "
            f"{found:,} of {read:,} records; {table.missing:,} are missing{where}"
        )
    return lines


def to_results(tables: Sequence[VerifiedTable]) -> dict[str, Any]:
    """The keys of `migration_results.json`."""
    from msgspec import to_builtins

    return {
        "verified": all(table.verified for table in tables),
        "verification": to_builtins(list(tables)),
    }
