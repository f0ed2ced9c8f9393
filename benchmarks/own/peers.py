"""Loaders of other libraries, at the same commit boundaries as pgload's.

A peer is a context manager: it opens its connections, then yields a function that reads a JSON
file, splits it into batches, and writes and commits every batch. Each is written for speed, as its
library documents it. Like pgload, every peer stores an empty string as NULL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pgload.schema.table import Table
from pgload.targets.target import Target

Rows = Sequence[Sequence[str | None]]
Load = Callable[[Path, Table, int], object]  # file, table, batch size
ASYNCPG_PARAMETERS = ("host", "port", "user", "password", "database", "ssl")


def records_of(path: Path) -> list[dict[str, str]]:
    """The records of the file, by `json.load`."""
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def rows_of(records: Sequence[dict[str, str]], table: Table) -> list[list[str | None]]:
    """The records' values in the order of the table's columns."""
    names = [column.name for column in table.columns]
    return [[record.get(name) or None for name in names] for record in records]


@contextmanager
def _in_threads(
    connect: Callable[[], Any],
    sql: Any,
    statement: str,
    write: Callable[[Any, Any, Rows], None],
    connections: int,
) -> Iterator[Load]:
    """A thread for each connection, which writes and commits a batch.

    `sql` is the driver's module of that name, which quotes the names of the table and its columns
    in the statement; `write` gets a cursor, the statement and the rows.
    """
    with ExitStack() as stack:
        free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(connections):
            free.put(stack.enter_context(closing(connect())))
        threads = stack.enter_context(ThreadPoolExecutor(connections))

        def load(path: Path, table: Table, batch_size: int) -> None:
            quoted = sql.SQL(statement).format(
                sql.Identifier(table.schema, table.name),
                sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
            )

            def write_batch(batch: Sequence[dict[str, str]]) -> None:
                connection = free.get()
                with connection.cursor() as cursor:
                    write(cursor, quoted, rows_of(batch, table))
                connection.commit()
                free.put(connection)

            list(threads.map(write_batch, _batches(path, batch_size)))

        yield load


def _batches(path: Path, size: int) -> Iterator[Sequence[dict[str, str]]]:
    records = records_of(path)
    return (records[at : at + size] for at in range(0, len(records), size))


def execute_values(target: Target, connections: int) -> Any:
    """`json.load` + `psycopg2.extras.execute_values` + `commit()`, the usual way."""
    import psycopg2
    from psycopg2 import extras, sql

    def write(cursor: Any, statement: Any, rows: Rows) -> None:
        # The default page_size of 100 would split the batch.
        extras.execute_values(cursor, statement, rows, page_size=len(rows))

    connect = partial(psycopg2.connect, **target.with_secret())
    return _in_threads(connect, sql, "INSERT INTO {} ({}) VALUES %s", write, connections)


def psycopg3_copy(target: Target, connections: int) -> Any:
    """`json.load` + psycopg 3's `copy.write_row`."""
    import psycopg
    from psycopg import sql

    def write(cursor: Any, statement: Any, rows: Rows) -> None:
        with cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    connect = partial(psycopg.connect, **target.with_secret())
    return _in_threads(connect, sql, "COPY {} ({}) FROM STDIN", write, connections)


@contextmanager
def asyncpg_copy(target: Target, connections: int) -> Iterator[Load]:
    """`json.load` + asyncpg's `copy_records_to_table`, over a pool in one event loop."""
    import asyncpg

    given = target.with_secret()
    if "dbname" in given:
        given["database"] = given.pop("dbname")
    if "sslmode" in given:
        given["ssl"] = given.pop("sslmode")
    given = {name: given[name] for name in ASYNCPG_PARAMETERS if name in given}
    with asyncio.Runner() as runner:

        async def connect() -> Any:
            return await asyncpg.create_pool(**given, min_size=connections, max_size=connections)

        pool = runner.run(connect())

        async def work(path: Path, table: Table, batch_size: int) -> None:
            batches = _batches(path, batch_size)
            names = [column.name for column in table.columns]

            async def writer() -> None:
                async with pool.acquire() as connection:
                    for batch in batches:
                        await connection.copy_records_to_table(
                            table.name,
                            schema_name=table.schema,
                            columns=names,
                            records=rows_of(batch, table),
                        )

            await asyncio.gather(*[writer() for _ in range(connections)])

        try:
            yield lambda path, table, size: runner.run(work(path, table, size))
        finally:
            runner.run(pool.close())
