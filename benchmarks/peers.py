"""Loaders that people write or use instead, at the same commit boundaries as pgload's.

A peer opens its connections, then gives a function that loads a JSON file into a table: it reads
the file, cuts it into batches and commits every batch, with one thread for each connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pgload.source.tables import Table
from pgload.targets.target import Target

Rows = Sequence[Sequence[str | None]]
Load = Callable[[Path, Table, int], None]


@contextmanager
def _in_threads(
    connect: Callable[[], Any], write: Callable[[Any, Table, Rows], None], connections: int
) -> Iterator[Load]:
    with ExitStack() as stack:
        free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(connections):
            free.put(stack.enter_context(closing(connect())))
        threads = stack.enter_context(ThreadPoolExecutor(connections))

        def load(path: Path, table: Table, batch_size: int) -> None:
            records = json.loads(path.read_text("utf-8"))
            names = [column.name for column in table.columns]

            def write_batch(start: int) -> None:
                batch = records[start : start + batch_size]
                rows = [[record.get(name) or None for name in names] for record in batch]
                connection = free.get()
                write(connection, table, rows)
                free.put(connection)

            list(threads.map(write_batch, range(0, len(records), batch_size)))

        yield load


def execute_values(target: Target, connections: int) -> Any:
    """`json.load` + `psycopg2.extras.execute_values` + `commit()`: what everybody writes."""
    import psycopg2
    from psycopg2 import extras, sql

    def connect() -> Any:
        return psycopg2.connect(**target.parameters)

    def write(connection: Any, table: Table, rows: Rows) -> None:
        statement = sql.SQL("INSERT INTO {} ({}) VALUES %s").format(
            sql.Identifier(table.schema, table.name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
        )
        with connection.cursor() as cursor:
            # page_size is 100 if it is not given, whatever the batch's size.
            extras.execute_values(cursor, statement, rows, page_size=len(rows))
        connection.commit()

    return _in_threads(connect, write, connections)


def psycopg3_copy(target: Target, connections: int) -> Any:
    """`json.load` + psycopg 3's `copy.write_row`."""
    import psycopg
    from psycopg import sql

    def connect() -> Any:
        return psycopg.connect(**target.parameters)

    def write(connection: Any, table: Table, rows: Rows) -> None:
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table.schema, table.name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()

    return _in_threads(connect, write, connections)
