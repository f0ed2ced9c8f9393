"""Rows that the server drops, replaces or skips are counted, by every method."""

from __future__ import annotations

import pytest

from pgload.contract import METHODS
from tests.support.migrating import MigrationSandbox

DROP_TENTH = """
CREATE FUNCTION drop_tenth() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.n % 10 = 0 THEN RETURN NULL; END IF;
    RETURN new;
END $$;
CREATE TRIGGER drop_tenth BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drop_tenth()"""


def counts(sandbox: MigrationSandbox) -> tuple[int, ...]:
    results = sandbox.output("migration_results.json")
    names = ("total_records", "skipped", "updated", "suppressed", "rejects")
    return tuple(results[name] for name in names)


@pytest.mark.parametrize("method", METHODS)
def test_suppressing_trigger(
    sandbox: MigrationSandbox, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that a trigger drops are reported as suppressed, beside bad records too."""
    sandbox.sql(DROP_TENTH)
    sandbox.file("t.json", [{"n": "bad" if n == 333 else n} for n in range(1000)])
    assert sandbox.migrate("--method", method, "--batch-size", "200", "--connections", "2") == 1
    assert sandbox.sql("SELECT count(*) FROM t") == [(899,)]
    assert counts(sandbox) == (899, 0, 0, 100, 1)
    assert sandbox.sql("SELECT sum(suppressed), sum(rejected) FROM pgload_ledger") == [(100, 1)]
    assert (
        "completed with errors: 1,000 read, 899 written, 0 updated, 0 skipped,\n"
        "  100 suppressed, 1 rejected, not verified, load "
    ) in capsys.readouterr().out
    progress = sandbox.output("migration_progress.json")
    assert (progress["percent"], progress["suppressed"]) == (100, 100)
    assert sandbox.migrate("--resume") == 1
    assert sandbox.output("migration_progress.json")["percent"] == 100
    assert counts(sandbox) == (0, 0, 0, 0, 0)
    assert (
        "completed with errors: 1,000 read, 0 written, 0 updated, 0 skipped, 0 rejected,\n"
        "  by earlier runs 899 written and 100 skipped or suppressed and 1 rejected,\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("method", ["values", "unnest", "json", "executemany"])
def test_rule(sandbox: MigrationSandbox, method: str) -> None:
    """Rows that a rule drops are reported as suppressed."""
    sandbox.sql("CREATE RULE low AS ON INSERT TO t WHERE new.n < 100 DO INSTEAD NOTHING")
    sandbox.numbers("t.json", 1000)
    assert sandbox.migrate("--method", method) == 0
    assert sandbox.sql("SELECT count(*) FROM t") == [(900,)]
    assert counts(sandbox) == (900, 0, 0, 100, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("partitioned", [False, True], ids=["table", "partitioned"])
def test_upsert(sandbox: MigrationSandbox, method: str, partitioned: bool) -> None:
    """Skipped and updated records are counted, whatever the batches are."""
    how = "PARTITION BY HASH (k)" if partitioned else ""
    sandbox.sql(f"CREATE TABLE k (k int PRIMARY KEY, v int) {how}")
    if partitioned:
        sandbox.sql("CREATE TABLE k_0 PARTITION OF k FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    sandbox.sql("INSERT INTO k SELECT n, -1 FROM generate_series(0, 9) n")
    sandbox.file("k.json", [{"k": n % 50, "v": n} for n in range(100)])
    given = ("--method", method, "--batch-size", "60")
    assert sandbox.migrate("--on-conflict", "skip", *given) == 0
    assert counts(sandbox) == (40, 60, 0, 0, 0)
    assert sandbox.migrate("--on-conflict", "update", *given) == 0
    assert counts(sandbox) == (100, 0, 100, 0, 0)
    sandbox.sql("TRUNCATE k")
    assert sandbox.migrate("--on-conflict", "update", *given) == 0
    assert counts(sandbox) == (100, 0, 50, 0, 0)
    assert sandbox.sql("SELECT count(*), min(v) FROM k") == [(50, 50)]
