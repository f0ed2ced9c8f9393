"""Batches with many bad records: found together, by the server's own words, and shown meanwhile."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg2
import pytest

from pgload.contract import METHODS
from pgload.migrate.writing import input_check, reject_limit
from pgload.migrate.writing.good_records import GoodRecords
from pgload.migrate.writing.input_check import check_input
from pgload.schema.table import Column, Table
from pgload.source.reader import Batch, read_batches
from tests.support.migrating import MigrationSandbox

TYPED = "CREATE TABLE typed (n int NOT NULL, v varchar(3), d date, p numeric(5, 2), j jsonb)"
# A value of each column that its type refuses.
BAD: dict[str, Any] = {
    "n": 3_000_000_000,
    "v": "a 'long' one\\",
    "d": "2025-02-30",
    "p": 1234.5,
}


def everything_bad(count: int) -> list[dict[str, Any]]:
    """Records that each have a bad value, every tenth two of them."""
    names = list(BAD)
    records = []
    for n in range(count):
        bad = [names[n % 4], *(names[1:2] if n % 10 == 0 else [])]
        records.append({"n": n, "v": "abc", "j": {"a": n}} | {name: BAD[name] for name in bad})
    return records


@pytest.mark.parametrize("method", METHODS)
def test_all_bad(sandbox: MigrationSandbox, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad values are found without an attempt to write each record, and every method gives the same
    rejects, as the attempts would have found them."""
    attempts: list[int] = []
    write_parts = GoodRecords._write_parts

    def counting(good: GoodRecords, method: Any, numbers: Any) -> Any:
        attempts.append(len(numbers))
        return write_parts(good, method, numbers)

    monkeypatch.setattr(GoodRecords, "_write_parts", counting)
    sandbox.sql(TYPED)
    sandbox.file("typed.json", [*everything_bad(300), {"n": 1}])
    assert sandbox.migrate("--method", method) == 1
    assert len(attempts) == 1  # for the one good record
    found = sandbox.output("rejects.jsonl")
    monkeypatch.setattr("pgload.migrate.writing.good_records.check_input", lambda *_: {})
    sandbox.sql("TRUNCATE typed", "DROP TABLE pgload_ledger")
    assert sandbox.migrate("--method", method) == 1
    assert len(attempts) > 300
    expected = sandbox.output("rejects.jsonl")
    for each in (found, expected):  # methods may find another fault of a record with two
        assert [reject["record"] for reject in each] == list(range(1, 301))
    single = [n for n in range(300) if n % 10]
    assert [found[n] for n in single] == [expected[n] for n in single]
    assert sandbox.sql("SELECT n FROM typed") == [(1,)]


@pytest.mark.parametrize("soft_errors", [True, False])
def test_input_check(
    sandbox: MigrationSandbox, soft_errors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check finds the first bad column of each record, on servers before PostgreSQL 16 too."""
    if not soft_errors:
        monkeypatch.setattr(input_check, "SOFT_ERRORS", 10**6)
    types = {"n": "integer", "v": "character varying(3)", "d": "date", "p": "numeric(5,2)"}
    columns = [*map(Column, types, types.values()), Column("a", "date[]"), Column("x", "jsonb")]
    table = Table("never_made", tuple(columns))
    path = sandbox.file("typed.json", [{"n": 7, "d": "infinity", "a": None}, *everything_bad(40)])
    (batch,) = read_batches(path, 100)
    with closing(sandbox.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN READ ONLY")
        found = check_input(cursor, table, batch)
        cursor.execute("SELECT 1; ROLLBACK")
    assert sorted(found) == list(range(1, 41))
    messages = {each.column: (each.sqlstate, each.message) for each in found.values()}
    assert messages == {
        "n": ("22003", 'value "3000000000" is out of range for type integer'),
        "v": ("22001", "value too long for type character varying(3)"),
        "d": ("22008", 'date/time field value out of range: "2025-02-30"'),
        "p": ("22003", "numeric field overflow"),
    }


def test_unsupported_types(sandbox: MigrationSandbox) -> None:
    """A type that the server does not know is not checked; the others are."""
    table = Table("t", (Column("x", "no_such_type"), Column("n", "integer")))
    path = sandbox.file("t.json", [{"x": "a", "n": "b"}])
    (batch,) = read_batches(path, 100)
    with closing(sandbox.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        assert {n: each.column for n, each in check_input(cursor, table, batch).items()} == {0: "n"}
        with pytest.raises(psycopg2.ProgrammingError):  # the driver's own error is not swallowed
            check_input(connection.cursor("named"), table, Batch(path, 1, batch.records))


@pytest.mark.parametrize("constraint", ["NOT NULL", "CHECK (n > 0)", "UNIQUE"])
def test_constraints(sandbox: MigrationSandbox, constraint: str) -> None:
    """Records that violate a constraint are found among many."""
    sandbox.sql(f"CREATE TABLE c (n int {constraint}, d date)")
    if constraint == "UNIQUE":
        sandbox.sql("INSERT INTO c VALUES (-1)")
    bad = None if constraint == "NOT NULL" else -1
    records = [{"n": bad if n % 7 == 3 else n + 1, "d": "2025-01-01"} for n in range(200)]
    records[0]["d"] = "never"
    sandbox.file("c.json", records)
    assert sandbox.migrate() == 1
    found = [reject["record"] for reject in sandbox.output("rejects.jsonl")]
    assert found == [1, *(n + 1 for n in range(200) if n % 7 == 3)]


FILL_ODD = """
CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.a::int % 2 = 1 THEN new.n := 0; END IF;
    RETURN new;
END $$;
CREATE TRIGGER fill BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION fill()"""


@pytest.mark.parametrize("filled", [False, True], ids=["table", "trigger"])
def test_missing_values(
    sandbox: MigrationSandbox, filled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records without a required value are rejected by what the server says of the first, unless a
    trigger may fill the value."""
    attempts: list[int] = []
    write_parts = GoodRecords._write_parts

    def counting(good: GoodRecords, method: Any, positions: Any) -> Any:
        attempts.append(1)
        return write_parts(good, method, positions)

    monkeypatch.setattr(GoodRecords, "_write_parts", counting)
    sandbox.sql("CREATE TABLE c (n int NOT NULL, a text)", *([FILL_ODD] if filled else []))
    sandbox.file("c.json", [{"n": n if n < 3 else None, "a": str(n)} for n in range(200)])
    assert sandbox.migrate() == 1
    found = sandbox.output("rejects.jsonl")
    message = 'null value in column "n" of relation "c" violates not-null constraint'
    assert {(each["sqlstate"], each["column"], each["message"]) for each in found} == {
        ("23502", "n", message)
    }
    step = 2 if filled else 1
    first = 5 if filled else 4
    assert [each["record"] for each in found] == list(range(first, 201, step))
    assert all(each["offset"] and each["data"]["a"] == str(each["record"] - 1) for each in found)
    assert (len(attempts) < 40) is not filled
    assert sandbox.sql("SELECT count(*) FROM c") == [(200 - len(found),)]


def test_hopeless_run(
    sandbox: MigrationSandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --max-rejects a run ends after many rejects that are most of the records so far;
    with `none` it does not end."""
    monkeypatch.setattr(reject_limit, "MANY_REJECTS", 100)
    sandbox.sql(TYPED)
    records = [{"n": n, "d": "never" if n >= 40 else None} for n in range(300)]
    sandbox.file("typed.json", records)
    assert sandbox.migrate("--batch-size", "20") == 1
    output = capsys.readouterr().out
    assert (
        'typed.json: record 140: invalid input syntax for type date: "never"; 100 of the 140 '
        "records so far are rejected: fix the cause, or continue with --max-rejects none"
    ) in output
    assert "resume with: " in output
    assert sandbox.output("migration_results.json")["rejects"] == 80
    assert sandbox.migrate("--resume", "--max-rejects", "none") == 1
    assert sandbox.output("migration_results.json")["status"] == "completed_with_errors"
    assert sandbox.sql("SELECT count(*) FROM typed") == [(40,)]
    assert sandbox.sql("SELECT sum(rejected) FROM pgload_ledger") == [(260,)]


def test_many_rejects_among_more_records(
    sandbox: MigrationSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rejects do not end a run as long as most of the records are written."""
    monkeypatch.setattr(reject_limit, "MANY_REJECTS", 50)
    sandbox.sql(TYPED)
    sandbox.file("typed.json", [{"n": n if n % 5 < 3 else "bad"} for n in range(300)])
    assert sandbox.migrate("--batch-size", "10") == 1
    assert sandbox.output("migration_results.json")["rejects"] == 120
