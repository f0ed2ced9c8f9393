"""A load is watched without being harmed, and what held it back is told by its own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import BOTTLENECKS, METHODS
from pgload.errors import TargetError
from pgload.load.bottleneck import ADVICE, EVENTS, Bottleneck, bottleneck, divide, owner
from pgload.load.bottleneck import verdict as verdict_on
from pgload.load.loader import Loader
from pgload.load.methods import Copy
from pgload.load.observe import CLIENT, CPU, Observation, Observer, Sample
from pgload.load.stats import BatchStat, LoadResult, timeline
from pgload.schema.table import Table, qualified_name
from pgload.source.reader import Batch, read_batches
from pgload.targets.delay import delayed
from pgload.targets.embedded import embedded
from pgload.targets.target import Target
from tests.support.loading import empty, make_table, write_json
from tests.targets.test_delay import round_trip

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 2,000 records of 1 KB."""
    records = [
        {"n": str(n)} | {f"f{k}": f"{n} {k} " + "text " * 8 for k in range(20)} for n in range(2000)
    ]
    return write_json(tmp_path_factory.mktemp("data") / "records.json", records)


def watched(
    target: Target,
    path: Path,
    table: Table,
    method: str,
    batch_size: int,
    connections: int = 1,
    times: int = 1,
) -> Bottleneck:
    """The verdict on one load into an empty table of the file, several times over."""
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
        return bottleneck(result, observer.end(), rtt)


def without_flushes(target: Target) -> Target:
    """The target with commits that do not wait for a disk, which other programs may keep busy."""
    return replace(target, parameters={**target.parameters, "options": "-c synchronous_commit=off"})


class Slow(Copy):
    """A method with work in Python for every field, several times over."""

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
    """Workers that wait for a slow encoder are held back by the client."""
    monkeypatch.setitem(METHODS, "slow", Slow)
    table = make_table(path, schema, connection)
    found = watched(without_flushes(server), path, table, "slow", 200, connections)
    assert found.name == "client", found


@pytest.mark.parametrize("method", ["copy", "values"])
def test_distance(
    server: Target, path: Path, schema: str, connection: Connection, method: str
) -> None:
    """Small batches over 30 ms are held back by the network."""
    table = make_table(path, schema, connection)
    with delayed(server, 30) as far:
        found = watched(far, path, table, method, 100)
    assert found.name == "network", found


def test_busy_server(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """Rows that the server computes with are held back by its processors."""
    table = make_table(path, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION {schema}.work() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "FOR n IN 1..100 LOOP PERFORM md5(NEW::text); END LOOP; RETURN NEW; END $$; "
            f"CREATE TRIGGER work BEFORE INSERT ON {qualified_name(table, connection)} "
            f"FOR EACH ROW EXECUTE FUNCTION {schema}.work()"
        )
    assert watched(server, path, table, "copy", 200).name == "server_cpu"


@contextmanager
def held_in_turns(table: Table, target: Target) -> Iterator[None]:
    """Another session that holds the table's lock for 30 ms again and again."""
    over, other = Event(), target.connect()

    def hold() -> None:
        with other.cursor() as cursor:
            name = qualified_name(table, other)
            while not over.is_set():
                cursor.execute(
                    f"BEGIN; LOCK TABLE {name} IN SHARE MODE; SELECT pg_sleep(0.03); COMMIT"
                )

    thread = Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        other.close()


def test_locked_table(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """A table that another session locks in turns holds the load back by its lock."""
    table = make_table(path, schema, connection)
    with held_in_turns(table, server):
        assert watched(server, path, table, "copy", 100).name == "locks"


def test_slow_commits(path: Path) -> None:
    """Tiny batches on a server of slow commits are held back by its log."""
    with embedded(commit_delay="50000", commit_siblings="0") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        found = watched(target, path, table, "copy", 10, connections=6)
        connection.close()
    assert found.name == "wal", found


def test_slow_disk(path: Path) -> None:
    """Pages that go to the disk and come back, past every cache, hold the load back."""
    with embedded(shared_buffers="400kB", debug_io_direct="data", fsync="off") as target:
        connection = target.connect()
        table = make_table(path, "public", connection)
        with connection.cursor() as cursor:
            for n in range(8):  # in no order of the rows
                cursor.execute(
                    f"CREATE INDEX ON {qualified_name(table, connection)} (md5(id::text || {n}))"
                )
        found = watched(target, path, table, "copy", 200)
        connection.close()
    assert found.name == "io", found


def test_plain_copy(server: Target, path: Path, schema: str, connection: Connection) -> None:
    """Nobody stands in the way of a plain load on this machine: no lock, no disk, no distance."""
    table = make_table(path, schema, connection)
    found = watched(server, path, table, "copy", 500, times=10)
    assert found.name in ("client", "server_cpu", "wal"), found


# What the server hides, and what goes wrong


@pytest.fixture
def guarded(server: Target, connection: Connection) -> Iterator[Target]:
    """The server as a role without rights sees it, in a database of its own."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE guarded")
        cursor.execute("CREATE ROLE guest LOGIN")
        yield Target("GCP", {**server.parameters, "user": "guest", "dbname": "guarded"})
        cursor.execute("DROP DATABASE guarded WITH (FORCE)")
        cursor.execute("DROP ROLE guest")


def observe(connect: Callable[[], Any], watched: Connection) -> Observation:
    """What is seen of one backend at some work of its own."""
    with Observer(connect, lambda: [watched.info.backend_pid]) as observer:
        observer.begin()
        with watched.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.2)")
        return observer.end()


def test_waits(server: Target, connection: Connection) -> None:
    """A backend's waits are sampled while it works, and what the server counts comes with them."""
    seen = observe(server.connect, connection)
    assert {doing for sample in seen.samples for doing in sample.doing} <= {
        CLIENT,
        CPU,
        "Timeout:PgSleep",
    }
    assert any("Timeout:PgSleep" in sample.doing for sample in seen.samples)
    assert seen.counters.keys() >= {"wal_bytes", "wal_records", "backend_extends", "checkpoints"}


def test_what_others_do_is_hidden(guarded: Target, connection: Connection) -> None:
    """Of another role's backends nothing is seen; the counters are."""
    seen = observe(guarded.connect, connection)
    assert seen.samples
    assert not any(sample.doing for sample in seen.samples)
    assert "wal_bytes" in seen.counters


def test_hidden_views(guarded: Target, server: Target) -> None:
    """A view that a role may not read is missing, and nothing else is."""
    owner = Target("GCP", {**server.parameters, "dbname": "guarded"}).connect()
    with owner.cursor() as cursor:
        cursor.execute("REVOKE SELECT ON pg_stat_io FROM PUBLIC")
        cursor.execute("REVOKE EXECUTE ON FUNCTION pg_stat_get_activity FROM PUBLIC")
    owner.close()
    connection = guarded.connect()
    seen = observe(guarded.connect, connection)
    connection.close()
    assert not seen.samples
    assert seen.counters.keys() >= {"wal_bytes", "wal_records", "checkpoints"}
    assert not seen.counters.keys() & {"wal_syncs", "backend_extends"}


def test_no_connection_left(connection: Connection) -> None:
    """A load does not fail because there is no connection to watch it over."""

    def refused() -> Connection:
        raise TargetError("GCP: the server has no connection left")

    assert observe(refused, connection) == Observation()


def test_lost_connection(server: Target, connection: Connection) -> None:
    """A watcher that is cut off says what it had seen until then."""
    observers: list[Connection] = []

    def connect() -> Connection:
        observers.append(server.connect())
        return observers[0]

    with Observer(connect, lambda: [connection.info.backend_pid]) as observer:
        observer.begin()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(%s, 10000)", (observers[0].info.backend_pid,)
            )
            assert cursor.fetchone() == (True,)
        seen = observer.end()
    assert seen.counters["wal_bytes"] == 0
    assert seen.checkpoints == ()


def test_one_connection_for_many_loads(server: Target, connection: Connection) -> None:
    """An observer watches one load after the other; each observation has its own samples."""
    with Observer(server.connect, lambda: [connection.info.backend_pid]) as observer:
        observations = []
        for _ in range(3):
            observer.begin()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.1)")
            observations.append(observer.end())
    first, second, third = (seen.samples for seen in observations)
    assert first[-1].at < second[0].at <= second[-1].at < third[0].at


def test_checkpoint(server: Target, connection: Connection) -> None:
    """A checkpoint during a load is noticed."""
    counted = "SELECT num_timed + num_requested FROM pg_stat_checkpointer"
    with (
        Observer(server.connect, lambda: [connection.info.backend_pid]) as observer,
        connection.cursor() as cursor,
    ):
        cursor.execute(counted)
        before = now = cursor.fetchone()
        observer.begin()
        cursor.execute("CHECKPOINT")
        while now == before:  # the checkpointer tells a little later
            cursor.execute(counted)
            now = cursor.fetchone()
        seen = observer.end()
    assert len(seen.checkpoints) == 1
    assert seen.counters["checkpoints"] == 1


# The attribution, from observations made up


def made_load(
    *, method: str = "values", connections: int = 2, seconds: float = 10.0, cpu: float = 0.0,
    wait: float = 0.0, write: float = 1.0, batches: int = 20,
) -> LoadResult:  # fmt: skip
    """A load of equal batches of 10 records."""
    each = [
        BatchStat(n, "f.json", "t", 1, 10, 100, 0, 0.0, 0.0, write, 0.0, n * 0.5, wait)
        for n in range(1, batches + 1)
    ]
    return LoadResult(method, connections, datetime.now(UTC), seconds, 100.0, cpu, each)


def made_observation(*doing: str) -> Observation:
    """One sample that falls into a load, and one before it that does not count."""
    return Observation(samples=[Sample(99.0, ["Lock:tuple"] * 99), Sample(105.0, doing)])


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (CPU, "server_cpu"),
        ("IO:WALSync", "wal"),  # 13 to 16
        ("IO:WalSync", "wal"),  # since 17
        ("LWLock:WALWrite", "wal"),
        ("LWLock:WALInsert", "wal"),
        ("IPC:SyncRep", "wal"),
        ("IO:XactSync", "wal"),  # Aurora
        ("IO:DataFileRead", "io"),
        ("IO:AioIoCompletion", "io"),
        ("IPC:BufferIO", "io"),
        ("LWLock:BufferIO", "io"),  # 13
        ("LWLock:BufferContent", "locks"),
        ("Lock:extend", "locks"),
        ("Lock:relation", "locks"),
        ("Timeout:PgSleep", "server_cpu"),
        ("Extension:Anything", "server_cpu"),
    ],
)
def test_owner_of_a_wait(event: str, name: str) -> None:
    """Every wait event within the server counts for one share, whatever the version calls it."""
    assert owner(event) == name


def test_idle_is_divided() -> None:
    """Of writing while the backend waits, round trips are the network's; the rest is shared by
    how busy the client was.
    """
    load = made_load(cpu=4.0)  # 20 s of writing; half of it the backend waits
    seconds = divide(load, made_observation(CLIENT, CPU), rtt=0.1)
    assert seconds["server_cpu"] == pytest.approx(10)
    assert seconds["network"] == pytest.approx(20 * 0.1 + 0.6 * 8)
    assert seconds["client"] == pytest.approx(0.4 * 8)
    here = divide(load, made_observation(CLIENT, CPU), rtt=0.0001)  # no network lies between
    assert (here["network"], here["client"]) == pytest.approx((0.002, 9.998))
    copy = divide(made_load(method="copy", cpu=10.0), made_observation(CLIENT), rtt=0.1)
    assert (copy["network"], copy["client"]) == pytest.approx((2 * 20 * 0.1, 20 - 4))


def test_waiting_for_batches() -> None:
    """A worker without a batch is held back by the client; one with none left by nothing."""
    load = made_load(wait=0.4, write=0.1, cpu=10.0)  # 8 s, 2 s, and 10 s without work
    seconds = divide(load, made_observation(*[CLIENT] * 9, "Lock:tuple"), rtt=0.0)
    assert seconds["locks"] == pytest.approx(2)
    assert seconds["client"] == pytest.approx(8)


def test_nothing_seen() -> None:
    """Where the server hides its waits, what the client cannot explain is the server's."""
    seconds = divide(made_load(batches=10), Observation(), rtt=0.2)
    assert seconds["network"] == pytest.approx(2)
    assert seconds["server_cpu"] == pytest.approx(8)


@given(
    st.lists(st.sampled_from([CLIENT, *(start + "x" for start, _ in EVENTS)]), max_size=30),
    st.sampled_from(["values", "copy", "executemany", "another"]),
    st.floats(0, 1),
    st.floats(0, 30),
    st.floats(0, 0.5),
    st.floats(0.001, 0.5),
)
def test_shares(
    doing: list[str], method: str, rtt: float, cpu: float, wait: float, write: float
) -> None:
    """Whatever was seen, the shares are none negative and their sum is 1; the largest has a name
    and an advice.
    """
    load = made_load(method=method, cpu=cpu, wait=wait, write=write)
    found = bottleneck(load, made_observation(*doing), rtt)
    assert tuple(found.shares) == BOTTLENECKS
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) >= 0
    assert found.shares[found.name] == max(found.shares.values())
    assert found.advice.startswith(ADVICE[found.name])


def test_a_verdict_on_rounds() -> None:
    """Rounds count by their seconds."""
    rounds = [{"client": 1.0, "wal": 0.0}, {"client": 0.0, "wal": 3.0}]
    assert verdict_on(rounds).shares["wal"] == 0.75


def test_a_close_verdict() -> None:
    """Where two things hold a load back about as much, both get their advice."""
    both = verdict_on([{"client": 5.0, "wal": 4.5, "locks": 0.5}])
    assert both.name == "client"
    assert both.advice == f"{ADVICE['client']}; and nearly as much, {ADVICE['wal']}"
    assert verdict_on([{"client": 5.0, "wal": 3.0}]).advice == ADVICE["client"]


@pytest.mark.parametrize(("batches", "told"), [(20, 20), (21, 11), (1, 1)])
def test_timeline(batches: int, told: int) -> None:
    """A load's batches as columns; with too many of them, a stretch is told by its slowest."""
    load = made_load(batches=batches, write=0.25)
    columns = timeline(load, most=20)
    assert {len(column) for column in columns.values()} == {told}
    assert columns["start"][0] == 0.25
    assert columns["seconds"] == [0.25] * told
