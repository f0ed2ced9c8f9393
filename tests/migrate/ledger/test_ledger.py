"""The ledger: which batches are committed, and migrations that share files."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from pgload.migrate.ledger.entries import LedgerFile
from pgload.migrate.ledger.ledger import Ledger
from pgload.schema.table import Table
from tests.support.migrating import MigrationSandbox, wait_for_lock
from tests.support.waiting import wait_until

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock' AND application_name = 'pgload'"
)


@pytest.mark.parametrize("sizes", [("10", "10"), ("10", "17")], ids=["alike", "differing"])
def test_two_at_once(sandbox: MigrationSandbox, sizes: tuple[str, str]) -> None:
    """Two migrations of the same file at once share the work, load it once, and report who wrote
    what."""
    path = sandbox.numbers("t.json", 2000)
    with sandbox.locked() as cursor:
        both = [sandbox.start("--batch-size", size, "--connections", "2") for size in sizes]
        wait_until(lambda: sandbox.sql(WAITING) == [(4,)] or any(each.poll() for each in both))
        cursor.execute("ROLLBACK")
        output = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert any("another migration writes this file as well" in each for each in output)
    sandbox.check(path)
    found = [
        re.findall(r"t.json: ([\d,]+) records were written by this migration, ([\d,]+)", each)
        for each in output
    ]
    shares = [[int(n.replace(",", "")) for n in each[0]] for each in found if each]
    assert shares
    assert all(sum(each) == 2000 for each in shares), output


def test_two_at_once_with_rejects(sandbox: MigrationSandbox) -> None:
    """Both report what became of every record: what the other one wrote, skipped and rejected."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int CHECK (v % 50 <> 0))")
    sandbox.file("k.json", [{"k": n % 700, "v": n} for n in range(2000)])
    given = ("--on-conflict", "skip", "--batch-size", "10", "--output-dir")
    with sandbox.locked("k IN SHARE MODE") as cursor:
        first = sandbox.start(*given, str(sandbox.work / "first"))
        wait_for_lock(cursor, first)
        second = sandbox.start(*given, str(sandbox.work / "second"))
        wait_until(lambda: sandbox.sql(WAITING) == [(2,)] or second.poll() is not None)
        cursor.execute("ROLLBACK")
        output = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1], output
    for name in ("first", "second"):
        found = json.loads((sandbox.work / name / "migration_results.json").read_text())
        assert (found["status"], found["records_left"]) == ("completed_with_errors", 0), output
        assert found["failed"] == 1
        written = found["total_records"] + found["records_by_others"]
        skipped = found["skipped"] + found["not_written_by_others"]
        assert (written + skipped, found["rejects"] + found["rejects_by_others"]) == (1960, 40)


def test_restart_beside_a_running_migration(sandbox: MigrationSandbox) -> None:
    """`--restart` beside a migration of the same file is refused, and that one completes."""
    path = sandbox.numbers("t.json", 2000)
    with sandbox.locked() as cursor:
        first = sandbox.start("--batch-size", "10")
        wait_for_lock(cursor, first)
        second = sandbox.start("--restart")
        refused, _ = second.communicate()
        cursor.execute("ROLLBACK")
        output, _ = first.communicate()
    assert second.returncode == 2, refused
    assert "t.json: another migration is writing this file (backend" in refused
    assert first.returncode == 0, output
    sandbox.check(path)
    assert sandbox.migrate("--restart") == 0
    sandbox.check(path, path)


def test_two_at_once_of_different_files(sandbox: MigrationSandbox, tmp_path: Path) -> None:
    """Two migrations may create, and fill, the same table at once."""
    other = MigrationSandbox(sandbox.target, tmp_path / "other", sandbox.name)
    other.data.mkdir(parents=True)
    paths = [sandbox.numbers("new.json", 1000), other.numbers("new.json", 1000, start=1000)]
    given = ("--create-tables", "--batch-size", "20", "--connections", "2")
    both = [each.start(*given) for each in (sandbox, other)]
    output = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    sandbox.check(*paths, table="new")


def test_lost_connection(sandbox: MigrationSandbox) -> None:
    """The run's lock moves to a new connection, although the server has not noticed yet that the
    former one is lost."""
    with closing(sandbox.connect()) as lost, closing(sandbox.connect()) as new:
        ledger = Ledger(lost, sandbox.connect, print)
        ledger.create()
        ledger.begin([LedgerFile("0" * 64, "t.json", Table("t"))], 10)
        with new.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        ledger.use(new)
        held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        assert sandbox.sql(held) == [(new.info.backend_pid,)]
