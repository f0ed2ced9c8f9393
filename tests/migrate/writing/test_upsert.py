"""`--on-conflict skip` and `update`."""

from __future__ import annotations

import re

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
    assert v == ("old" if how == "skip" else "41")
    if connections == "1" or how == "update":
        (v,) = sandbox.sql("SELECT v FROM keyed WHERE a = '5'")[0]
        assert v == ("5" if how == "skip" else "45")
    assert sandbox.migrate("--on-conflict", how, "--resume", *given) == 0
    assert sandbox.sql("SELECT count(*) FROM keyed") == [(43,)]


UPDATE = ("--on-conflict", "update", "--connections", "4", "--batch-size", "20")


def workers(sandbox: MigrationSandbox) -> set[int]:
    """Those that wrote a batch."""
    return {batch["worker"] for batch in sandbox.output("migration_stats.json")["batches"]}


def test_update_keeps_the_last_of_the_files(sandbox: MigrationSandbox) -> None:
    """Of records with the same key the last one stays: across batches and files, over several
    connections, whatever way the key is written in JSON."""
    sandbox.sql("CREATE TABLE k (k int, l text, v int, PRIMARY KEY (l, k))")
    ways = [lambda n: n, str, lambda n: f" 0{n}", lambda n: f"+{n} "]
    records = [
        {"v": n, "k": ways[n % 4](n % 7), "l": f"{n % 5}" if n % 3 else n % 5} for n in range(2000)
    ]
    sandbox.file("k_1.json", records[:30])  # of fewer batches than there are connections
    sandbox.file("k_2.json", records[30:1501])
    sandbox.file("k_3.json", records[1501:])
    assert sandbox.migrate(*UPDATE) == 0
    assert sandbox.sql("SELECT count(*), min(v), max(v) FROM k") == [(35, 1965, 1999)]
    results = sandbox.output("migration_results.json")
    assert (results["total_records"], results["updated"]) == (2000, 1965)
    assert results["num_connections"] == 4
    assert len(workers(sandbox)) > 1
    assert sandbox.committed() == 2000


def test_files_of_another_table_wait(sandbox: MigrationSandbox) -> None:
    """A table is complete before the next one is begun, which may refer to it."""
    sandbox.sql(
        "CREATE TABLE a (k int PRIMARY KEY)",
        "CREATE TABLE b (k int PRIMARY KEY, a int REFERENCES a)",
    )
    sandbox.file("a.json", [{"k": n} for n in range(100)])
    sandbox.file("b.json", [{"k": n, "a": 99 - n} for n in range(100)])
    assert sandbox.migrate(*UPDATE) == 0
    assert sandbox.sql("SELECT count(*), sum(a) FROM b") == [(100, 4950)]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("k date PRIMARY KEY, v int", r"only the server can tell .* \(k date\)"),
        ("k text PRIMARY KEY, v int UNIQUE", "depend on one another by unique index k_v_key"),
    ],
)
def test_one_connection(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str], columns: str, why: str
) -> None:
    """Where the order of other records matters too, one connection is used, with the reason."""
    sandbox.sql(f"CREATE TABLE k ({columns})")
    sandbox.file("k.json", [{"k": f"2025-01-{n % 28 + 1:02}", "v": n} for n in range(280)])
    assert sandbox.migrate(*UPDATE) == 0
    assert re.search(f"update writes k over one connection, .*: .*{why}", capsys.readouterr().out)
    assert sandbox.sql("SELECT count(*), min(v) FROM k") == [(28, 252)]
    assert sandbox.output("migration_results.json")["num_connections"] == 1


def test_triggers(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a table with a trigger that may change keys, the last record of a changed key stays."""
    sandbox.sql(
        "CREATE TABLE k (k text PRIMARY KEY, v int)",
        "CREATE FUNCTION lowered() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN new.k := lower(new.k); RETURN new; END $$",
        "CREATE TRIGGER lowered BEFORE INSERT ON k FOR EACH ROW EXECUTE FUNCTION lowered()",
    )
    sandbox.file("k.json", [{"k": "aA"[n // 20 % 2] + str(n % 20), "v": n} for n in range(400)])
    assert sandbox.migrate(*UPDATE) == 0
    assert sandbox.sql("SELECT count(*), min(v) FROM k") == [(20, 380)]
    assert "its triggers or rules may change a record's key" in capsys.readouterr().out


@pytest.mark.parametrize(("how", "found"), [("skip", "off"), ("update", "local")])
def test_commits_in_order(sandbox: MigrationSandbox, how: str, found: str) -> None:
    """A crash cannot take an update after which newer records of its keys are written."""
    sandbox.sql(
        "CREATE TABLE k (k int PRIMARY KEY, v text)",
        "CREATE TABLE seen (setting text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON k EXECUTE FUNCTION note()",
        f"ALTER DATABASE {sandbox.name} SET synchronous_commit = off",
    )
    sandbox.file("k.json", [{"k": 1, "v": "x"}])
    assert sandbox.migrate("--on-conflict", how) == 0
    assert sandbox.sql("SELECT * FROM seen") == [(found,)]


def test_null_keys(sandbox: MigrationSandbox) -> None:
    """Records whose key has a NULL are all kept."""
    sandbox.sql("CREATE TABLE k (k int UNIQUE, v int)")
    sandbox.file("k.json", [{"k": None if n % 2 else n % 10, "v": n} for n in range(400)])
    assert sandbox.migrate(*UPDATE) == 0
    assert sandbox.sql("SELECT count(*), count(k) FROM k") == [(205, 5)]


def test_override_identity(sandbox: MigrationSandbox) -> None:
    """A row keeps the value of a column that is generated always as identity, if it is updated."""
    sandbox.sql(
        "CREATE TABLE k (k text PRIMARY KEY, id int GENERATED ALWAYS AS IDENTITY, v text)",
        "INSERT INTO k (k, v) VALUES ('a', 'old')",
    )
    sandbox.file("k.json", [{"k": "a", "id": 70, "v": "x"}, {"k": "b", "id": 80, "v": "y"}])
    assert sandbox.migrate("--on-conflict", "update", "--override-identity") == 0
    assert sandbox.sql("SELECT * FROM k ORDER BY k") == [("a", 1, "x"), ("b", 80, "y")]


def test_bad_records_in_partitions(sandbox: MigrationSandbox) -> None:
    """Rejects have their numbers in the file, and all other records are written."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v int CHECK (v <> 33))")
    texts = [f'{{"k": {n % 50}, "v": {n}}}' for n in range(300)]
    texts[33:33] = ['{"k": "x", "v": 1}', "[]", '{"v": 2}', '{"k": 1, "v": "\\ud800"}']
    path = sandbox.file("k.json", [])
    path.write_text("[" + ",\n".join(texts) + "]")
    assert sandbox.migrate(*UPDATE) == 1
    assert sandbox.sql("SELECT count(*), min(v), max(v) FROM k") == [(50, 250, 299)]
    rejects = {each["record"]: each for each in sandbox.output("rejects.jsonl")}
    assert sorted(rejects) == [34, 35, 36, 37, 38]
    for number, reject in rejects.items():
        assert path.read_text()[reject["offset"] :].startswith(texts[number - 1])
    assert sandbox.sql("SELECT sum(records), sum(rejected) FROM pgload_ledger") == [(304, 5)]


def test_on_conflict_with_bad_records(sandbox: MigrationSandbox) -> None:
    """Bad records are found in the staging table, too."""
    sandbox.sql(KEYED, "ALTER TABLE keyed ADD CHECK (v <> 'bad')")
    records = [{"a": str(n % 20), "b": "x", "v": "bad" if n == 27 else str(n)} for n in range(40)]
    sandbox.file("keyed.json", records)
    assert sandbox.migrate("--on-conflict", "update", "--batch-size", "40") == 1
    assert sandbox.sql("SELECT count(*), min(v::int), max(v::int) FROM keyed") == [(20, 7, 39)]
    (reject,) = sandbox.output("rejects.jsonl")
    assert (reject["record"], reject["sqlstate"]) == (28, "23514")
