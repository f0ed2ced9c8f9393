"""Workers share the batches of a load, lose none of their statistics, and end together.

Tests of the queue, and of connections that are refused, need no server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.own.plain import Job, plain_python, repeat_file
from pgload.contract import METHODS
from pgload.errors import LoadError, TargetError, TooManyConnectionsError
from pgload.load import loader as loader_module
from pgload.load import methods
from pgload.load.loader import ENCODED_AHEAD, BoundedQueue, Loader
from pgload.load.stats import profile
from pgload.load.verify import fingerprint
from pgload.sample.generator import write_sample
from pgload.schema.table import Table, qualified_name
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import load, make_table, rows, waiting_backends, write_json
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

MEMORY_RECORDS = 1000
MEMORY_MEGABYTES = (25, 75)  # the smaller file already has more windows than are in use at once


def test_queue_keeps_the_order() -> None:
    """Items are returned in their order; after the last one, `get` returns None."""
    queue = BoundedQueue[int](limit=3)
    assert [queue.put(n) for n in range(3)] == [True] * 3
    queue.finish()
    assert [queue.get() for _ in range(5)] == [0, 1, 2, None, None]


def test_queue_is_bounded() -> None:
    """`put` waits while the queue is full."""
    queue, added = BoundedQueue[int](limit=2), list[int]()

    def put_three() -> None:
        for n in range(3):
            queue.put(n)
            added.append(n)

    thread = Thread(target=put_three)
    thread.start()
    wait_until(lambda: added == [0, 1])
    assert thread.is_alive()
    assert queue.get() == 0
    thread.join(30)
    assert added == [0, 1, 2]


def test_queue_of_partitions() -> None:
    """The items of a partition go to one receiver, in order; it does not wait for the others'."""
    queue = BoundedQueue[int](limit=1, receivers=3)
    assert all(queue.put(n, partition) for n, partition in enumerate([4, 5, 1]))
    queue.finish()
    assert [queue.get(1) for _ in range(3)] == [0, 2, None]
    assert [queue.get(n) for n in (0, 2, 2)] == [None, 1, None]


def test_queue_of_one_slow_receiver() -> None:
    """The queue holds as many items of partitions as there are receivers, whosever they are."""
    queue, added = BoundedQueue[int](limit=1, receivers=3), list[int]()

    def put_four() -> None:
        for n in range(4):
            queue.put(n, 0)
            added.append(n)

    thread = Thread(target=put_four)
    thread.start()
    wait_until(lambda: added == [0, 1, 2])
    assert thread.is_alive()
    assert queue.get(0) == 0
    thread.join(30)
    assert [queue.get(0) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("action", ["put", "get"])
def test_stopped_queue(action: str) -> None:
    """`stop` ends a `put` or `get` that waits; items that are left are dropped."""
    queue, returned = BoundedQueue[int](limit=1), list[object]()
    if action == "put":
        queue.put(1)
    wait = partial(queue.put, 2) if action == "put" else queue.get
    thread = Thread(target=lambda: returned.append(wait()))
    thread.start()
    queue.stop()
    thread.join(30)
    assert returned == [False if action == "put" else None]
    assert queue.get() is None
    assert not queue.put(3)


class FakeConnection:
    """Stands for a connection that is only opened and closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def limited_server(limit: int) -> tuple[list[FakeConnection], Callable[[], Any]]:
    """The connections to a server that takes no more than `limit`, and a function to connect."""
    opened: list[FakeConnection] = []

    def connect() -> FakeConnection:
        if len(opened) == limit:
            raise TooManyConnectionsError("GCP: too many connections")
        opened.append(FakeConnection())
        return opened[-1]

    return opened, connect


def test_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few connections are an error with their number, and none of them stays open."""
    monkeypatch.setattr("pgload.load.loader.CLOSE_TIMEOUT", 0.0)
    opened, connect = limited_server(2)
    with (
        pytest.raises(TooManyConnectionsError, match=r"\(it gave 2 of 3 connections\)$"),
        Loader(connect, "copy", connections=3),
    ):
        pass
    assert [each.closed for each in opened] == [True, True]


def test_allow_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `allow_fewer`, a load uses as many connections as it gets, but at least one."""
    monkeypatch.setattr("pgload.load.loader.CLOSE_TIMEOUT", 0.0)
    opened, connect = limited_server(2)
    with Loader(connect, "copy", connections=3, allow_fewer=True) as loader:
        assert loader.connections == 2
    assert [each.closed for each in opened] == [True, True]
    _, connect = limited_server(0)
    with (
        pytest.raises(TooManyConnectionsError, match=r"\(it gave 0 of 3 connections\)$"),
        Loader(connect, "copy", connections=3, allow_fewer=True),
    ):
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 1,003 records."""
    return write_json(tmp_path / "numbers.json", [{"n": str(n)} for n in range(1003)])


@pytest.mark.parametrize("method", METHODS)
def test_statistics(
    path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """Every batch is counted once, with its place in the file, its worker and its times."""
    table = make_table(path, schema, connection)
    result = load(path, table, server, method, batch_size=10, connections=4)
    assert [batch.number for batch in result.batches] == list(range(1, 102))
    assert [batch.first_record for batch in result.batches] == list(range(1, 1004, 10))
    assert (result.records, result.connections, result.method) == (1003, 4, method)
    assert result.bytes == sum(len(f'{{"n": "{n}"}}') for n in range(1003))
    assert sorted(int(n) for (n,) in rows(table, connection)) == list(range(1003))
    assert {batch.worker for batch in result.batches} <= set(range(4))
    for batch in result.batches:
        assert batch.encode > 0
        assert batch.write > 0
        assert (batch.commit > 0) == (method == "executemany")
        assert 0 <= batch.start < batch.start + batch.seconds <= batch.end <= result.seconds
    parts = profile(result)
    assert 0 < parts["encode"] <= result.seconds
    workers = sum(parts[part] for part in ("write", "commit", "wait", "idle"))
    assert workers == pytest.approx(4 * result.seconds)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_built_while_loading(
    path: Path,
    server: Target,
    schema: str,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """After `prepare`, a load builds no method, statement or quoted name."""
    table = make_table(path, schema, connection)
    with Loader(server.connect, method, connections=2) as loader:
        loader.prepare([table, table])
        monkeypatch.setattr(loader_module, "make_method", None)
        for name in ("quoted", "qualified_name", "rows_of_json"):
            monkeypatch.setattr(methods, name, None)
        result = loader.run((table, batch) for batch in read_batches(path, 100))
    assert result.records == len(rows(table, connection)) == 1003


def test_a_batch_is_a_transaction(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Under every method the rows of one batch, and only they, share a transaction."""
    table = make_table(path, schema, connection)
    for method in METHODS:
        load(path, table, server, method, batch_size=100, connections=2)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {qualified_name(table, connection)} GROUP BY xmin")
        sizes = sorted(count for (count,) in cursor.fetchall())
    assert sizes == [3] * len(METHODS) + [100] * 10 * len(METHODS)


def test_partitions(path: Path, server: Target, schema: str, connection: Connection) -> None:
    """The batches of a partition are written by one worker, in their order."""
    table = make_table(path, schema, connection)
    batches = [replace(each, partition=n * n % 5) for n, each in enumerate(read_batches(path, 10))]
    with Loader(server.connect, "values", connections=3) as loader:
        result = loader.run((table, batch) for batch in batches)
    assert result.records == len(rows(table, connection)) == 1003
    for partition in {batch.partition for batch in batches}:
        firsts = [batch.first_record for batch in batches if batch.partition == partition]
        written = [each for each in result.batches if each.first_record in firsts]
        assert {each.worker for each in written} == {partition % 3}
        written.sort(key=lambda each: each.end)
        assert [each.first_record for each in written] == firsts


def test_batches_are_read_while_loading(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Batches are read one by one, and few more than the workers are writing."""
    table = make_table(path, schema, connection)
    read = 0

    def work() -> Iterator:
        nonlocal read
        for read, batch in enumerate(read_batches(path, 10), 1):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {qualified_name(table, connection)}")
                written = cursor.fetchone()[0]
            assert read - written // 10 <= 3 + ENCODED_AHEAD + 1
            yield table, batch

    with Loader(server.connect, "values", connections=3) as loader:
        assert loader.run(work()).records == 1003
    assert read == 101


def test_failing_source_fails_the_load(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """An error while the next batch is read is raised by the load; what was committed stays."""
    table = make_table(path, schema, connection)

    def work() -> Iterator:
        yield table, next(read_batches(path, 10))
        raise RuntimeError("the disk is gone")

    with (
        Loader(server.connect, "copy", connections=4) as loader,
        pytest.raises(RuntimeError, match="the disk is gone"),
    ):
        loader.run(work())
    assert len(rows(table, connection)) == 10


def test_terminated_connection_fails_the_load(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """A worker whose connection is lost ends the load with an error that names file and table."""
    table = make_table(path, schema, connection)

    def work() -> Iterator:
        for n, batch in enumerate(read_batches(path, 10)):
            if n == 20:
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'pgload' AND pid <> pg_backend_pid() "
                        "AND query LIKE '%numbers%'"
                    )
            yield table, batch

    with (
        Loader(server.connect, "values", connections=2) as loader,
        pytest.raises(LoadError, match=r"^numbers\.json: records \d+–\d+ into numbers: "),
    ):
        loader.run(work())
    assert len(rows(table, connection)) % 10 == 0


def test_run_again(path: Path, server: Target, schema: str, connection: Connection) -> None:
    """A loader loads any number of times over the same connections."""
    table = make_table(path, schema, connection)
    with Loader(server.connect, "copy", connections=2) as loader:
        for _ in range(3):
            loader.run((table, batch) for batch in read_batches(path, 100))
    assert len(rows(table, connection)) == 3 * 1003


def test_no_connection() -> None:
    """A server that cannot be reached is an error of one line that names the cloud."""
    target = Target("NOWHERE", {"host": "/nowhere", "user": "nobody"})
    with (
        pytest.raises(TargetError, match=r"^NOWHERE: connection to server .* failed"),
        Loader(target.connect, "copy"),
    ):
        pass


@contextmanager
def locked(table: Table, server: Target) -> Iterator[None]:
    """Another session has the table locked."""
    other = server.connect()
    with closing(other), other.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {qualified_name(table, other)}")
        yield


LOAD_UNTIL_INTERRUPTED = """
import sys
from dataclasses import replace
from pathlib import Path
from pgload.load.loader import ENCODED_AHEAD, Loader
from pgload.source.reader import read_batches
from tests.support.loading import plan
from pgload.targets.target import Target

host, path, schema, method = sys.argv[1:]
path = Path(path)
table = replace(plan(path)[path], schema=schema)
target = Target("EMBEDDED", {"host": host, "user": "postgres"})
with Loader(target.connect, method, connections=2) as loader:
    try:
        loader.run((table, batch) for batch in read_batches(path, 10))
    except KeyboardInterrupt:
        sessions = loader._sessions
        states = [each.connection.info.transaction_status for each in sessions]
        print("stopped", states, flush=True)
"""


def interruptible_load(
    server: Target, path: Path, schema: str, method: str
) -> subprocess.Popen[bytes]:
    """A process that loads the file over two connections."""
    host = server.parameters["host"]
    return subprocess.Popen(
        [sys.executable, "-c", LOAD_UNTIL_INTERRUPTED, host, str(path), schema, method],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c(
    path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """Ctrl-C cancels batches that wait for the server and leaves no transaction open."""
    table = make_table(path, schema, connection)
    with locked(table, server), interruptible_load(server, path, schema, method) as process:
        wait_until(lambda: len(waiting_backends(table, connection)) == 2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert out == b"stopped [0, 0]\n"  # both connections idle
    assert rows(table, connection) == []


def test_ctrl_c_with_a_lost_connection(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Ctrl-C stops a load at once though one of its connections was lost before."""
    table = make_table(path, schema, connection)
    with locked(table, server), interruptible_load(server, path, schema, "values") as process:
        wait_until(lambda: len(waiting_backends(table, connection)) == 2)
        with connection.cursor() as cursor:
            victim = waiting_backends(table, connection)[0]
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (victim,))
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert out.startswith(b"stopped")
    assert rows(table, connection) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["values", "copy"])
def test_memory(
    tmp_path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """A file three times as large is loaded with about the same private memory."""
    source = tmp_path / "sample.json"
    write_sample(source, "THNG", MEMORY_RECORDS)
    table = make_table(source, schema, connection)
    peaks, expected = [], 0
    for megabytes in MEMORY_MEGABYTES:
        path = tmp_path / f"{megabytes}.json"
        expected += MEMORY_RECORDS * repeat_file(path, source, megabytes)
        with plain_python(Job.of(server, table, path, method, connections=2)) as process:
            peaks.append(process.load_watching_memory())
    assert fingerprint(table, connection).rows == expected
    small, large = peaks
    assert large - small < (MEMORY_MEGABYTES[1] - MEMORY_MEGABYTES[0]) / 3, peaks
    assert large <= 150
