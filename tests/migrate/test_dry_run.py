"""What a dry run finds out without writing anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgload.migrate import dry_run
from tests.support.migrating import CLOUD, MigrationSandbox
from tests.support.saved_runs import load, save


def test_columns_of_new_tables(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The columns of a table that would be created are named by their types, in short lines."""
    names = [f"field_{n}" for n in range(140)]
    sandbox.file("new.json", [dict.fromkeys(names, "x") | {"수량": 1, "d": "2025-01-31"}])
    assert sandbox.migrate("--dry-run", "--create-tables") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "pytest benchmarks" not in line) <= 80
    assert lines[1] == "new table new: 140 text, 1 bigint, 1 date"
    assert lines[2].startswith("  text: field_0, field_1, ")
    text = " ".join(lines).replace("     ", " ")
    assert ", ".join(names) in text
    assert (
        "  bigint: 수량   date: d   filled by the server: id, createdAt, updatedAt new.json" in text
    )


def test_sample(
    sandbox: MigrationSandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sample of each file, from its beginning, middle and end, is checked against the types."""
    monkeypatch.setattr(dry_run, "FIRST", 20)
    monkeypatch.setattr(dry_run, "SPREAD", 10)
    sandbox.sql("CREATE TABLE u (n int)")
    sandbox.numbers("t.json", 15)
    bad = {
        2: "x",
        17: "x",
        18: 3e9,
        19: "y",
        20: "z\0",
        520: "middle",
        1020: "end",
        21: "not sampled",
    }
    sandbox.file("u.json", [{"n": bad.get(n, n)} for n in range(1, 1021)])
    assert sandbox.migrate("--dry-run") == 1
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("u.json: 7 of 30 records checked would be rejected")
    assert lines[at + 1 : at + 6] == [
        '  record 2 and 1 more: column n: invalid input syntax for type integer: "x"',
        '  record 18: column n: value "3000000000.0" is out of range for type integer',
        '  record 19: column n: invalid input syntax for type integer: "y"',
        "  and 3 more reasons",
        "checked against the columns' types: 45 of 1,035 records, 7 of them are refused",
    ]
    assert lines[-1] == "dry run: nothing was written"


def test_read_only_role(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A role that may only read is enough, and no trigger runs."""
    role = sandbox.name
    sandbox.sql(
        f"CREATE ROLE {role} LOGIN",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        f"GRANT SELECT ON t TO {role}",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$",
        "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    )
    sandbox.file("t.json", [{"n": 1}, {"n": "bad"}])
    parameters = {**sandbox.target.parameters, "user": role}
    reader = replace(sandbox, target=replace(sandbox.target, parameters=parameters))
    assert reader.migrate("--dry-run") == 1
    output = capsys.readouterr().out
    assert '  record 2: column n: invalid input syntax for type integer: "bad"\n' in output
    assert "checked against the columns' types: all 2 records, 1 of them are refused\n" in output
    assert sandbox.sql("SELECT count(*) FROM t") == [(0,)]
    assert sandbox.sql("SELECT to_regclass('pgload_ledger')") == [(None,)]
    assert not sandbox.outputs.exists()
    sandbox.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_forecast(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Time and price are those of the saved run for the records that are left."""
    sandbox.numbers("t.json", 100)
    assert sandbox.migrate("--dry-run", "--method", "copy") == 0
    assert (
        f"how long it takes is not known: no saved run of {CLOUD}; measure it with\n"
        f"  pytest benchmarks --cloud {CLOUD} --method copy --batch-size 1000 --connections 1\n"
    ) in capsys.readouterr().out
    save(
        sandbox.work / ".benchmarks",
        f"0007_{CLOUD}",
        [load(CLOUD, "copy", seconds=(2.0,), records=200, bytes=200 * 20)],
        servers={CLOUD: {"price_per_hour": 36.0}},
    )
    assert sandbox.migrate("--dry-run", "--method", "copy") == 0
    output = capsys.readouterr().out
    assert "the load takes about 1 s and $0.01 by run 0007 of 2025-01-15:\n" in output
    assert "  copy 1,000 × 1, 100 records/s of 0.0 KB\n" in output
    assert sandbox.migrate() == 0
    assert sandbox.migrate("--dry-run", "--resume", "--method", "copy") == 0
    assert "the load takes" not in capsys.readouterr().out  # nothing is left
