"""The ledger: which batches are committed, and migrations that share files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Raw

from pgload.errors import SourceError
from pgload.migrate.ledger.entries import EMPTY, Entry
from pgload.source.reader import Batch
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


def batch(first: int, records: int) -> Batch:
    return Batch(Path("a.json"), first, [Raw(b"{}")] * records)


def test_entry() -> None:
    """A batch is committed if its entry has the same records; in part is an error."""
    entry = Entry(batch_size=10, batches={1: 10, 21: 5}, starts=[1, 21], records=15, rejected=0)
    assert [entry.holds(batch(first, 10)) for first in (1, 11, 26)] == [True, False, False]
    assert entry.holds(batch(21, 5))
    assert not EMPTY.holds(batch(1, 10))
    for first, records in ((1, 5), (5, 2), (11, 11), (21, 10), (23, 10)):
        with pytest.raises(SourceError, match=r"^a.json: .* committed in part"):
            entry.holds(batch(first, records))


def test_entry_of_selected_records() -> None:
    """A batch of selected records is committed by its first one; others may lie between them."""
    entry = Entry(batch_size=3, batches={1: 3, 2: 2, 9: 1}, starts=[1, 2, 9], records=6, rejected=0)
    whole = batch(1, 10)
    assert entry.holds(whole.select([0, 3, 6]))
    assert entry.holds(whole.select([1, 4]))
    assert not entry.holds(whole.select([2, 5]))
    for positions in ([0, 3], [1, 4, 7], [2, 8], [0, 1, 2]):
        with pytest.raises(SourceError, match=r"^a.json: .* committed in part"):
            entry.holds(whole.select(positions))
