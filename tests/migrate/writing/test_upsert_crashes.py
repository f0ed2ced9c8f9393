"""`--on-conflict update` over several connections, killed, cut off and beside another one.

    PGLOAD_KILLS=50 PGLOAD_CUTS=20 pytest tests/migrate/writing/test_upsert_crashes.py

runs the tests with that many kills and cuts instead of a few.
"""

from __future__ import annotations

import signal
from random import Random

import pytest

from tests.support.migrating import (
    CUTS,
    KILLS,
    MigrationSandbox,
    wait_for_commits,
    wait_while_running,
)

FILES, RECORDS, KEYS = 3, 2000, 90  # records of a file; keys of all files
UPDATE = ("--on-conflict", "update", "--batch-size", "10", "--resume")


@pytest.fixture
def keyed(sandbox: MigrationSandbox) -> MigrationSandbox:
    """A table k, and files of which each has records of every key."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int)")
    for file in range(FILES):
        numbers = range(file * RECORDS, (file + 1) * RECORDS)
        sandbox.file(f"k_{file}.json", [{"k": n % KEYS, "v": n} for n in numbers])
    return sandbox


def check(sandbox: MigrationSandbox) -> None:
    """The last record of each key is in the table, and each record once in the ledger."""
    records = FILES * RECORDS
    last = [(KEYS, records - KEYS, records - 1)]
    assert sandbox.sql("SELECT count(*), min(v), max(v) FROM k") == last
    by_file = "SELECT sum(records), sum(updated) FROM pgload_ledger GROUP BY file ORDER BY 2"
    assert sandbox.sql(by_file) == [(RECORDS, RECORDS - KEYS)] + [(RECORDS, RECORDS)] * (FILES - 1)


def test_killed(keyed: MigrationSandbox) -> None:
    """Killed at any moment and resumed with any number of connections, the last record of each key
    stays."""
    random, kills = Random(1), 0
    while kills < KILLS:
        keyed.sql("TRUNCATE k", "DROP TABLE IF EXISTS pgload_ledger")
        while True:
            given = ("--connections", str(random.choice([1, 3, 4, 7])))
            with keyed.start(*UPDATE, *given) as process:
                wait_for_commits(keyed, process, keyed.committed() + random.randrange(10, RECORDS))
                process.kill()
                output, _ = process.communicate()
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, output
                break
            kills += 1
        check(keyed)


def test_cut_off(keyed: MigrationSandbox) -> None:
    """A batch whose connection is cut is written before the next one of its partition."""
    random, cuts = Random(2), 0
    while cuts < 2 * CUTS:
        keyed.sql("TRUNCATE k", "DROP TABLE IF EXISTS pgload_ledger")
        with keyed.start(*UPDATE, "--connections", "4") as process:
            while wait_for_commits(
                keyed, process, keyed.committed() + random.randrange(10, RECORDS)
            ):
                keyed.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                    "application_name = 'pgload' AND datname = current_database() "
                    f"AND pid <> pg_backend_pid() ORDER BY random() LIMIT {random.randint(1, 5)}"
                )
                cuts += 1
            output, _ = process.communicate()
        assert process.returncode == 0, output
        check(keyed)


def test_two_at_once(keyed: MigrationSandbox) -> None:
    """Two migrations with different numbers of connections divide the files in the same way."""
    both = [keyed.start(*UPDATE, "--connections", n) for n in ("4", "3")]
    output = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    check(keyed)


def begin(sandbox: MigrationSandbox) -> None:
    """Begin the migration over 4 connections, and kill it."""
    with sandbox.start(*UPDATE, "--connections", "4") as process:
        wait_while_running(process, lambda: sandbox.committed() > 100)
        process.kill()
        process.communicate()
    assert 100 < sandbox.committed() < FILES * RECORDS


def test_resumed_with_another_key(
    keyed: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is not resumed if its records were divided by what is no longer the key."""
    begin(keyed)
    keyed.sql("ALTER TABLE k DROP CONSTRAINT k_pkey, ADD PRIMARY KEY (v)")
    assert keyed.migrate(*UPDATE, "--connections", "4") == 2
    assert "begun with its records divided by k (integer)" in capsys.readouterr().err
    assert keyed.migrate(*UPDATE[:-1], "--restart", "--connections", "4") == 0
    assert keyed.sql("SELECT count(*) FROM k") == [(FILES * RECORDS,)]


def test_resumed_without_update(sandbox: MigrationSandbox) -> None:
    """A file is resumed in the batches that it was begun with, whatever --on-conflict is."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int)")
    for file in range(FILES):
        numbers = range(file * RECORDS, (file + 1) * RECORDS)
        sandbox.file(f"k_{file}.json", [{"k": n, "v": n} for n in numbers])
    begin(sandbox)
    assert sandbox.migrate("--resume", "--connections", "2") == 0
    records = FILES * RECORDS
    assert sandbox.sql("SELECT count(*), sum(v) FROM k") == [(records, sum(range(records)))]
    assert sandbox.committed() == records


def test_ledger_of_an_earlier_version(keyed: MigrationSandbox) -> None:
    """A file that was begun over one connection is resumed in its batches, in order."""
    with keyed.start(*UPDATE) as process:
        wait_while_running(process, lambda: keyed.committed() > 100)
        process.kill()
        process.communicate()
    keyed.sql("ALTER TABLE pgload_ledger DROP COLUMN partitions")
    assert keyed.migrate(*UPDATE, "--connections", "4") == 0
    check(keyed)
