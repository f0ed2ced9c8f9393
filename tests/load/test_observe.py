"""Loads are observed without being disturbed; what the server hides is missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pgload.errors import TargetError
from pgload.load import observe as observe_module
from pgload.load.observe import CLIENT, COUNTERS, CPU, Observation, Observer, Sample
from pgload.targets.target import Target
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def test_count_states() -> None:
    """States are counted over all backends in the samples of a period, both ends included."""
    observation = Observation([Sample(n, [CPU, CLIENT]) for n in (0.5, 1.0, 2.0, 2.5)])
    assert observation.count_states(1.0, 2.0) == {CPU: 2, CLIENT: 2}
    assert observation.count_states(3.0, 4.0) == {}


@pytest.fixture
def guarded(server: Target, connection: Connection) -> Iterator[Target]:
    """The server for a role without privileges, with a database of its own."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE guarded")
        cursor.execute("CREATE ROLE guest LOGIN")
        yield Target("GCP", {**server.parameters, "user": "guest", "dbname": "guarded"})
        cursor.execute("DROP DATABASE guarded WITH (FORCE)")
        cursor.execute("DROP ROLE guest")


def observe(connect: Callable[[], Any], watched: Connection) -> Observation:
    """What is observed of one backend while it sleeps for 0.2 s."""
    with Observer(connect, lambda: [watched.info.backend_pid]) as observer:
        observer.begin()
        with watched.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.2)")
        return observer.end()


def test_waits(server: Target, connection: Connection) -> None:
    """The states of a backend are sampled, and the server's counters are read."""
    observed = observe(server.connect, connection)
    assert {state for sample in observed.samples for state in sample.states} <= {
        CLIENT,
        CPU,
        "Timeout:PgSleep",
    }
    assert any("Timeout:PgSleep" in sample.states for sample in observed.samples)
    assert observed.counters.keys() >= {
        "wal_bytes",
        "wal_records",
        "backend_extends",
        "checkpoints",
    }


def test_holders_of_locks(server: Target) -> None:
    """A sample names the load's backends that hold what another one waits for."""
    holder, waiter = server.connect(), server.connect()
    waiting = threading.Thread(target=lock, args=(waiter,))
    pids = [connection.info.backend_pid for connection in (holder, waiter)]
    with Observer(server.connect, lambda: pids) as observer:
        with holder.cursor() as cursor:
            cursor.execute("BEGIN; SELECT pg_advisory_xact_lock(7)")
        observer.begin()
        waiting.start()
        wait_until(lambda: any(sample.holders for sample in observer._samples))
        with holder.cursor() as cursor:
            cursor.execute("COMMIT")
        waiting.join()
        observed = observer.end()
    sample = next(sample for sample in observed.samples if sample.holders)
    ((index, holders),) = sample.holders.items()
    assert sample.states[index] == "Lock:advisory"
    assert [sample.states[n] for n in holders] == [CLIENT]
    for connection in (holder, waiter):
        connection.close()


def lock(connection: Connection) -> None:
    """Take and release an advisory lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(7)")


def test_hidden_states(guarded: Target, connection: Connection) -> None:
    """The states of another role's backends are hidden; the counters are not."""
    observed = observe(guarded.connect, connection)
    assert observed.samples
    assert not any(sample.states for sample in observed.samples)
    assert "wal_bytes" in observed.counters


def test_hidden_views(guarded: Target, server: Target) -> None:
    """A view that a role may not read is missing, and nothing else is."""
    admin = Target("GCP", {**server.parameters, "dbname": "guarded"}).connect()
    with admin.cursor() as cursor:
        cursor.execute("REVOKE SELECT ON pg_stat_io FROM PUBLIC")
        cursor.execute("REVOKE EXECUTE ON FUNCTION pg_stat_get_activity FROM PUBLIC")
    admin.close()
    connection = guarded.connect()
    observed = observe(guarded.connect, connection)
    connection.close()
    assert not observed.samples
    assert observed.counters.keys() >= {"wal_bytes", "wal_records", "checkpoints"}
    assert not observed.counters.keys() & {"wal_syncs", "backend_extends"}


def test_counters_of_version_19(
    server: Target, connection: Connection, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counters that PostgreSQL 19 has are read where they are, here in a table instead of the
    view, and left out where they are not."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {schema}.pg_stat_lock (locktype text, waits bigint, wait_time bigint, "
            "fastpath_exceeded bigint)"
        )
        cursor.execute(f"INSERT INTO {schema}.pg_stat_lock VALUES ('relation', 2, 1500, 0)")
    new = [each for each in COUNTERS if each.since == 19_00_00]
    monkeypatch.setattr(observe_module, "COUNTERS", [each._replace(since=0) for each in new])
    assert observe(server.connect, connection).counters == {}
    options = {"options": f"-c search_path={schema}"}
    target = Target("GCP", {**server.parameters, **options})
    assert observe(target.connect, connection).counters == {"lock_waits": 0, "lock_wait_seconds": 0}


def test_no_connection_left(connection: Connection) -> None:
    """Without a connection for the observer the load does not fail; nothing is observed."""

    def refused() -> Connection:
        raise TargetError("GCP: the server has no connection left")

    observed = observe(refused, connection)
    assert (observed.samples, observed.counters, observed.checkpoints) == ((), {}, ())
    assert observed.usage is None or observed.usage.backends is None


def test_lost_connection(server: Target, connection: Connection) -> None:
    """An observer whose connection is lost returns what it observed until then."""
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
        observed = observer.end()
    assert observed.counters["wal_bytes"] == 0
    assert observed.checkpoints == ()


def test_one_connection_for_many_loads(server: Target, connection: Connection) -> None:
    """An observer observes one load after the other; each observation has its own samples."""
    with Observer(server.connect, lambda: [connection.info.backend_pid]) as observer:
        observations = []
        for _ in range(3):
            observer.begin()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.1)")
            observations.append(observer.end())
    first, second, third = (observed.samples for observed in observations)
    assert first[-1].at < second[0].at <= second[-1].at < third[0].at


def test_checkpoint(server: Target, connection: Connection) -> None:
    """A checkpoint during a load is noticed."""

    def checkpoints(cursor: Cursor) -> int:
        cursor.execute("SELECT num_timed + num_requested FROM pg_stat_checkpointer")
        (count,) = cursor.fetchone()
        return count

    with (
        Observer(server.connect, lambda: [connection.info.backend_pid]) as observer,
        connection.cursor() as cursor,
    ):
        before = checkpoints(cursor)
        observer.begin()
        cursor.execute("CHECKPOINT")
        wait_until(lambda: checkpoints(cursor) > before)  # published a little later
        observed = observer.end()
    assert len(observed.checkpoints) == 1
    assert observed.counters["checkpoints"] == 1
