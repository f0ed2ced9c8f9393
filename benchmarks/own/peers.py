"""Loaders that people write or use instead, at the same commit boundaries as pgload's.

A peer opens its connections, then gives a function that loads a JSON file into a table: it reads
the file, cuts it into batches and commits every batch. Each is written as its own users would write
it for speed. What an empty string becomes is the table's rule, so every peer turns it into NULL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

from pgload.schema.table import Table
from pgload.targets.target import Target

Rows = Sequence[Sequence[str | None]]
Load = Callable[[Path, Table, int], object]


def records_of(path: Path) -> list[dict[str, str]]:
    """The file's records as everybody reads them."""
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def rows_of(records: Sequence[dict[str, str]], table: Table) -> list[list[str | None]]:
    """Their values in the order of the table's columns."""
    names = [column.name for column in table.columns]
    return [[record.get(name) or None for name in names] for record in records]


@contextmanager
def _in_threads(
    connect: Callable[[], Any],
    write: Callable[[Any, Table, Any], None],
    connections: int,
    read: Callable[[Path, Table, int], Iterator[Any]] | None = None,
) -> Iterator[Load]:
    """A thread for each connection; `read` gives the batches as `write` takes them."""
    with ExitStack() as stack:
        free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(connections):
            free.put(stack.enter_context(closing(connect())))
        threads = stack.enter_context(ThreadPoolExecutor(connections))

        def load(path: Path, table: Table, batch_size: int) -> None:
            def write_batch(batch: Any) -> None:
                connection = free.get()
                write(connection, table, batch if read else rows_of(batch, table))
                free.put(connection)

            list(threads.map(write_batch, (read or _slices)(path, table, batch_size)))

        yield load


def _slices(path: Path, _table: Table, size: int) -> Iterator[Sequence[dict[str, str]]]:
    records = records_of(path)
    return (records[at : at + size] for at in range(0, len(records), size))


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


def _psycopg3(target: Target) -> Any:
    import psycopg

    return psycopg.connect(**target.parameters)


def psycopg3_copy(target: Target, connections: int) -> Any:
    """`json.load` + psycopg 3's `copy.write_row`."""
    from psycopg import sql

    def write(connection: Any, table: Table, rows: Rows) -> None:
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table.schema, table.name),
            sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()

    return _in_threads(lambda: _psycopg3(target), write, connections)


def psycopg3_executemany(target: Target, connections: int) -> Any:
    """`json.load` + psycopg 3's `executemany`, which sends the rows in a pipeline."""
    from psycopg import sql

    def write(connection: Any, table: Table, rows: Rows) -> None:
        columns = [column.name for column in table.columns]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table.schema, table.name),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        )
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)
        connection.commit()

    return _in_threads(lambda: _psycopg3(target), write, connections)


@contextmanager
def asyncpg_copy(target: Target, connections: int) -> Iterator[Load]:
    """`json.load` + asyncpg's `copy_records_to_table`, over a pool in one event loop."""
    import asyncpg

    given = dict(target.parameters)
    if "dbname" in given:
        given["database"] = given.pop("dbname")
    if "sslmode" in given:
        given["ssl"] = given.pop("sslmode")
    given = {name: given[name] for name in ASYNCPG_TAKES if name in given}
    with asyncio.Runner() as runner:

        async def connect() -> Any:
            return await asyncpg.create_pool(**given, min_size=connections, max_size=connections)

        pool = runner.run(connect())

        async def work(path: Path, table: Table, batch_size: int) -> None:
            batches = _slices(path, table, batch_size)
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


ASYNCPG_TAKES = ("host", "port", "user", "password", "database", "ssl")


@contextmanager
def pandas_to_sql(target: Target, connections: int) -> Iterator[Load]:
    """`pandas.DataFrame` + `to_sql` over SQLAlchemy and psycopg2, a transaction for each batch."""
    import pandas
    import psycopg2
    from sqlalchemy import create_engine

    assert connections == 1, "a data frame is written over one connection"
    engine = create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(**target.parameters)
    )

    def load(path: Path, table: Table, batch_size: int) -> None:
        frame = pandas.DataFrame(records_of(path)).replace("", None)
        with engine.connect() as connection:
            for at in range(0, len(frame), batch_size):
                with connection.begin():
                    frame[at : at + batch_size].to_sql(
                        table.name,
                        connection,
                        schema=table.schema,
                        if_exists="append",
                        index=False,
                    )

    engine.connect().close()  # opened before the clock, as everybody's
    yield load
    engine.dispose()


def polars_adbc(target: Target, connections: int) -> Any:
    """polars' `read_json` + ADBC's `adbc_ingest` of Arrow data, which is a binary COPY."""
    import polars
    from adbc_driver_postgresql import dbapi

    def connect() -> Any:
        words = {name: str(value) for name, value in target.parameters.items()}
        return dbapi.connect(" ".join(f"{name}='{value}'" for name, value in words.items()))

    def read(path: Path, table: Table, size: int) -> Iterator[Any]:
        schema = {column.name: polars.String for column in table.columns}
        frame = polars.read_json(path, schema=schema)
        text = polars.col(polars.String)
        return frame.with_columns(polars.when(text != "").then(text)).iter_slices(size)

    def write(connection: Any, table: Table, frame: Any) -> None:
        with connection.cursor() as cursor:
            cursor.adbc_ingest(table.name, frame, mode="append", db_schema_name=table.schema)
        connection.commit()

    return _in_threads(connect, write, connections, read)


@contextmanager
def dlt_pipeline(target: Target, connections: int) -> Iterator[Load]:
    """dlt: extract to Arrow files, load them with its workers. It makes its own transactions."""
    import dlt
    import pyarrow
    from dlt.destinations import postgres

    dlt.config["runtime.dlthub_telemetry"] = False
    dlt.config["runtime.log_level"] = "CRITICAL"
    dlt.config["load.workers"] = connections
    given = dict(target.parameters)
    credentials = {
        "username": given.pop("user"),
        "password": given.pop("password", ""),
        "database": given.pop("dbname", "postgres"),
        "host": "localhost",
        "query": {name: str(value) for name, value in given.items()},  # wins over what is above
    }
    destination = postgres(credentials, naming_convention="direct")
    with TemporaryDirectory(prefix="pgload-") as folder:

        def load(path: Path, table: Table, batch_size: int) -> None:
            names = [column.name for column in table.columns]
            schema = pyarrow.schema([(name, pyarrow.string()) for name in names])

            @dlt.resource(name=table.name)
            def records() -> Iterator[Any]:
                for batch in _slices(path, table, batch_size):
                    columns = zip(*rows_of(batch, table), strict=True)
                    yield pyarrow.table(list(map(list, columns)), schema=schema)

            pipeline = dlt.pipeline(
                "pgload_peer",
                pipelines_dir=folder,
                destination=destination,
                dataset_name=table.schema,
            )
            pipeline.run(records(), loader_file_format="csv")

        yield load
