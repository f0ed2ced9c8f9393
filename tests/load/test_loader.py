"""Workers share the batches of a load, lose none of their statistics, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.contract import METHODS
from pgload.errors import LoadError, TargetError
from pgload.load.loader import ENCODED_AHEAD, Loader
from pgload.load.stats import latency
from pgload.schema.table import qualified_name
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import load, make_table, rows, write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


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


def test_batches_are_read_while_loading(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Batches are asked for one by one, and few more than the workers have in hand."""
    table = make_table(path, schema, connection)
    asked = 0

    def work() -> Iterator:
        nonlocal asked
        for asked, batch in enumerate(read_batches(path, 10), 1):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {qualified_name(table, connection)}")
                written = cursor.fetchone()[0]
            assert asked - written // 10 <= 3 + ENCODED_AHEAD + 1
            yield table, batch

    with Loader(server.connect, "values", connections=3) as loader:
        assert loader.run(work()).records == 1003
    assert asked == 101


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
    """A worker whose connection is cut ends the load with an error that names file and table."""
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
    """A loader loads as often as it is asked to, over the same connections."""
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


def test_latency() -> None:
    """Percentiles interpolate between batches; a single batch is all of them."""
    assert latency([2.0]) == {"p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    found = latency([float(n) for n in range(101)])
    assert found == pytest.approx({"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0})


INTERRUPTED = """
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


def interrupted(server: Target, path: Path, schema: str, method: str) -> subprocess.Popen[bytes]:
    """A process that loads the file over two connections."""
    host = server.parameters["host"]
    return subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, host, str(path), schema, method],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def wait_for_lock(cursor: Cursor, name: str) -> list[int]:
    """The process ids of the two backends that wait for a lock on the table, when they do."""
    waiting: list[int] = []
    while len(waiting) < 2:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE NOT granted AND relation = %s::regclass", (name,)
        )
        waiting = [pid for (pid,) in cursor.fetchall()]
    return waiting


@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c(
    path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """Ctrl-C cancels batches that wait for the server and leaves no transaction open."""
    table = make_table(path, schema, connection)
    name = qualified_name(table, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {name}")
        with interrupted(server, path, schema, method) as process:
            wait_for_lock(cursor, name)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        cursor.execute("ROLLBACK")
    assert out == b"stopped [0, 0]\n"  # both connections idle
    assert rows(table, connection) == []


def test_ctrl_c_with_a_dead_connection(
    path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Ctrl-C stops a load at once though one of its connections is gone already."""
    table = make_table(path, schema, connection)
    name = qualified_name(table, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {name}")
        with interrupted(server, path, schema, "values") as process:
            (victim, _) = wait_for_lock(cursor, name)
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (victim,))
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        cursor.execute("ROLLBACK")
    assert out.startswith(b"stopped")
    assert rows(table, connection) == []
