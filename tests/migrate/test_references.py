"""Data errors that depend on other records: references within a batch, states of triggers."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest

from pgload.contract import METHODS
from pgload.migrate.writing.reject_limit import RejectLimit
from tests.support.migrating import MigrationSandbox

OWN_STATE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.n = 7 THEN RAISE 'seven' USING ERRCODE = 'UE001'; END IF;
    RETURN new;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()"""


def rejected(sandbox: MigrationSandbox) -> list[int]:
    return sorted(each["record"] for each in sandbox.output("rejects.jsonl"))


def test_state_of_a_trigger(sandbox: MigrationSandbox) -> None:
    """A record that a trigger refuses with a state of its own is rejected, the others written."""
    sandbox.sql(OWN_STATE)
    sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 1
    (reject,) = sandbox.output("rejects.jsonl")
    assert (reject["record"], reject["sqlstate"], reject["message"]) == (8, "UE001", "seven")
    assert sandbox.sql("SELECT count(*) FROM t") == [(99,)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["now", "deferred"])
def test_references_within_the_table(sandbox: MigrationSandbox, method: str, deferred: str) -> None:
    """Every method takes the records that refer to later ones of their batch, also beside a bad
    one, and rejects the same ones."""
    sandbox.sql(f"CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree {deferred})")
    count = 120
    records = [{"id": n, "parent": n + 1 if n < count - 1 else None} for n in range(count)]
    sandbox.file("tree.json", records)
    assert sandbox.migrate("--method", method) == 0
    sandbox.sql("DROP TABLE pgload_ledger", "TRUNCATE tree")
    records[60]["parent"] = 9999  # and nothing can refer to it
    sandbox.file("tree.json", records)
    assert sandbox.migrate("--method", method) == 1
    assert rejected(sandbox) == list(range(1, 62))
    assert sandbox.sql("SELECT count(*) FROM tree") == [(count - 61,)]


@pytest.mark.parametrize("how", ["skip", "update"])
def test_references_and_the_order_of_keys(sandbox: MigrationSandbox, how: str) -> None:
    """Beside a bad record, one that refers to a later one keeps its place among those of a key."""
    sandbox.sql("CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, v int)")
    sandbox.sql("ALTER TABLE tree ADD CHECK (v <> 99)")
    others = [{"id": n, "parent": None, "v": 0} for n in range(10, 20)]
    first, last = {"id": 1, "parent": 19, "v": 1}, {"id": 1, "parent": None, "v": 2}
    sandbox.file("tree.json", [{"id": 2, "parent": None, "v": 99}, first, *others, last])
    assert sandbox.migrate("--on-conflict", how) == 1
    assert rejected(sandbox) == [1]
    assert sandbox.sql("SELECT v FROM tree WHERE id = 1") == [(1 if how == "skip" else 2,)]
    results = sandbox.output("migration_results.json")
    assert (results["skipped"], results["updated"]) == ((1, 0) if how == "skip" else (0, 1))


@pytest.mark.parametrize("method", METHODS)
def test_deferred_reference_and_a_bad_record(sandbox: MigrationSandbox, method: str) -> None:
    """Of a batch with a deferred reference that fails, only the bad record is rejected."""
    sandbox.sql(
        "CREATE TABLE p (id int PRIMARY KEY)",
        "INSERT INTO p SELECT generate_series(0, 99)",
        "CREATE TABLE c (n int, p int REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    )
    sandbox.file("c.json", [{"n": n, "p": -1 if n == 500 else n % 100} for n in range(1000)])
    assert sandbox.migrate("--method", method) == 1
    assert rejected(sandbox) == [501]
    assert sandbox.sql("SELECT count(*) FROM c") == [(999,)]


def test_rejects_of_an_attempt_that_was_not_committed(
    sandbox: MigrationSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that a retried batch has written is not among the rejects; the bad one is, once."""
    sandbox.sql("CREATE TABLE p (id int PRIMARY KEY)", "CREATE TABLE c (p int REFERENCES p)")
    sandbox.file("c.json", [{"p": 1}, {"p": "bad"}, {"p": 2}])
    sandbox.sql("INSERT INTO p VALUES (1)")
    hold, failed = RejectLimit.hold, []

    def fail_first(limit: RejectLimit, *arguments: Any) -> None:
        hold(limit, *arguments)
        if not failed:
            failed.append(1)
            sandbox.sql("INSERT INTO p VALUES (2)")
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(RejectLimit, "hold", fail_first)
    assert sandbox.migrate() == 1
    assert sandbox.sql("SELECT p FROM c ORDER BY p") == [(1,), (2,)]
    assert rejected(sandbox) == [2]
    results = sandbox.output("migration_results.json")
    assert (results["total_records"], results["rejects"], results["retries"]) == (2, 1, 1)
