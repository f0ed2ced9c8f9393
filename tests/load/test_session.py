"""A batch costs as few round trips as its method allows, whatever belongs into its transaction."""

from __future__ import annotations

import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.contract import METHODS
from pgload.load.methods import Method, make_method
from pgload.sample.generator import write_sample
from pgload.schema.table import Table
from pgload.source.reader import Batch, read_batches
from pgload.targets.target import Target
from tests.support.loading import make_table, rows, write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

RECORDS = 300  # several statements of `values`, several arrays of `json`
ALLOWED = {"executemany": RECORDS + 2, "values": 1, "unnest": 1, "json": 1, "copy": 2}


class Relay:
    """Passes one connection on to the server, and counts how often the client waited for it."""

    def __init__(self) -> None:
        self.trips = 0

    def serve(self, listener: socket.socket, server: str) -> None:
        """Until either side hangs up. One thread for both directions, so their order is kept."""
        near, _ = listener.accept()
        with near, socket.socket(socket.AF_UNIX) as far, selectors.DefaultSelector() as ready:
            far.connect(server)
            for side in (near, far):
                ready.register(side, selectors.EVENT_READ)
            spoke_last = far
            while True:
                for key, _ in ready.select():
                    side = near if key.fileobj is near else far
                    with suppress(ConnectionError):
                        if data := side.recv(1 << 16):
                            # What the client says after the server has spoken is one round trip.
                            self.trips += side is near and spoke_last is far
                            spoke_last = side
                            (far if side is near else near).sendall(data)
                            continue
                    return


@contextmanager
def relayed(server: Target) -> Iterator[tuple[Connection, Relay]]:
    """A connection to the server, and the relay that it goes through."""
    address = f"{server.parameters['host']}/.s.PGSQL.{server.parameters['port']}"
    relay = Relay()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder, ".s.PGSQL.5432")))
        listener.listen()
        thread = threading.Thread(target=relay.serve, args=(listener, address), daemon=True)
        thread.start()
        parameters = {**server.parameters, "host": folder, "port": "5432"}
        connection = replace(server, parameters=parameters).connect()
        yield connection, relay
        connection.close()
        thread.join()


def write(connection: Connection, method: Method, batch: Batch, **beside: bytes) -> None:
    """Write one batch and commit it, as a worker does."""
    from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

    with connection.cursor() as cursor:
        method.write(cursor, method.encode(batch), **beside)
        if connection.info.transaction_status == TRANSACTION_STATUS_INTRANS:
            cursor.execute("COMMIT")


@pytest.fixture
def work(tmp_path: Path, schema: str, connection: Connection) -> tuple[Table, Batch]:
    """A batch of notices and its empty table; beside it a table `ledger`."""
    path = tmp_path / "sample.json"
    write_sample(path, "THNG", RECORDS)
    table = make_table(path, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {schema}.ledger (batch integer PRIMARY KEY)")
    return table, next(read_batches(path, RECORDS))


def entry(table: Table, number: int) -> bytes:
    """A statement that writes a row of the ledger."""
    return f"INSERT INTO {table.schema}.ledger VALUES ({number})".encode()


@pytest.mark.parametrize("method", METHODS)
def test_round_trips(
    server: Target, connection: Connection, work: tuple[Table, Batch], method: str
) -> None:
    """One for `values`, `unnest` and `json`, two for `copy`; a ledger row costs none."""
    table, batch = work
    writer = make_method(method, table)
    with relayed(server) as (far, relay):
        for number in range(3):
            before = relay.trips
            write(far, writer, batch, before=entry(table, number) if number else b"")
            assert relay.trips - before == ALLOWED[method]
    assert len(rows(table, connection)) == 3 * RECORDS
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table.schema}.ledger")
        assert cursor.fetchone() == (2,)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", ["before", "after"])
def test_one_transaction(
    connection: Connection, work: tuple[Table, Batch], method: str, place: str
) -> None:
    """What stands beside a batch is committed with it; when it fails, no row is left."""
    import psycopg2

    table, batch = work
    writer = make_method(method, table)
    write(connection, writer, batch, **{place: entry(table, 1)})
    assert len(rows(table, connection)) == RECORDS
    with pytest.raises(psycopg2.errors.UniqueViolation):
        write(connection, writer, batch, **{place: entry(table, 1)})
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")  # as the loader does
    assert len(rows(table, connection)) == RECORDS


@pytest.mark.parametrize("method", METHODS)
def test_ledger_of_a_failed_batch(
    tmp_path: Path, schema: str, connection: Connection, method: str
) -> None:
    """When a row is refused, what was written beside the batch is not there, either."""
    import psycopg2

    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "x.json"\nname = "x"\ntypes = { a = "integer" }\n'
    )
    path = write_json(tmp_path / "x.json", [{"a": "1"}, {"a": "one"}])
    table = make_table(path, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {schema}.ledger (batch integer PRIMARY KEY)")
        with pytest.raises(psycopg2.DataError):
            write(
                connection,
                make_method(method, table),
                next(read_batches(path, 10)),
                before=entry(table, 1),
            )
        cursor.execute("ROLLBACK")
        cursor.execute(f"SELECT count(*) FROM {schema}.ledger")
        assert cursor.fetchone() == (0,)
    assert rows(table, connection) == []
