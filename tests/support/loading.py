"""Loading a file in tests, and reading what the load left on the server."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgload.load.loader import Loader
from pgload.load.stats import BatchStat, LoadResult
from pgload.schema.mapping import Rule, plan_tables, read_mapping
from pgload.schema.table import Table, column_names, create_table, qualified_name
from pgload.source.reader import read_batches, read_records
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def write_json(path: Path, records: Any, **options: Any) -> Path:
    """Write `records` as one JSON document; `options` are those of `json.dumps`."""
    path.write_text(json.dumps(records, **{"ensure_ascii": False, **options}), "utf-8")
    return path


def plan(*paths: Path, rules: Iterable[Rule] = ()) -> dict[Path, Table]:
    """The planned tables of whole files."""
    return plan_tables({path: list(chain(*read_records(path))) for path in paths}, rules)


def make_table(path: Path, schema: str, connection: Connection) -> Table:
    """The planned table of a file, created empty in `schema`."""
    table = plan(path, rules=read_mapping(path.parent))[path]
    return new_table(replace(table, schema=schema), connection)


def new_table(table: Table, connection: Connection) -> Table:
    """The table, created empty."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {qualified_name(table, connection)}")
        cursor.execute(create_table(table, connection, unique_key=False))
    return table


def load(
    path: Path,
    table: Table,
    server: Target,
    method: str = "copy",
    *,
    batch_size: int = 100,
    connections: int = 1,
) -> LoadResult:
    """Load a file into its table."""
    with Loader(server.connect, method, connections=connections) as loader:
        return loader.run((table, batch) for batch in read_batches(path, batch_size))


def rows(table: Table, connection: Connection) -> list[tuple[Any, ...]]:
    """The rows of a table in the order of their ids, without the columns that the server fills."""
    columns = ", ".join(column_names(table, connection))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {qualified_name(table, connection)} ORDER BY id")
        return cursor.fetchall()


def empty(table: Table, connection: Connection) -> None:
    """Remove all rows of a table."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {qualified_name(table, connection)}")


def waiting_backends(table: Table, connection: Connection) -> list[int]:
    """The process ids of the backends that wait for a lock on the table."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE NOT granted AND relation = %s::regclass",
            (qualified_name(table, connection),),
        )
        return [pid for (pid,) in cursor.fetchall()]


def round_trip(connection: Connection) -> float:
    """Median seconds of a round trip on a connection."""
    seconds = []
    with connection.cursor() as cursor:
        for _ in range(9):
            start = time.perf_counter()
            cursor.execute("SELECT 1")
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def make_result(
    *,
    method: str = "values",
    batches: int = 20,
    encode: float = 0.0,
    write: float = 1.0,
    commit: float = 0.0,
    wait: float = 0.0,
    cpu: float = 0.0,
) -> LoadResult:
    """A made-up load: 10 s over 2 connections, a batch of 10 records and 100 bytes each 0.5 s."""
    stats = [
        BatchStat(
            number=n,
            file="f.json",
            table="t",
            first_record=10 * n - 9,
            records=10,
            bytes=100,
            worker=n % 2,
            start=0.0,
            encode=encode,
            write=write,
            commit=commit,
            end=n * 0.5,
            wait=wait,
        )
        for n in range(1, batches + 1)
    ]
    return LoadResult(
        method=method,
        connections=2,
        started=datetime.now(UTC),
        seconds=10.0,
        begin=100.0,
        cpu_seconds=cpu,
        batches=stats,
    )
