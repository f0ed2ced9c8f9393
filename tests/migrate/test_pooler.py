"""Through a PgBouncer in transaction mode: every record once, and nothing left behind.

    PGLOAD_KILLS=20 PGLOAD_RUNS=10 pytest tests/migrate/test_pooler.py -k "killed or in_a_row"

runs the tests with that many kills and runs instead of a few.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from random import Random

import pytest

from pgload.contract import METHODS
from pgload.load import heartbeat
from pgload.targets.target import Target
from tests.support.migrating import (
    MigrationSandbox,
    wait_for_commits,
    wait_for_lock,
    wait_while_running,
)
from tests.support.pooler import left_behind, pooled, running_pooler
from tests.support.waiting import wait_until

# The runs that are alive, according to the ledger.
BEGUN = "SELECT count(*)::int FROM pgload_ledger WHERE file = ''"
KILLS = int(os.environ.get("PGLOAD_KILLS", "2"))
RUNS = int(os.environ.get("PGLOAD_RUNS", "1"))


@pytest.fixture(scope="module")
def pooler(server: Target) -> Iterator[Target]:
    """The server, as a PgBouncer gives it."""
    with pooled(server) as found:
        yield found


@pytest.fixture
def through(sandbox: MigrationSandbox, pooler: Target) -> Iterator[MigrationSandbox]:
    """The sandbox as seen through the pooler; nothing may be left behind in its connections."""
    yield replace(sandbox, target=pooler)
    assert left_behind(pooler, sandbox.name) == []


@pytest.mark.parametrize("method", METHODS)
def test_methods(
    through: MigrationSandbox, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each method loads every record once, over more connections than the pool has."""
    path = through.numbers("t.json", 500)
    assert through.migrate("--method", method, "--batch-size", "20", "--connections", "5") == 0
    assert "through a connection pooler" in capsys.readouterr().out
    through.check(path)
    assert through.migrate("--resume") == 0
    through.check(path)


@pytest.mark.parametrize("how", ["skip", "update"])
@pytest.mark.parametrize("method", METHODS)
def test_on_conflict(through: MigrationSandbox, how: str, method: str) -> None:
    """Records are staged in each transaction; a second run finds no staging table of the first."""
    through.sql("CREATE TABLE k (k int PRIMARY KEY, v int CHECK (v <> 33))")
    through.file("k.json", [{"k": n % 50, "v": n} for n in range(100)])
    given = ("--on-conflict", how, "--method", method, "--batch-size", "10", "--connections", "2")
    for _ in range(2):  # record 34 is rejected, which bisects its batch
        assert through.migrate(*given) == 1
        first_or_last = "v IN (k, k + 50)" if how == "skip" else "v = k + 50"
        assert through.sql(f"SELECT count(*) FROM k WHERE {first_or_last}") == [(50,)]


def test_killed(through: MigrationSandbox) -> None:
    """Killed at any moment and resumed until it completes, it loses and repeats no record."""
    records = 1500
    path, random, kills = through.numbers("t.json", records), Random(1), 0
    methods = cycle(METHODS)
    while kills < KILLS:
        through.sql("TRUNCATE t", "DROP TABLE IF EXISTS pgload_ledger")
        while True:
            given = ("--method", next(methods), "--batch-size", "10", "--connections", "5")
            with through.start("--resume", *given) as process:
                more = random.randrange(1, records // 2)
                wait_for_commits(through, process, through.committed() + more)
                process.kill()
                output, _ = process.communicate()
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, output
                break
            kills += 1
        through.check(path)


def test_two_at_once(sandbox: MigrationSandbox, through: MigrationSandbox) -> None:
    """Two migrations of the same file share the work, load it once, and report who wrote what."""
    path = through.numbers("t.json", 2000)
    with sandbox.locked() as cursor:
        first = through.start("--batch-size", "10", "--connections", "1")
        wait_for_lock(cursor, first)
        second = through.start("--batch-size", "10", "--connections", "1", "--resume")
        wait_until(lambda: through.sql(BEGUN) == [(2,)])
        cursor.execute("ROLLBACK")
        output = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], output
    through.check(path)
    found = re.findall(
        r"t.json: ([\d,]+) records were written by this migration, ([\d,]+)", output[1]
    )
    assert sum(int(n.replace(",", "")) for n in found[0]) == 2000, output
    assert through.sql(BEGUN) == [(0,)]


def test_restart_beside_another(
    sandbox: MigrationSandbox, through: MigrationSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--restart` is refused while a migration of the same file is alive, whether one of them or
    both go through the pooler, and possible once that was killed."""
    path = sandbox.numbers("t.json", 200)
    for one, others in ((sandbox, [through]), (through, [sandbox, through])):
        with sandbox.locked() as cursor:
            with one.start("--batch-size", "10") as first:
                backend = wait_for_lock(cursor, first)
                for other in others:
                    assert other.migrate("--restart") == 2
                first.kill()
                first.communicate()
            cursor.execute("SELECT pg_terminate_backend(%s)", (backend,))  # it would write a batch
            cursor.execute("ROLLBACK")
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)  # nobody's beat will come
    assert through.migrate("--restart") == 0
    sandbox.check(path)


def test_start_after_a_kill(
    through: MigrationSandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A start without `--resume` on a file whose migration was killed says so after some seconds,
    and what that one has left in the ledger is removed in the end."""
    path = through.numbers("t.json", 2000)
    with through.start("--batch-size", "10") as first:
        wait_for_commits(through, first, 1)
        first.kill()
        first.communicate()
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    assert through.migrate("--batch-size", "10") == 2
    output = capsys.readouterr().out
    assert "another migration may be writing the same file: waiting up to 6 s" in output
    assert "load the others with --resume" in output
    assert through.migrate("--resume") == 0
    through.check(path)
    assert "another" not in capsys.readouterr().out
    assert through.migrate("--restart") == 0
    through.check(path, path)
    assert through.sql(BEGUN) == [(0,)]


def test_in_a_row(through: MigrationSandbox, pooler: Target) -> None:
    """Migrations in a row, two at once and killed ones among them, leave nothing behind."""
    through.sql("CREATE TABLE k (k int PRIMARY KEY, v int)")
    for number in range(RUNS):
        path = through.file("k.json", [{"k": k, "v": number} for k in range(300)])
        given = ("--on-conflict", "skip", "--batch-size", "10", "--connections", "2")
        through.sql("TRUNCATE k", "DROP TABLE IF EXISTS pgload_ledger")
        with through.start(*given) as killed:
            wait_for_commits(through, killed, 51)
            killed.kill()
        both = [through.start(*given, "--resume") for _ in range(2)]
        output = [process.communicate()[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], output
        through.check(path, table="k")
        assert left_behind(pooler, through.name) == []


def test_interrupted(sandbox: MigrationSandbox, through: MigrationSandbox) -> None:
    """Ctrl-C cancels batches that wait on the server, and signs the run off in the ledger."""
    path = sandbox.numbers("t.json", 200)
    with sandbox.locked() as cursor, through.start("--batch-size", "10") as process:
        wait_for_lock(cursor, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 130, output
        assert through.sql(BEGUN) == [(0,)]
        cursor.execute("ROLLBACK")
    assert through.migrate("--resume") == 0
    through.check(path)


def test_pooler_restarts(sandbox: MigrationSandbox, server: Target) -> None:
    """A pooler that is killed and started again does not end a migration."""
    path = sandbox.numbers("t.json", 6000)
    with running_pooler(server) as pooler:
        through = replace(sandbox, target=pooler.target)
        with through.start("--batch-size", "10", "--connections", "5") as process:
            for records in (100, 600, 1100):
                wait_while_running(process, lambda records=records: sandbox.committed() > records)
                pooler.stop()
                pooler.start()
            output, _ = process.communicate()
    assert process.returncode == 0, output
    sandbox.check(path)


def test_no_connection_within_the_time(sandbox: MigrationSandbox, server: Target) -> None:
    """A batch for which the pooler has no connection to the server in time is retried."""
    path = sandbox.numbers("t.json", 200)
    with pooled(server, query_wait_timeout=1) as target, sandbox.locked() as cursor:
        through = replace(sandbox, target=target)
        with through.start("--batch-size", "10", "--connections", "5") as process:
            log = through.outputs / "migration.log"
            wait_while_running(process, lambda: log.exists() and "retries: " in log.read_text())
            cursor.execute("ROLLBACK")
            output, _ = process.communicate()
    assert process.returncode == 0, output
    sandbox.check(path)
    assert sandbox.output("migration_results.json")["retries"] > 0
