"""Loads on servers whose bottleneck is known: the one that is reported is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from pgload.load import methods
from pgload.load.bottleneck import Bottleneck, attribute, bottleneck_of
from pgload.load.loader import Loader
from pgload.load.observe import Observer
from pgload.schema.table import Table, qualified_name
from pgload.source.reader import Batch, read_batches
from pgload.targets.delay import delayed
from pgload.targets.target import Target
from tests.support.loading import empty, make_table, round_trip, write_json
from tests.support.servers import embedded
from tests.support.throttle import throttled

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 2,000 records of 1 KB."""
    records = [
        {"n": str(n)} | {f"f{k}": f"{n} {k} " + "text " * 8 for k in range(20)} for n in range(2000)
    ]
    return write_json(tmp_path_factory.mktemp("data") / "records.json", records)


def measure_bottleneck(
    target: Target,
    path: Path,
    table: Table,
    method: str,
    *,
    batch_size: int,
    connections: int = 1,
    times: int = 1,
) -> Bottleneck:
    """The bottleneck of one load of the file, `times` over, into its empty table."""
    connection = target.connect()
    empty(table, connection)
    rtt = round_trip(connection)
    connection.close()
    work = [(table, batch) for batch in read_batches(path, batch_size)] * times
    with (
        Loader(target.connect, method, connections=connections) as loader,
        Observer(target.connect, loader.pids, loader.sending) as observer,
    ):
        observer.begin()
        result = loader.run(work)
        return bottleneck_of([attribute(result, observer.end(), rtt)])


def without_flushes(target: Target) -> Target:
    """The target with commits that do not wait for a disk, which other programs may keep busy."""
    return replace(target, parameters={**target.parameters, "options": "-c synchronous_commit=off"})


class SlowCopy(methods.Copy):
    """COPY with additional work in Python for every field."""

    def encode(self, batch: Batch) -> bytes:
        for record in batch.records:
            for field in bytes(record).decode().split(","):
                sum(map(ord, field * 20))
        return super().encode(batch)


@pytest.mark.parametrize("connections", [1, 4])
def test_slow_client(
    server: Target,
    path: Path,
    schema: str,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    connections: int,
) -> None:
    """With a slow encoder, which workers wait for, the bottleneck is the client."""
    monkeypatch.setitem(methods._CLASSES, "slow", SlowCopy)
    table = make_table(path, schema, connection)
    found = measure_bottleneck(
        without_flushes(server), path, table, "slow", batch_size=200, connections=connections
    )
    assert found.name == "client", found


@pytest.mark.parametrize(("method", "connections"), [("copy", 1), ("copy", 4), ("values", 1)])
def test_simulated_latency(
    server: Target,
    path: Path,
    schema: str,
    connection: Connection,
    method: str,
    connections: int,
) -> None:
    """With small batches over 30 ms, the bottleneck is the network."""
    table = make_table(path, schema, connection)
    with delayed(without_flushes(server), 30) as far:
        found = measure_bottleneck(far, path, table, method, batch_size=40, connections=connections)
    assert found.name == "network", found


def add_trigger(table: Table, connection: Connection, event: str, work: str) -> None:
    """Run a PL/pgSQL statement for each row or statement that is inserted."""
    name = f"{table.schema}.work"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {work}; "
            f"RETURN NEW; END $$; CREATE TRIGGER work BEFORE INSERT ON "
            f"{qualified_name(table, connection)} FOR EACH {event} EXECUTE FUNCTION {name}()"
        )


@pytest.mark.parametrize("connections", [1, 4])
def test_busy_server(
    server: Target, path: Path, schema: str, connection: Connection, connections: int
) -> None:
    """With a trigger that computes for each row, the bottleneck is the server's CPU."""
    table = make_table(path, schema, connection)
    work = "FOR n IN 1..100 LOOP PERFORM md5(NEW::text); END LOOP"
    add_trigger(table, connection, "ROW", work)
    found = measure_bottleneck(server, path, table, "copy", batch_size=200, connections=connections)
    assert found.name == "server_cpu", found


@contextmanager
def repeatedly_taken(statement: str, target: Target, seconds: float = 0.03) -> Iterator[None]:
    """Another session takes a lock for so many seconds again and again."""
    stopped, other = Event(), target.connect()

    def lock() -> None:
        with other.cursor() as cursor:
            while not stopped.is_set():
                cursor.execute(f"BEGIN; {statement}; SELECT pg_sleep({seconds}); COMMIT")

    thread = Thread(target=lock)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        other.close()


def test_locked_table(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """With another session that locks the table repeatedly, the bottleneck is locks."""
    table = make_table(path, schema, connection)
    name = qualified_name(table, connection)
    with repeatedly_taken(f"LOCK TABLE {name} IN SHARE MODE", server):
        found = measure_bottleneck(server, path, table, "copy", batch_size=100)
    assert found.name == "locks", found


def test_slow_commits(path: Path) -> None:
    """With tiny batches on a server of slow commits, the bottleneck is its WAL."""
    with embedded(commit_delay="50000", commit_siblings="0") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        found = measure_bottleneck(target, path, table, "copy", batch_size=10, connections=6)
        connection.close()
    assert found.name == "wal", found


@pytest.mark.parametrize("connections", [1, 4])
def test_slow_disk(path: Path, connections: int) -> None:
    """With pages that are read from and written to the disk past every cache, it is I/O.

    Several connections mostly wait for locks, whose holders wait for the disk.
    """
    with embedded(shared_buffers="400kB", debug_io_direct="data", fsync="off") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        with connection.cursor() as cursor:
            for n in range(8):  # in random order
                cursor.execute(
                    f"CREATE INDEX ON {qualified_name(table, connection)} (md5(id::text || {n}))"
                )
        found = measure_bottleneck(
            target, path, table, "copy", batch_size=100, connections=connections
        )
        connection.close()
    assert found.name == "io", found


def test_plain_copy(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """A plain load on this machine has neither locks nor I/O nor network as its bottleneck."""
    table = make_table(path, schema, connection)
    found = measure_bottleneck(server, path, table, "copy", batch_size=500, times=10)
    assert found.name in ("client", "server_cpu", "wal"), found


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize(("event", "seconds"), [("ROW", 0.001), ("STATEMENT", 0.05)])
def test_sleeping_trigger(
    server: Target,
    path: Path,
    schema: str,
    connection: Connection,
    event: str,
    seconds: float,
    connections: int,
) -> None:
    """With a trigger that sleeps, it is a wait within the server, which the advice names."""
    table = make_table(path, schema, connection)
    add_trigger(table, connection, event, f"PERFORM pg_sleep({seconds})")
    found = measure_bottleneck(
        without_flushes(server), path, table, "copy", batch_size=100, connections=connections
    )
    assert found.name == "server_wait", found
    assert "Timeout:PgSleep" in found.advice


@pytest.mark.parametrize("connections", [1, 4])
def test_advisory_lock(
    server: Target, path: Path, schema: str, connection: Connection, connections: int
) -> None:
    """With a trigger that takes an advisory lock which another session holds, it is locks."""
    table = make_table(path, schema, connection)
    add_trigger(table, connection, "STATEMENT", "PERFORM pg_advisory_xact_lock(1)")
    with repeatedly_taken("SELECT pg_advisory_xact_lock(1)", server, seconds=0.2):
        found = measure_bottleneck(
            without_flushes(server), path, table, "copy", batch_size=100, connections=connections
        )
    assert found.name == "locks", found


def test_connections_that_lock_each_other(
    server: Target, path: Path, schema: str, connection: Connection
) -> None:
    """With an advisory lock that the load's own connections hold while they work, it is locks."""
    table = make_table(path, schema, connection)
    work = "PERFORM pg_advisory_xact_lock(1); FOR n IN 1..20 LOOP PERFORM md5(NEW::text); END LOOP"
    add_trigger(table, connection, "ROW", work)
    found = measure_bottleneck(
        without_flushes(server), path, table, "copy", batch_size=100, connections=4
    )
    assert found.name == "locks", found


@pytest.mark.parametrize("connections", [1, 4])
def test_commit_delay(path: Path, connections: int) -> None:
    """A delay before each flush, which no wait event shows, counts as the write-ahead log."""
    with embedded(commit_delay="50000", commit_siblings="0") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        found = measure_bottleneck(
            target, path, table, "copy", batch_size=100, connections=connections
        )
        connection.close()
    assert found.name == "wal", found


# Not copy over one connection at 5 MB/s: where other processes use the machine, its backend is
# often seen active without a wait event and without processor time, which counts as unknown.
@pytest.mark.parametrize(
    ("method", "megabytes", "connections"),
    [("copy", 5, 4), ("copy", 20, 1), ("copy", 20, 4), ("values", 5, 1), ("values", 5, 4)],
)
def test_limited_bandwidth(
    server: Target,
    path: Path,
    schema: str,
    connection: Connection,
    method: str,
    megabytes: int,
    connections: int,
) -> None:
    """With a link that carries few bytes per second, without latency, it is the network."""
    table = make_table(path, schema, connection)
    with throttled(without_flushes(server), megabytes * 1e6) as far:
        found = measure_bottleneck(
            far, path, table, method, batch_size=200, connections=connections, times=3
        )
    assert found.name == "network", found


@contextmanager
def busy_processes(count: int, cpu: int | None = None) -> Iterator[None]:
    """Other processes that use the processors, or one of them, all of the time."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-uc", "print()\nwhile True: pass"], stdout=subprocess.PIPE
                )
            )
            stack.callback(process.kill)
            if cpu is not None:
                os.sched_setaffinity(process.pid, {cpu})
            assert process.stdout is not None
            process.stdout.readline()  # it has started
        yield


@pytest.mark.parametrize("connections", [1, 4])
def test_starved_server(path: Path, connections: int) -> None:
    """With a server whose processor other processes use, it is not the client."""
    cpu = min(os.sched_getaffinity(0))
    with embedded(fsync="off") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_read_file('postmaster.pid')")
            postmaster = int(cursor.fetchone()[0].split()[0])
        work = "FOR n IN 1..20 LOOP PERFORM md5(NEW::text); END LOOP"
        add_trigger(table, connection, "ROW", work)  # so that the server needs more than the client
        os.sched_setaffinity(postmaster, {cpu})
        with busy_processes(4, cpu):
            found = measure_bottleneck(
                target, path, table, "copy", batch_size=200, connections=connections
            )
        connection.close()
    assert found.name in ("server_cpu", "unknown"), found
    assert "other processes used" in found.advice


@pytest.mark.parametrize("connections", [1, 4])
def test_busy_machine(
    server: Target,
    path: Path,
    schema: str,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    connections: int,
) -> None:
    """With a slow encoder on a machine full of other work, the advice mentions that work."""
    monkeypatch.setitem(methods._CLASSES, "slow", SlowCopy)
    table = make_table(path, schema, connection)
    with busy_processes(2):
        found = measure_bottleneck(
            without_flushes(server), path, table, "slow", batch_size=200, connections=connections
        )
    assert found.name == "client", found
    assert "other processes used" in found.advice
