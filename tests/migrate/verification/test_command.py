"""`verify`: which records of the files have no row, by the ledger's batches, and what it writes."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.support.migrating import MigrationSandbox, wait_for_lock, wait_while_running


def load(sandbox: MigrationSandbox, records: int = 100) -> None:
    """Two files, of which the second has a bad record: number 5."""
    sandbox.numbers("t_1.json", records)
    content = [{"n": "bad" if n == 4 else 1000 + n, "a": "x"} for n in range(50)]
    sandbox.file("t_2.json", content)
    assert sandbox.migrate("--batch-size", "20") == 1


def tables(sandbox: MigrationSandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sandbox.output("verification.json")["tables"]
    return found


def test_complete(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a complete load every record is accounted for, with other rows in the table or without;
    the user's tables and the ledger stay as they are."""
    load(sandbox)
    before = sandbox.sql("SELECT xmin, * FROM t ORDER BY id")
    ledger = sandbox.sql("SELECT xmin, * FROM pgload_ledger ORDER BY file, first_record")
    capsys.readouterr()
    assert sandbox.verify() == 0
    output = capsys.readouterr().out
    assert "verified: t has the rows of 149 of 150 records: 1 rejected\n" in output
    (table,) = tables(sandbox)
    assert (table["rows"], table["other_rows"], table["doubled"]) == (149, 0, 0)
    second = table["files"][1]
    assert second["written"] + second["rejected"] == second["read"] == 50
    assert (second["uncommitted"], second["in_ledger"]) == (0, True)
    assert sandbox.sql("SELECT xmin, * FROM t ORDER BY id") == before
    assert sandbox.sql("SELECT xmin, * FROM pgload_ledger ORDER BY file, first_record") == ledger
    sandbox.sql("INSERT INTO t (n, a) VALUES (-1, 'other'), (-1, 'other')")
    assert sandbox.verify() == 0
    assert "1 rejected, 2 other rows in the table\n" in capsys.readouterr().out
    assert sandbox.output("verification.json")["verified"] is True


def test_equal_sums_need_no_temporary_table(
    sandbox: MigrationSandbox, restricted: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every record has its row, reading is enough; with other rows, the error says what is
    needed."""
    sandbox.numbers("t.json", 50)
    assert sandbox.migrate() == 0
    sandbox.sql(
        f"REVOKE ALL ON t FROM {restricted.name}",
        f"GRANT SELECT ON t, pgload_ledger TO {restricted.name}",
        f"REVOKE TEMPORARY ON DATABASE {sandbox.name} FROM PUBLIC",
    )
    assert restricted.verify() == 0
    sandbox.sql("INSERT INTO t (n) VALUES (-1)")
    assert restricted.verify() == 2
    assert "TEMPORARY on the database" in capsys.readouterr().err


def test_changed_by_hand(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that was deleted, changed or doubled is found, with its batch and its number."""
    load(sandbox)
    sandbox.sql("DELETE FROM t WHERE n = 33", "UPDATE t SET a = 'changed' WHERE n = 1030")
    capsys.readouterr()
    assert sandbox.verify() == 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        "not verified: t has the rows of 147 of 150 records: "
        "1 rejected, 2 missing or changed, 1 other row in the table"
    ) in lines
    assert "t_1.json, records 21–40: 1 missing or changed: record 34" in lines
    assert "t_2.json, records 21–40: 1 missing or changed: record 31" in lines
    (table,) = tables(sandbox)
    assert table["missing"] == 2
    assert table["files"][0]["differing"] == [
        {
            "file": "t_1.json",
            "first_record": 21,
            "last_record": 40,
            "uncommitted": 0,
            "missing": 1,
            "records": [34],
        }
    ]
    sandbox.sql("INSERT INTO t (n, a) SELECT n, a FROM t WHERE n = 7")
    assert sandbox.verify() == 1
    assert "t: other rows that equal a record: 1, such as of record 8 of t_1.json" in (
        capsys.readouterr().out
    )
    assert tables(sandbox)[0]["doubled"] == 1


def test_row_of_a_rejecting_batch(sandbox: MigrationSandbox) -> None:
    """In a batch with a reject the rejects say which record is missing; without them, which ones
    it may be."""
    load(sandbox)
    sandbox.sql("DELETE FROM t WHERE n = 1010")
    assert sandbox.verify() == 1
    (batch,) = tables(sandbox)[0]["files"][1]["differing"]
    assert (batch["first_record"], batch["missing"], batch["records"]) == (1, 1, [11])
    assert sandbox.verify("--output-dir", str(sandbox.work / "elsewhere")) == 1
    sandbox.outputs.rename(sandbox.work / "kept")
    assert sandbox.verify() == 1
    (batch,) = tables(sandbox)[0]["files"][1]["differing"]
    assert (batch["missing"], batch["records"]) == (1, [5, 11])


def test_equal_records(sandbox: MigrationSandbox) -> None:
    """Of equal records in several batches, the one that was rejected is not taken for missing."""
    sandbox.sql("CREATE UNIQUE INDEX ON t (n)", "INSERT INTO t (n, a) VALUES (3, 'x')")
    sandbox.file("t.json", [{"n": n % 10, "a": "x"} for n in range(30)])
    assert sandbox.migrate("--batch-size", "5") == 1
    assert sandbox.sql("SELECT count(*) FROM t") == [(10,)]
    assert sandbox.verify() == 0
    sandbox.sql("DELETE FROM t WHERE n = 8")
    assert sandbox.verify() == 1
    assert tables(sandbox)[0]["missing"] == 1


def test_not_committed(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Batches that no run has committed are named; a resume completes them."""
    sandbox.numbers("t.json", 100)
    assert sandbox.migrate("--batch-size", "10") == 0
    sandbox.sql(
        "DELETE FROM pgload_ledger WHERE first_record BETWEEN 31 AND 50",
        "DELETE FROM t WHERE n BETWEEN 30 AND 49",
    )
    assert sandbox.verify() == 1
    assert "t.json, records 31–50: 20 not committed" in capsys.readouterr().out
    assert tables(sandbox)[0]["files"][0]["uncommitted"] == 20
    assert sandbox.migrate("--resume", "--verify") == 0


@pytest.mark.parametrize("ledger", [True, False])
def test_without_a_ledger(sandbox: MigrationSandbox, ledger: bool) -> None:
    """A file that the ledger does not have is compared as a whole."""
    load(sandbox)
    if ledger:
        sandbox.sql("DELETE FROM pgload_ledger")
    options = () if ledger else ("--no-ledger",)
    assert sandbox.verify(*options) == 1
    second = tables(sandbox)[0]["files"][1]
    assert (second["in_ledger"], second["missing"]) == (False, 1)
    assert second["differing"][0]["records"] == [5]
    assert (second["differing"][0]["first_record"], second["differing"][0]["last_record"]) == (
        1,
        50,
    )


@pytest.mark.parametrize("how", ["skip", "update"])
def test_keys(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str], how: str) -> None:
    """The ledger shows that keys conflicted: then keys are compared, and the output says so."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int)", "INSERT INTO k VALUES (1, 1)")
    sandbox.file("k.json", [{"k": n % 50, "v": n} for n in range(100)])
    assert sandbox.migrate("--on-conflict", how, "--batch-size", "10") == 0
    assert sandbox.verify() == 0
    assert "verified: k has the keys of 100 of 100 records" in capsys.readouterr().out
    file = tables(sandbox)[0]["files"][0]
    counts = ("written", "skipped", "updated", "rejected", "suppressed")
    assert sum(file[name] for name in counts) == file["read"]
    sandbox.sql("DELETE FROM k WHERE k = 7")
    assert sandbox.verify("--on-conflict", how) == 1
    assert [batch["records"] for batch in tables(sandbox)[0]["files"][0]["differing"]] == [
        [8],
        [58],
    ]


def test_fields_and_defaults_differ(sandbox: MigrationSandbox) -> None:
    """Files of one table may have other fields, in other orders, and columns with defaults."""
    sandbox.sql("CREATE TABLE f (a int, b text, c int DEFAULT 5)")
    sandbox.file("f_1.json", [{"a": n, "b": "x"} for n in range(20)])
    sandbox.file("f_2.json", [{"b": "y", "a": n} for n in range(20)])
    sandbox.file("f_3.json", [{"a": n} for n in range(20)])
    assert sandbox.migrate("--verify") == 0
    (table,) = sandbox.output("migration_results.json")["verification"]
    assert (table["rows"], table["missing"], table["doubled"]) == (60, 0, 0)
    sandbox.sql("UPDATE f SET b = 'z' WHERE a = 3 AND b IS NULL")
    assert sandbox.verify() == 1
    sandbox.sql("UPDATE f SET b = NULL WHERE b = 'z'")
    sandbox.file("f_4.json", [{"a": 7, "c": n} for n in range(20)])
    assert sandbox.migrate("--resume", "--verify") == 0
    sandbox.sql("DELETE FROM f WHERE c = 19")
    assert sandbox.verify() == 1
    assert tables(sandbox)[0]["files"][3]["missing"] == 1


def test_many_batches_differ(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal names a dozen batches, the file all of them; a dropped table misses all."""
    sandbox.numbers("t.json", 100)
    assert sandbox.migrate("--batch-size", "5") == 0
    sandbox.sql("DELETE FROM t WHERE n % 5 = 0")
    capsys.readouterr()
    assert sandbox.verify() == 1
    output = capsys.readouterr().out
    assert output.count("1 missing or changed: record") == 12
    assert "t: and 8 more batches" in output
    assert len(tables(sandbox)[0]["files"][0]["differing"]) == 20
    sandbox.sql("DROP TABLE t")
    assert sandbox.verify() == 1
    assert tables(sandbox)[0]["missing"] == 100


def test_rejects_are_elsewhere(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the rejects at hand as many records may lack a row, and it is reported."""
    sandbox.file("t.json", [{"n": "bad" if n == 4 else n} for n in range(10)])
    assert sandbox.migrate("--output-dir", str(sandbox.work / "other")) == 1
    assert sandbox.verify() == 0
    line = "t: records without a row that are taken for rejected ones, whose rejects are in "
    assert line + "another --output-dir: 1" in capsys.readouterr().out
    assert sandbox.verify("--output-dir", str(sandbox.work / "other")) == 0
    assert "taken for" not in capsys.readouterr().out


def test_unusable(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A server of its own holds nothing to verify; outputs among the data are refused."""
    sandbox.numbers("t.json", 10)
    assert sandbox.verify("--cloud", "EMBEDDED") == 2
    assert "is a new server" in capsys.readouterr().err
    assert sandbox.verify("--output-dir", str(sandbox.data / "out")) == 2
    sandbox.file("broken.json", "{")
    (sandbox.data / "broken.json").write_text("{")
    assert sandbox.migrate() == 1
    assert sandbox.verify() == 1
    assert "not compared: broken.json" in capsys.readouterr().out


def test_connection_is_lost(sandbox: MigrationSandbox) -> None:
    """A comparison whose connection is ended by the server, in the middle, is made again."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY)", "INSERT INTO k VALUES (1)")
    sandbox.file("k.json", [{"k": n} for n in range(100)])
    assert sandbox.migrate("--on-conflict", "skip") == 0
    with (
        sandbox.locked("k IN ACCESS EXCLUSIVE MODE") as lock,
        sandbox.start(command="verify") as process,
    ):
        pid = wait_for_lock(lock, process)
        lock.execute("SELECT pg_terminate_backend(%s)", (pid,))
        wait_while_running(process, lambda: wait_for_lock(lock, process) != pid)
        lock.execute("ROLLBACK")
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "connection unexpectedly" in output
    assert "verified: k has the keys of 100 of 100 records" in output


def test_interrupted(sandbox: MigrationSandbox) -> None:
    """Ctrl-C ends it within a second, whatever the server does, with exit code 130."""
    sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 0
    with (
        sandbox.locked("t IN ACCESS EXCLUSIVE MODE") as lock,
        sandbox.start(command="verify") as process,
    ):
        wait_for_lock(lock, process)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=10)
    assert time.monotonic() - began < 2
    assert process.returncode == 130, output
