"""What is in `rejects.jsonl` is what was rejected, however the process ends around the commit."""

from __future__ import annotations

import json
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgload.cli import main
from pgload.contract import HELD_REJECTS, REJECTS
from pgload.migrate.outputs.held_rejects import HeldRejects
from tests.support.migrating import MigrationSandbox, wait_for_lock
from tests.support.running import reject
from tests.support.waiting import wait_until

LOCK = 14  # of the commit
# The migrator has constraints checked at once while it looks for bad records; the trigger defers
# its own again, so that it is the commit that waits.
SLOW_COMMIT = f"""
CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    SET CONSTRAINTS wait DEFERRED; RETURN NULL;
END $$;
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NULL;
END $$;
CREATE TRIGGER defer BEFORE INSERT ON t EXECUTE FUNCTION defer();
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait()"""


@contextmanager
def killed_at_the_commit(sandbox: MigrationSandbox) -> Iterator[int]:
    """A migration that was killed while the server was committing its only batch, which has a
    bad record; returns the backend, which waits still."""
    sandbox.file("t.json", [{"n": "bad" if n == 4 else n, "a": "x"} for n in range(10)])
    sandbox.sql(SLOW_COMMIT)
    with sandbox.locked("pg_am IN ACCESS SHARE MODE") as lock:
        lock.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        with sandbox.start() as process:
            pid = wait_for_lock(lock, process)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert held(sandbox) == [5]
        assert sandbox.output(REJECTS) == []
        yield pid
    sandbox.sql("DROP TRIGGER wait ON t", "DROP TRIGGER defer ON t")


def held(sandbox: MigrationSandbox) -> list[int]:
    """The numbers of the records that killed runs hold."""
    files = sorted((sandbox.outputs / "runs").glob(f"2*/{HELD_REJECTS}"))
    lines = [line for path in files for line in path.read_text("utf-8").splitlines()[1:]]
    return [json.loads(line)["record"] for line in lines]


def rejected(sandbox: MigrationSandbox) -> list[int]:
    """The numbers of the rejected records of all runs."""
    files = sorted((sandbox.outputs / "runs").glob(f"2*/{REJECTS}"))
    lines = [line for path in files for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line)["record"] for line in lines]


def wait_until_gone(sandbox: MigrationSandbox, pid: int) -> None:
    wait_until(lambda: not sandbox.sql(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"))


def test_killed_before_the_commit(sandbox: MigrationSandbox) -> None:
    """A record whose batch was not committed is not among the rejects once a resume has written
    it."""
    with killed_at_the_commit(sandbox) as pid:
        sandbox.sql(f"SELECT pg_terminate_backend({pid})")
        wait_until_gone(sandbox, pid)
    assert sandbox.sql("SELECT count(*) FROM t") == [(0,)]
    sandbox.sql("ALTER TABLE t ALTER n TYPE text")
    assert sandbox.migrate("--resume", "--verify") == 0
    assert sandbox.sql("SELECT count(*), count(*) FILTER (WHERE n = 'bad') FROM t") == [(10, 1)]
    assert (held(sandbox), rejected(sandbox)) == ([], [])


def test_killed_before_the_answer(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record whose batch was committed after all is among the rejects once a run has looked."""
    with killed_at_the_commit(sandbox):
        pass
    wait_until(lambda: sandbox.sql("SELECT count(*) FROM t") == [(9,)])
    assert rejected(sandbox) == []
    assert main(["rejects", str(sandbox.outputs / REJECTS)]) == 0
    assert "1 more records belong to batches that were being committed" in capsys.readouterr().err
    assert sandbox.migrate("--resume", "--verify") == 1
    assert (held(sandbox), rejected(sandbox)) == ([], [5])
    assert "rejects of a run that was killed, 1: see" in capsys.readouterr().out
    assert sandbox.migrate("--resume") == 1
    assert rejected(sandbox) == [5]


def test_resumed_while_the_server_commits(sandbox: MigrationSandbox) -> None:
    """A resume that begins before the server has committed the batch waits for it, and the reject
    is kept."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    )
    with killed_at_the_commit(sandbox):
        process = sandbox.start("--resume")
        wait_until(lambda: sandbox.sql(waiting) == [(2,)])
        assert held(sandbox) == [5]
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert sandbox.sql("SELECT count(*) FROM t") == [(9,)]
    assert (held(sandbox), rejected(sandbox)) == ([], [5])


def test_killed_between_commit_and_mark(sandbox: MigrationSandbox) -> None:
    """Lines that are in `rejects.jsonl` already are not added again, half a line is completed."""
    sandbox.file("t.json", [{"n": "bad"}, {"n": 1}, {"n": "bad, too"}])
    assert sandbox.migrate() == 1
    (run,) = (sandbox.outputs / "runs").glob("2*")
    lines = (run / REJECTS).read_bytes().splitlines(keepends=True)
    ((file, table, first, writer),) = sandbox.sql(
        'SELECT file, "table", first_record, run FROM pgload_ledger WHERE first_record > 0'
    )
    head = json.dumps({"batch": [file, table, first, writer]}).encode() + b"\n"
    (run / HELD_REJECTS.replace("*", "0")).write_bytes(head + b"".join(lines))
    (run / REJECTS).write_bytes(lines[0] + lines[1][:20])
    assert sandbox.migrate("--resume") == 1
    assert (run / REJECTS).read_bytes().splitlines(keepends=True) == lines
    assert held(sandbox) == []


def test_killed_while_they_are_held(sandbox: MigrationSandbox) -> None:
    """A file that a killed process has begun to write is removed, since it holds records."""
    path = sandbox.outputs / "runs" / "2025-01-15T01-30-03Z" / f".{HELD_REJECTS}.tmp"
    path.parent.mkdir(parents=True)
    begun = path.with_name(path.name.replace("*", "0"))
    begun.write_text("{")
    sandbox.numbers("t.json", 10)
    assert sandbox.migrate() == 0
    assert not begun.exists()


def test_hold(tmp_path: Path) -> None:
    """A worker holds the rejects of one batch; a later attempt replaces those of an earlier one."""
    rejects = HeldRejects(tmp_path)
    rejects.hold(0, None, [reject(1), reject(2)])
    rejects.hold(1, None, [reject(3)])
    rejects.hold(0, None, [reject(4)])
    assert [each.record for each in rejects.get(0)] == [4]
    (mine, _) = sorted(tmp_path.iterdir())
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600
    rejects.drop(0)
    rejects.drop(0)
    assert [path.name for path in tmp_path.iterdir()] == [HELD_REJECTS.replace("*", "1")]
