"""However a migration is killed or cut off, its table holds every record once in the end.

That is what SQL says, which counts the rows, and what `verify` says.

    PGLOAD_KILLS=50 PGLOAD_CUTS=20 pytest tests/migrate/test_crashes.py -k "killed or cut_off"

runs the tests with that many kills and cuts instead of a few.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from pgload.contract import METHODS
from pgload.load.methods import MultiValues
from pgload.targets.target import Target
from tests.support.migrating import (
    CUTS,
    KILLS,
    MigrationSandbox,
    Restarts,
    make_sandbox,
    wait_for_commits,
)
from tests.support.servers import embedded

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

RECORDS, BATCH = 6000, 10
BAD = 75  # each such record is bad


def reset(sandbox: MigrationSandbox) -> None:
    """Empty the table and drop the ledger."""
    sandbox.sql("TRUNCATE t", "DROP TABLE IF EXISTS pgload_ledger")


def check(sandbox: MigrationSandbox) -> None:
    """The table has each n of the file once, and every reject is of a record that it lacks."""
    bad = [n for n in range(RECORDS) if n % BAD == 0]
    assert sandbox.sql("SELECT count(*), count(DISTINCT n), min(n), max(n) FROM t") == [
        (RECORDS - len(bad), RECORDS - len(bad), 1, RECORDS - 1)
    ]
    files = (sandbox.outputs / "runs").glob("2*/rejects.jsonl")
    lines = [line for path in files for line in path.read_text("utf-8").splitlines()]
    assert sorted(json.loads(line)["record"] - 1 for line in lines) == bad
    assert sandbox.verify() == 0
    (table,) = sandbox.output("verification.json")["tables"]
    assert (table["rows"], table["other_rows"], table["doubled"]) == (RECORDS - len(bad), 0, 0)
    assert table["files"][0]["rejected"] == len(bad)


@pytest.mark.timeout(120 + 10 * KILLS)
@pytest.mark.parametrize("connections", [1, 8])
def test_killed(sandbox: MigrationSandbox, connections: int) -> None:
    """Killed at any moment and resumed until it completes, it loses and repeats no record; each
    bad one is rejected once."""
    path, random, kills = sandbox.numbers("t.json", RECORDS), Random(connections), 0
    records = json.loads(path.read_text("utf-8"))
    for n in range(0, RECORDS, BAD):
        records[n]["n"] = "bad"
    sandbox.file("t.json", records)
    while kills < KILLS:
        reset(sandbox)
        shutil.rmtree(sandbox.outputs, ignore_errors=True)
        while True:
            method = random.choice(list(METHODS))
            given = ("--batch-size", str(BATCH), "--connections", str(connections))
            with sandbox.start("--resume", "--verify", "--method", method, *given) as process:
                if random.random() < 0.3:  # perhaps before there is a ledger
                    with suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=random.uniform(0.0, 2.0))
                else:
                    wait_for_commits(
                        sandbox, process, sandbox.committed() + random.randrange(RECORDS // 2)
                    )
                process.kill()
                output, _ = process.communicate()
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 1, output  # there are rejects
                assert sandbox.output("migration_results.json")["verified"], output
                break
            kills += 1
        check(sandbox)


@pytest.fixture(scope="module")
def restarts() -> Iterator[tuple[Target, Restarts]]:
    """A server that can be stopped and started again."""
    with embedded(fsync="off") as target, Restarts(target) as found:
        yield target, found


@pytest.mark.timeout(120 + 10 * CUTS)
@pytest.mark.parametrize("connections", [1, 8])
def test_cut_off(restarts: tuple[Target, Restarts], tmp_path: Path, connections: int) -> None:
    """Neither a server that restarts or crashes nor cut connections end a migration."""
    target, server = restarts
    with make_sandbox(target, tmp_path) as sandbox:
        path, random, cuts = sandbox.numbers("t.json", RECORDS), Random(connections), 0
        while cuts < CUTS:
            reset(sandbox)
            method = random.choice(list(METHODS))
            given = ("--batch-size", str(BATCH), "--connections", str(connections))
            with sandbox.start("--method", method, *given) as process:
                while wait_for_commits(
                    sandbox, process, sandbox.committed() + random.randrange(10, RECORDS)
                ):
                    how = random.choice([None, None, signal.SIGINT, signal.SIGQUIT])
                    if how is None:
                        sandbox.sql(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                            "application_name = 'pgload' AND datname = current_database() "
                            "AND pid <> pg_backend_pid()"
                        )
                    else:
                        server.restart(how)
                    cuts += 1
                    wait_for_commits(sandbox, process, 0)
                output, _ = process.communicate()
            assert process.returncode == 0, output
            sandbox.check(path)
            assert sandbox.output("migration_results.json")["total_records"] == RECORDS


@pytest.mark.parametrize("ledger", [True, False])
def test_lost_answer(
    sandbox: MigrationSandbox,
    ledger: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A batch that was committed before its connection was lost is counted once; without a ledger
    that is unknown, and ends the run."""
    path = sandbox.numbers("t.json", 100)
    write, answers_lost = MultiValues.write, []

    def lose_first_answer(
        method: MultiValues, cursor: Cursor, payload: Any, **statements: bytes
    ) -> None:
        write(method, cursor, payload, **statements)  # committed
        if not answers_lost:
            answers_lost.append(1)
            cursor.connection.close()
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(MultiValues, "write", lose_first_answer)
    options = () if ledger else ("--no-ledger",)
    assert sandbox.migrate("--batch-size", "10", *options) == (0 if ledger else 1)
    results = sandbox.output("migration_results.json")
    if ledger:
        sandbox.check(path)
        assert (results["total_records"], results["retries"]) == (100, 1)
    else:
        output = capsys.readouterr().out
        assert "it is unknown whether they are committed" in output
        assert "resume with" not in output
        assert sandbox.sql("SELECT count(*) FROM t") == [(10,)]
