"""Loads on servers whose bottleneck is known: the one that is reported is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
        Observer(target.connect, loader.pids) as observer,
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


@pytest.mark.parametrize("method", ["copy", "values"])
def test_simulated_latency(
    server: Target, path: Path, schema: str, connection: Connection, method: str
) -> None:
    """With small batches over 30 ms, the bottleneck is the network."""
    table = make_table(path, schema, connection)
    with delayed(server, 30) as far:
        found = measure_bottleneck(far, path, table, method, batch_size=100)
    assert found.name == "network", found


def test_busy_server(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """With a trigger that computes for each row, the bottleneck is the server's CPU."""
    table = make_table(path, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION {schema}.work() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "FOR n IN 1..100 LOOP PERFORM md5(NEW::text); END LOOP; RETURN NEW; END $$; "
            f"CREATE TRIGGER work BEFORE INSERT ON {qualified_name(table, connection)} "
            f"FOR EACH ROW EXECUTE FUNCTION {schema}.work()"
        )
    found = measure_bottleneck(server, path, table, "copy", batch_size=200)
    assert found.name == "server_cpu", found


@contextmanager
def repeatedly_locked(table: Table, target: Target) -> Iterator[None]:
    """Another session locks the table for 30 ms again and again."""
    stopped, other = Event(), target.connect()

    def lock() -> None:
        with other.cursor() as cursor:
            name = qualified_name(table, other)
            while not stopped.is_set():
                cursor.execute(
                    f"BEGIN; LOCK TABLE {name} IN SHARE MODE; SELECT pg_sleep(0.03); COMMIT"
                )

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
    with repeatedly_locked(table, server):
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


def test_slow_disk(path: Path) -> None:
    """With pages that are read from and written to the disk past every cache, it is I/O."""
    with embedded(shared_buffers="400kB", debug_io_direct="data", fsync="off") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        with connection.cursor() as cursor:
            for n in range(8):  # in random order
                cursor.execute(
                    f"CREATE INDEX ON {qualified_name(table, connection)} (md5(id::text || {n}))"
                )
        found = measure_bottleneck(target, path, table, "copy", batch_size=200)
        connection.close()
    assert found.name == "io", found


def test_plain_copy(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """A plain load on this machine has neither locks nor I/O nor network as its bottleneck."""
    table = make_table(path, schema, connection)
    found = measure_bottleneck(server, path, table, "copy", batch_size=500, times=10)
    assert found.name in ("client", "server_cpu", "wal"), found
