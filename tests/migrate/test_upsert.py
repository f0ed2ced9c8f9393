"""`--on-conflict skip` and `update`."""

from __future__ import annotations

import pytest

from pgload.contract import METHODS
from tests.support.migrating import MigrationSandbox

KEYED = """CREATE TABLE keyed (
    id serial PRIMARY KEY, a text, b text, v text, UNIQUE (a, b),
    "updatedAt" timestamptz DEFAULT clock_timestamp())"""


@pytest.mark.parametrize(
    ("method", "connections"), [*((method, "1") for method in METHODS), ("copy", "4")]
)
@pytest.mark.parametrize("how", ["skip", "update"])
def test_on_conflict(sandbox: MigrationSandbox, how: str, method: str, connections: str) -> None:
    """A record whose key exists is skipped or updates the row, within a batch too; a key with NULL
    never conflicts."""
    sandbox.sql(
        KEYED, "INSERT INTO keyed (a, b, v, \"updatedAt\") VALUES ('1', 'x', 'old', '2000-1-1')"
    )
    records = [{"a": str(n % 40), "b": "x", "v": f"{n}"} for n in range(80)] + [
        {"a": None, "b": "x", "v": "null"}
    ] * 3
    sandbox.file("keyed.json", records)
    given = ("--method", method, "--batch-size", "60", "--connections", connections)
    assert sandbox.migrate("--on-conflict", how, *given) == 0
    assert sandbox.sql("SELECT count(*), count(a) FROM keyed") == [(43, 40)]
    (v, touched), *_ = sandbox.sql("SELECT v, \"updatedAt\" > '2001-1-1' FROM keyed WHERE a = '1'")
    assert touched == (how == "update")
    assert v in ({"old"} if how == "skip" else {"41", "1"} if connections == "4" else {"41"})
    if connections == "1":
        (v,) = sandbox.sql("SELECT v FROM keyed WHERE a = '5'")[0]
        assert v == ("5" if how == "skip" else "45")
    assert sandbox.migrate("--on-conflict", how, "--resume", *given) == 0
    assert sandbox.sql("SELECT count(*) FROM keyed") == [(43,)]


def test_update_keeps_the_last_of_the_files(sandbox: MigrationSandbox) -> None:
    """Of records with the same key the last one stays, even with --connections 5."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int)")
    sandbox.file("k.json", [{"k": n % 50, "v": n} for n in range(2000)])
    options = ("--on-conflict", "update", "--connections", "5", "--batch-size", "50")
    assert sandbox.migrate(*options) == 0
    assert sandbox.sql("SELECT count(*), min(v), max(v) FROM k") == [(50, 1950, 1999)]


def test_on_conflict_with_bad_records(sandbox: MigrationSandbox) -> None:
    """Bad records are found in the staging table, too."""
    sandbox.sql(KEYED, "ALTER TABLE keyed ADD CHECK (v <> 'bad')")
    records = [{"a": str(n % 20), "b": "x", "v": "bad" if n == 27 else str(n)} for n in range(40)]
    sandbox.file("keyed.json", records)
    assert sandbox.migrate("--on-conflict", "update", "--batch-size", "40") == 1
    assert sandbox.sql("SELECT count(*), min(v::int), max(v::int) FROM keyed") == [(20, 7, 39)]
    (reject,) = sandbox.output("rejects.jsonl")
    assert (reject["record"], reject["sqlstate"]) == (28, "23514")
