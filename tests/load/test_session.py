"""Sessions, the errors of a batch, and round trips: what is written is written as one transaction.

Tests of error texts need no server.
"""

from __future__ import annotations

import json
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from pgload.contract import METHODS
from pgload.errors import LoadError, RecordError
from pgload.load.methods import make_method
from pgload.load.session import EncodedBatch, Session, load_error, reason, with_hint, write_batch
from pgload.sample.generator import write_sample
from pgload.schema.table import Column, Table
from pgload.source.reader import Batch, read_batches
from pgload.targets.target import Target
from tests.support.loading import load, make_table, new_table, rows, write_json
from tests.support.throttle import throttled
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


class ServerError(Exception):
    """Stands for an error of the driver with an SQLSTATE."""

    def __init__(self, pgcode: str | None, message: str | None, context: str | None = None) -> None:
        super().__init__(f"ERROR:  {message}\n")
        self.pgcode = pgcode
        self.diag = SimpleNamespace(message_primary=message, context=context)


def test_reason() -> None:
    """A reason is one line with the SQLSTATE, if there is one, or at least the error's class."""
    assert reason(ServerError("22P02", "invalid input")) == "invalid input (SQLSTATE 22P02)"
    assert reason(ServerError(None, None)) == "ERROR: None"
    assert reason(OSError("connection\n\tlost")) == "connection lost"
    assert reason(ValueError()) == "ValueError"


def test_data_on_its_way(server: Target) -> None:
    """A session sends while a slow link has not taken all of its data; a closed one does not."""
    with throttled(server, 2e6) as far:
        session = Session(far.connect, 0)

        def send() -> None:
            with session.connection.cursor() as cursor:
                cursor.execute(f"SELECT length('{'x' * 1_000_000}')")

        assert not session.is_sending()
        thread = threading.Thread(target=send)
        thread.start()
        wait_until(session.is_sending)
        thread.join()
        assert not session.is_sending()
        session.close()
        assert not session.is_sending()


def test_with_hint() -> None:
    """Where it is known what to do about an error, the reason says so."""
    full = ServerError("53100", "could not extend file")
    assert with_hint(full) == (
        "could not extend file (SQLSTATE 53100); make room on the server's disk"
    )
    assert with_hint(OSError("connection lost")) == "connection lost"


def test_load_error() -> None:
    """The error of a batch names file, records, table, reason and the server's context."""
    batch = Batch(Path("a.json"), 11, [Raw(b"{}")] * 10)
    encoded = encode("copy", Table("t"), batch)
    error = ServerError("22P02", "invalid input", "COPY t, line 1")
    assert str(load_error(encoded, error)) == (
        "a.json: records 11–20 into t: invalid input (SQLSTATE 22P02) (COPY t, line 1)"
    )
    some = encoded._replace(batch=batch.select([1, 4, 7]))
    assert str(load_error(some, error)).startswith("a.json: 3 of records 12–18 into t: ")


def encode(method: str, table: Table, batch: Batch) -> EncodedBatch:
    """A batch as the encoder hands it to a worker."""
    writer = make_method(method, table)
    return EncodedBatch(
        number=1,
        table=table,
        batch=batch,
        method=writer,
        payload=writer.encode(batch),
        start=0.0,
        seconds=0.0,
        cpu_seconds=0.0,
    )


def test_renew(server: Target) -> None:
    """A renewed session has a new connection on which nothing is set up."""
    session = Session(server.connect, worker=0)
    first = session.connection
    session.prepared.add(Table("t"))
    session.renew()
    with closing(session):
        assert (first.closed, session.connection.closed, session.prepared) == (1, 0, set())
    assert session.connection.closed


def test_roll_back(server: Target, connection: Connection) -> None:
    """An open transaction is rolled back; a connection that was lost is closed."""
    session = Session(server.connect, worker=0)
    with closing(session), connection.cursor() as admin:
        with session.connection.cursor() as cursor:
            cursor.execute("BEGIN")
        session.roll_back()
        assert session.connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        with session.connection.cursor() as cursor:
            cursor.execute("BEGIN")
        pid = session.connection.info.backend_pid
        admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        session.roll_back()
        assert session.connection.closed
        session.roll_back()
        session.cancel()


RECORDS = 300  # several statements of `values`, several arrays of `json`
ROUND_TRIPS = {"executemany": RECORDS + 2, "values": 1, "unnest": 1, "json": 1, "copy": 2}


class Relay:
    """Forwards one connection to the server, and counts its round trips."""

    def __init__(self) -> None:
        self.trips = 0

    def serve(self, listener: socket.socket, server: str) -> None:
        """Forward until either side disconnects; in one thread, which keeps the order."""
        near, _ = listener.accept()
        with near, socket.socket(socket.AF_UNIX) as far, selectors.DefaultSelector() as ready:
            far.connect(server)
            for side in (near, far):
                ready.register(side, selectors.EVENT_READ)
            last_sender = far
            while True:
                for key, _ in ready.select():
                    side = near if key.fileobj is near else far
                    with suppress(ConnectionError):
                        if data := side.recv(1 << 16):
                            # Sending after the server has answered begins a round trip.
                            self.trips += side is near and last_sender is far
                            last_sender = side
                            (far if side is near else near).sendall(data)
                            continue
                    return


@contextmanager
def relayed(server: Target) -> Iterator[tuple[Session, Relay]]:
    """A session with the server, and the relay that it goes through."""
    address = f"{server.parameters['host']}/.s.PGSQL.{server.parameters['port']}"
    relay = Relay()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder, ".s.PGSQL.5432")))
        listener.listen()
        thread = threading.Thread(target=relay.serve, args=(listener, address), daemon=True)
        thread.start()
        parameters = {**server.parameters, "host": folder, "port": "5432"}
        with closing(Session(replace(server, parameters=parameters).connect, worker=0)) as session:
            yield session, relay
        thread.join()


@pytest.fixture
def session(server: Target) -> Iterator[Session]:
    """A session with the server."""
    with closing(Session(server.connect, worker=0)) as opened:
        yield opened


@pytest.fixture
def work(tmp_path: Path, schema: str, connection: Connection) -> tuple[Table, Batch]:
    """A batch of notices and its empty table; beside it a table `journal`."""
    path = tmp_path / "sample.json"
    write_sample(path, "THNG", RECORDS)
    table = make_table(path, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {schema}.journal (batch integer PRIMARY KEY)")
    return table, next(read_batches(path, RECORDS))


def journal(table: Table, number: int) -> bytes:
    """A statement that inserts a row into the table `journal`."""
    return f"INSERT INTO {table.schema}.journal VALUES ({number})".encode()


@pytest.mark.parametrize("method", METHODS)
def test_round_trips(
    server: Target, connection: Connection, work: tuple[Table, Batch], method: str
) -> None:
    """One for `values`, `unnest` and `json`, two for `copy`; a statement before it adds none."""
    table, batch = work
    encoded = encode(method, table, batch)
    with relayed(server) as (session, relay):
        for number in range(3):
            before = relay.trips
            write_batch(session, encoded, before=journal(table, number) if number else b"")
            assert relay.trips - before == ROUND_TRIPS[method]
    assert len(rows(table, connection)) == 3 * RECORDS
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table.schema}.journal")
        assert cursor.fetchone() == (2,)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", ["before", "after"])
def test_one_transaction(
    session: Session,
    connection: Connection,
    work: tuple[Table, Batch],
    method: str,
    place: str,
) -> None:
    """A statement before or after a batch is committed with it; when it fails, no row is left."""
    import psycopg2

    table, batch = work
    encoded = encode(method, table, batch)
    write_batch(session, encoded, **{place: journal(table, 1)})
    assert len(rows(table, connection)) == RECORDS
    with pytest.raises(psycopg2.errors.UniqueViolation):
        write_batch(session, encoded, **{place: journal(table, 1)})
    session.roll_back()
    assert len(rows(table, connection)) == RECORDS


@pytest.mark.parametrize("method", METHODS)
def test_refused_row(
    tmp_path: Path, schema: str, session: Session, connection: Connection, method: str
) -> None:
    """When a row is refused, a statement before the batch is rolled back with it."""
    import psycopg2

    path = write_json(tmp_path / "x.json", [{"a": "1"}, {"a": "one"}])
    table = new_table(Table("x", (Column("a", "integer"),), schema=schema), connection)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {schema}.journal (batch integer PRIMARY KEY)")
        encoded = encode(method, table, next(read_batches(path, 10)))
        with pytest.raises(psycopg2.DataError):
            write_batch(session, encoded, before=journal(table, 1))
        session.roll_back()
        cursor.execute(f"SELECT count(*) FROM {schema}.journal")
        assert cursor.fetchone() == (0,)
    assert rows(table, connection) == []


@pytest.fixture
def typed_table(schema: str, connection: Connection) -> Table:
    """A table with columns of several types."""
    columns = (
        Column("a"),
        Column("j", "json"),
        Column("jb", "jsonb"),
        Column("d", "double precision"),
    )
    return new_table(Table("t", columns, schema=schema), connection)


BAD = {
    '{"a": "\\ud800"}': "holds half of a surrogate pair",
    '{"jb": "\\udc00x"}': "holds half of a surrogate pair",
    '{"j": "\\ude00"}': "holds half of a surrogate pair",
    '{"other": NaN}': "holds NaN",
    '{"d": Infinity}': "holds Infinity",
    '{"a": "tab\there"}': "holds a control character that is not escaped",
    '{"a": "x" "b"}': "JSON is malformed",
    '["a"]': "'[\"a\"]' is no",
    '"a"': "'\"a\"' is no",
    '{"a": "가"}': "is not UTF-8 but seems to be CP949",
    '{"jb": {"a": "가"}}': "is not UTF-8 but seems to be CP949",
    '{"a": "x\\u0000"}': "holds \\u0000, which PostgreSQL's text cannot hold",
    '{"a": "\\\\\\u0000"}': "holds \\u0000, which PostgreSQL's text cannot hold",
    '{"jb": {"a": "\\u0000"}}': "holds \\u0000, which jsonb cannot hold",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_record(
    tmp_path: Path,
    server: Target,
    connection: Connection,
    typed_table: Table,
    bad: str,
    method: str,
) -> None:
    """By every method the error names file, record and reason; batches before it are committed."""
    path = tmp_path / "x.json"
    texts = ['{"a": "1"}', '{"a": "2"}', '{"a": "fine \\\\u0000"}', bad, '{"a": "5"}']
    path.write_bytes(f"[{', '.join(texts)}]".encode("cp949"))
    with pytest.raises(RecordError, match=r"^x\.json: record 4: ") as caught:
        load(path, typed_table, server, method, batch_size=2)
    error = caught.value
    assert (error.path, error.record) == (path, 4)
    assert error.reason is not None
    assert BAD[bad] in error.reason
    if error.field is not None:
        assert error.field == error.column == next(iter(json.loads(bad)))
    assert [row[0] for row in rows(typed_table, connection)] == ["1", "2"]


REFUSED = [
    ("double precision", "1e400", "22003"),
    ("integer", str(2**31), "22003"),
    ("integer", '"1.5"', "22P02"),
    ("integer", '"one"', "22P02"),
    ("character varying(5)", '"longer"', "22001"),
    ("character(3)", '"four"', "22001"),
    ("bit(3)", '"1010"', "22026"),
    ("bit(3)", '"10"', "22026"),
    ("numeric(4,2)", '"100.00"', "22003"),
    ("domain", '"-1"', "23514"),
    ("enum", '"sad"', "22P02"),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("type_", "value", "sqlstate"), REFUSED)
def test_refused_value(
    tmp_path: Path,
    server: Target,
    schema: str,
    connection: Connection,
    method: str,
    type_: str,
    value: str,
    sqlstate: str,
) -> None:
    """A value that its column cannot hold is refused by every method, never cut or rounded."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TYPE {schema}.enum AS ENUM ('glad')")
        cursor.execute(f"CREATE DOMAIN {schema}.domain AS integer CHECK (VALUE >= 0)")
    if type_ in ("domain", "enum"):
        type_ = f"{schema}.{type_}"
    path = tmp_path / "x.json"
    path.write_text(f'[{{"a": ""}}, {{"a": {value}}}]')
    table = new_table(Table("x", (Column("a", type_),), schema=schema), connection)
    message = rf"^x\.json: records 1–2 into x: .* \(SQLSTATE {sqlstate}\)"
    with pytest.raises(LoadError, match=message):
        load(path, table, server, method)
    assert rows(table, connection) == []
