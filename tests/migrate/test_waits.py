"""Waits that end: locks, a server that stops while a run is planned, Ctrl-C at any moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest

from pgload.migrate.control import with_timeouts
from pgload.targets.target import Target
from tests.support.migrating import (
    MigrationSandbox,
    Restarts,
    make_sandbox,
    wait_for_lock,
    wait_while_running,
)
from tests.support.servers import embedded


def test_lock_that_is_held(sandbox: MigrationSandbox) -> None:
    """A wait for a lock counts against --retry-timeout, and is retried before the run ends."""
    path = sandbox.numbers("t.json", 100)
    begin = time.monotonic()
    with sandbox.locked(), sandbox.start("--retry-timeout", "1") as process:
        output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert process.returncode == 1, output
    assert "lock timeout (SQLSTATE 55P03)" in output
    assert sandbox.output("migration_results.json")["retries"] >= 1
    assert sandbox.migrate("--resume") == 0
    sandbox.check(path)


# The first is locked while the migration connects, the second while it plans.
LOCKS = ("pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE", "pgload_ledger")


@pytest.mark.parametrize("lock", LOCKS, ids=["connecting", "planning"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_planning(
    sandbox: MigrationSandbox, number: signal.Signals, lock: str
) -> None:
    """A signal is handled within a second while the main thread waits for a lock."""
    sandbox.numbers("t.json", 10)
    assert sandbox.migrate() == 0
    with sandbox.locked(lock) as cursor, sandbox.start() as process:
        wait_for_lock(cursor, process)
        begin = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert time.monotonic() - begin < 2
        cursor.execute("ROLLBACK")
    assert process.returncode == 130, output
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def restarts() -> Iterator[tuple[Target, Restarts]]:
    """A server that can be stopped and started again."""
    with embedded(fsync="off") as target, Restarts(target) as found:
        yield target, found


def test_server_killed_while_planning(restarts: tuple[Target, Restarts], tmp_path: Path) -> None:
    """A server that crashes while the run is planned is waited for."""
    target, server = restarts
    with make_sandbox(target, tmp_path) as sandbox:
        paths = [sandbox.numbers("t_1.json", 100)]
        assert sandbox.migrate() == 0
        paths.append(sandbox.numbers("t_2.json", 100, start=100))
        with (
            suppress(psycopg2.Error),
            sandbox.locked("pgload_ledger") as cursor,
            sandbox.start("--resume") as process,
        ):
            wait_for_lock(cursor, process)
            server.restart(signal.SIGQUIT)
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert "trying again" in output
        sandbox.check(*paths)


@pytest.mark.parametrize("when", ["after", "during"])
def test_asynchronous_commits(restarts: tuple[Target, Restarts], tmp_path: Path, when: str) -> None:
    """With synchronous_commit = off no record is missing after a crash: neither right after the
    run nor while it writes."""
    target, server = restarts
    with make_sandbox(target, tmp_path) as sandbox:
        sandbox.sql(
            f"ALTER DATABASE {sandbox.name} SET synchronous_commit = off",
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
            "SELECT pg_reload_conf()",
        )
        records = 4000 if when == "during" else 1000
        path = sandbox.numbers("t.json", records)
        with sandbox.start("--batch-size", "10", "--connections", "2") as process:
            if when == "during":
                wait_while_running(process, lambda: sandbox.committed() > 500)
                server.restart(signal.SIGQUIT)
            output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        server.restart(signal.SIGQUIT)
        sandbox.check(path)
        assert sandbox.output("migration_results.json")["total_records"] == records
        if when == "during":
            assert "were lost when the server crashed" in output
        sandbox.sql("ALTER SYSTEM RESET ALL")


def test_asynchronous_commits_and_counts(restarts: tuple[Target, Restarts], tmp_path: Path) -> None:
    """Records whose commit was lost in a crash are counted once, and rejects are reported once."""
    target, server = restarts
    with make_sandbox(target, tmp_path) as sandbox:
        sandbox.sql(
            f"ALTER DATABASE {sandbox.name} SET synchronous_commit = off",
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
            "SELECT pg_reload_conf()",
            "CREATE TABLE k (k int PRIMARY KEY, v int CHECK (v % 1500 <> 7))",
        )
        sandbox.file("k.json", [{"k": n // 2, "v": n} for n in range(6000)])
        given = ("--on-conflict", "skip", "--batch-size", "10", "--connections", "2")
        with sandbox.start(*given) as process:
            wait_while_running(process, lambda: sandbox.committed() > 2000)
            server.restart(signal.SIGQUIT)
            output, _ = process.communicate(timeout=100)
        assert process.returncode == 1, output
        assert "were lost when the server crashed" in output
        results = sandbox.output("migration_results.json")
        counts = [results[name] for name in ("total_records", "skipped", "rejects", "records_left")]
        assert counts == [3000, 2996, 4, 0]
        assert sorted(each["record"] for each in sandbox.output("rejects.jsonl")) == [
            8, 1508, 3008, 4508
        ]  # fmt: skip
        sandbox.sql("ALTER SYSTEM RESET ALL")


def test_timeouts_of_a_connection() -> None:
    """A silent network is noticed within half of --retry-timeout; no timeout becomes longer."""
    target = Target("GCP", {"host": "h", "connect_timeout": 15, "tcp_user_timeout": 60000})
    short = with_timeouts(target, 20).parameters
    assert (short["connect_timeout"], short["tcp_user_timeout"]) == (10, 10000)
    long = with_timeouts(target, 300).parameters
    assert (long["connect_timeout"], long["tcp_user_timeout"]) == (15, 60000)
    several = Target("GCP", {"host": "a,b"})
    assert with_timeouts(several, 300).parameters["target_session_attrs"] == "read-write"
