"""`--verify`: files against tables, with rejected, skipped and suppressed records accounted for."""

from __future__ import annotations

import pytest

from pgload.contract import METHODS
from tests.support.migrating import MigrationSandbox


@pytest.mark.parametrize("method", METHODS)
def test_verified(sandbox: MigrationSandbox, method: str) -> None:
    """A load with rejects, into a table with other rows, is verified; a changed row is missing."""
    sandbox.sql("INSERT INTO t (n, a) VALUES (-1, 'other')")
    sandbox.file("t_1.json", [{"n": "bad" if n == 70 else n % 50, "a": "x"} for n in range(200)])
    sandbox.numbers("t_2.json", 100)
    assert sandbox.migrate("--method", method, "--verify", "--batch-size", "30") == 1
    results = sandbox.output("migration_results.json")
    assert results["verified"]
    (table,) = results["verification"]
    assert (table["rows"], table["missing"], table["by_key"]) == (300, 0, False)
    first = table["files"][0]
    assert (first["file"], first["read"], first["found"]) == ("t_1.json", 200, 199)
    assert first["rejected"] == 1
    sandbox.sql("UPDATE t SET a = 'changed' WHERE id = (SELECT max(id) FROM t)")
    assert sandbox.migrate("--resume", "--verify") == 1
    results = sandbox.output("migration_results.json")
    assert (results["verified"], results["verification"][0]["missing"]) == (False, 1)


@pytest.mark.parametrize("how", ["skip", "update"])
def test_verified_by_key(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """After --on-conflict every key has to be there; a row that was deleted is missing."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int)", "INSERT INTO k VALUES (1, 1)")
    sandbox.file("k.json", [{"k": n % 50, "v": n} for n in range(100)])
    assert sandbox.migrate("--on-conflict", how, "--verify") == 0
    assert sandbox.output("migration_results.json")["verified"]
    assert "verified: k has the keys of 100 of 100 records" in capsys.readouterr().out
    sandbox.sql("DELETE FROM k WHERE k = 7")
    assert sandbox.migrate("--on-conflict", how, "--resume", "--verify") == 1
    assert "not verified: k has the keys of 98 of 100 records" in capsys.readouterr().out


def test_not_verified_unless_asked(sandbox: MigrationSandbox) -> None:
    """Without the option nothing is claimed."""
    sandbox.numbers("t.json", 10)
    assert sandbox.migrate() == 0
    assert sandbox.output("migration_results.json")["verified"] is None


def test_verified_by_rows_although_a_key_is_known(sandbox: MigrationSandbox) -> None:
    """Without --on-conflict whole rows are compared, whatever key `tables.toml` names."""
    mapping = '[[table]]\nfiles = "k.json"\nname = "k"\nkey = ["k"]\n'
    (sandbox.data / "tables.toml").write_text(mapping)
    sandbox.file("k.json", [{"k": str(n), "v": "x"} for n in range(10)])
    assert sandbox.migrate("--create-tables", "--verify") == 0
    (table,) = sandbox.output("migration_results.json")["verification"]
    assert (table["by_key"], table["verified"]) == (False, True)
    sandbox.sql("UPDATE k SET v = 'changed' WHERE k = '7'")
    assert sandbox.migrate("--resume", "--verify") == 1
    assert sandbox.output("migration_results.json")["verification"][0]["missing"] == 1


def test_not_able_to_verify(
    sandbox: MigrationSandbox, restricted: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the comparison fails, the error says that all is committed; the exit code is 1."""
    sandbox.sql(
        f"GRANT CREATE ON SCHEMA public TO {restricted.name}",
        f"REVOKE TEMPORARY ON DATABASE {sandbox.name} FROM PUBLIC",
        "INSERT INTO t (n) VALUES (-1)",
    )
    sandbox.numbers("t.json", 10)
    assert restricted.migrate("--verify") == 1
    assert "every batch is committed, but not verified: permission denied" in (
        capsys.readouterr().out
    )
    assert sandbox.sql("SELECT count(*) FROM t") == [(11,)]
    assert sandbox.output("migration_results.json")["verified"] is None


@pytest.mark.parametrize("type_", ["numeric", "char(3)", "jsonb", "bit varying"])
def test_equal_keys(sandbox: MigrationSandbox, type_: str) -> None:
    """A key is there however its records write it, if the server holds them to be equal."""
    keys = {
        "numeric": ["1", "1.00", "1e0", "2"],
        "char(3)": ['"a"', '"a "', '"a  "', '"b"'],
        "jsonb": ["1", "1.0", "1.00", "2"],
        "bit varying": ['"1"', '"1"', '"1"', '"0"'],  # without a hash function
    }[type_]
    sandbox.sql(f"CREATE TABLE k (k {type_} PRIMARY KEY, v int)")
    lines = [f'{{"k": {key}, "v": {v}}}' for v, key in enumerate(keys)]
    (sandbox.data / "k.jsonl").write_text("\n".join(lines))
    assert sandbox.migrate("--on-conflict", "update", "--verify") == 0
    assert sandbox.sql("SELECT v FROM k ORDER BY v") == [(2,), (3,)]
    assert sandbox.output("migration_results.json")["verified"]
    sandbox.sql("DELETE FROM k WHERE v = 3")
    assert sandbox.verify() == 1


@pytest.mark.parametrize("how", ["error", "update"])
def test_rejected_beside_an_equal_row(sandbox: MigrationSandbox, how: str) -> None:
    """A row is missing also where its batch has a reject whose row, or key, is in the table."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int CHECK (v < 100))")
    sandbox.sql("INSERT INTO k VALUES (1, 1)")
    bad = 1 if how == "error" else 100
    sandbox.file("k.json", [{"k": 1, "v": bad}, {"k": 2, "v": 1}, {"k": 3, "v": 1}])
    assert sandbox.migrate("--on-conflict", how, "--verify") == 1
    assert sandbox.output("migration_results.json")["verified"]
    sandbox.sql("DELETE FROM k WHERE k = 2")
    assert sandbox.verify() == 1


@pytest.mark.parametrize("method", METHODS)
def test_nul_in_a_field_without_a_column(sandbox: MigrationSandbox, method: str) -> None:
    """Every method takes an escaped NUL in a field that has no column, and so does --verify."""
    lines = [r'{"n": 1, "x": "\u0000"}', r'{"n": 2, "x": {"\u0000": 1}}', '{"n": 3}']
    (sandbox.data / "t.jsonl").write_text("\n".join(lines))
    assert sandbox.migrate("--method", method, "--on-unknown", "ignore", "--verify") == 0
    assert sandbox.sql("SELECT n FROM t ORDER BY n") == [(1,), (2,), (3,)]
    assert sandbox.output("migration_results.json")["verified"]


def test_not_all_files_compared(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is not verified whose files could not all be read."""
    sandbox.numbers("t_1.json", 10)
    (sandbox.data / "t_2.json").write_text('{"n": 1')
    assert sandbox.migrate("--verify") == 1
    assert sandbox.output("migration_results.json")["verified"] is False
    output = capsys.readouterr().out
    assert "not compared: t_2.json, since it could not be read" in output
    assert "not all files verified" in output
