"""Transient errors are retried, data errors become rejects, others end the run."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import psycopg2
import pytest

from pgload.contract import METHODS
from pgload.errors import RecordError
from pgload.migrate.sqlstates import column_of, is_data_error, is_transient
from tests.support.migrating import MigrationSandbox, wait_for_lock, wait_while_running

TYPED = """CREATE TABLE typed (
    id serial PRIMARY KEY, n int NOT NULL CHECK (n < 1000), v varchar(3), d date,
    parent int REFERENCES typed DEFERRABLE INITIALLY DEFERRED)"""


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.v = 'bad' THEN RAISE 'no % here', new.v USING ERRCODE = '45000'; END IF;
    IF new.v = 'ill' THEN RAISE 'this one is ill'; END IF;
    RETURN new;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON typed FOR EACH ROW EXECUTE FUNCTION refuse()"""


# Record → column, SQLSTATE, beginning of the message. Methods may find another fault of a record.
BAD: dict[str, tuple[str | None, str | None, str]] = {
    '{"v": "abc"}': ("n", "23502", "null value in column"),
    '{"n": "x"}': ("n", "22P02", "invalid input syntax for type integer"),
    '{"n": 3000000000}': ("n", "22003", "value .* is out of range for type integer"),
    '{"n": 1, "v": "abcd"}': ("v", "22001", r"value too long for type character varying\(3\)"),
    '{"n": 1, "d": "2025-02-30"}': ("d", "22008", "date/time field value out of range"),
    '{"n": 1000}': (None, "23514", "new row for relation"),
    '{"n": 1, "parent": -7}': (None, "23503", "insert or update on table"),
    '{"n": 1, "v": "bad"}': (None, "45000", "no bad here"),
    '{"n": 1, "v": "ill"}': (None, "P0001", "this one is ill"),
}


UNREADABLE = {
    '{"n": 1, "v": "\\ud800"}': "holds half of a surrogate pair|invalid input syntax for type json",
    '{"n": 1, "v": "\\u0000"}': r"holds \\u0000|unsupported Unicode escape",
    '{"n": NaN}': "holds NaN|invalid input syntax for type json",
    '["n"]': "is (no|not a) JSON object|argument of json|cannot call json",
}


def rejects(sandbox: MigrationSandbox) -> list[dict[str, Any]]:
    return sandbox.output("rejects.jsonl")


@pytest.mark.parametrize("method", METHODS)
def test_rejects(sandbox: MigrationSandbox, method: str) -> None:
    """With every method the good records are written, and each bad one is kept with its reason."""
    sandbox.sql(TYPED, REFUSE)
    good = [json.dumps({"n": n, "v": "가'" if n % 2 else None}) for n in range(100)]
    bad = {**BAD, **{text: (None, None, output) for text, output in UNREADABLE.items()}}
    texts = list(good)
    for n, text in enumerate(bad):
        texts.insert(n * 7 + 3, text)
    path = sandbox.data / "typed.json"
    path.write_text("[" + ",\n".join(texts) + "]", "utf-8")
    assert sandbox.migrate("--method", method, "--batch-size", "50", "--connections", "2") == 1
    assert sandbox.sql("SELECT count(*), count(DISTINCT n), max(n) FROM typed") == [(100, 100, 99)]
    found = {each["record"]: each for each in rejects(sandbox)}
    assert len(found) == len(rejects(sandbox)) == len(bad)
    whole = path.read_bytes()
    for text, (column, state, output) in bad.items():
        reject = found[texts.index(text) + 1]
        assert (reject["file"], reject["table"]) == ("typed.json", "typed")
        assert whole[reject["offset"] :].startswith(text.encode())
        assert re.search(output, reject["message"]), reject
        if state is not None:
            assert (reject["column"], reject["sqlstate"]) == (column, state), reject
    results = sandbox.output("migration_results.json")
    assert (results["status"], results["rejects"]) == ("completed_with_errors", len(bad))
    assert results["total_records"] == 100
    counts = sandbox.sql("SELECT sum(records), sum(rejected) FROM pgload_ledger")
    assert counts == [(len(texts), len(bad))]
    # Rejected records are not retried, and count as errors still.
    assert sandbox.migrate("--resume") == 1
    assert sandbox.sql("SELECT count(*) FROM typed") == [(100,)]


def test_max_rejects(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """With more rejects than allowed the run ends; it can be resumed."""
    sandbox.sql(TYPED)
    records = [{"n": n if n % 10 else "bad"} for n in range(1, 101)]
    sandbox.file("typed.json", records)
    assert sandbox.migrate("--batch-size", "10", "--max-rejects", "3") == 1
    output = capsys.readouterr().out
    assert "record 40 is reject number 4, and --max-rejects is 3" in output
    assert "resume with: python -m pgload migrate" in output
    assert sandbox.sql("SELECT count(*) FROM typed") == [(27,)]
    results = sandbox.output("migration_results.json")
    assert results["status"] == "failed"
    assert f"resume with: {results['resume_command']}\n" in output
    assert sandbox.migrate("--resume", "--max-rejects", "7") == 1
    assert sandbox.output("migration_results.json")["status"] == "completed_with_errors"
    assert sandbox.sql("SELECT count(*) FROM typed") == [(90,)]


def wait_for_log(sandbox: MigrationSandbox, process: subprocess.Popen[str], text: str) -> None:
    """Wait until the log contains the text."""
    log = sandbox.outputs / "migration.log"
    wait_while_running(process, lambda: log.exists() and text in log.read_text("utf-8"))


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("lock_timeout", "canceling statement due to lock timeout (SQLSTATE 55P03)"),
        ("statement_timeout", "canceling statement due to statement timeout (SQLSTATE 57014)"),
    ],
)
def test_timeouts(sandbox: MigrationSandbox, setting: str, error: str) -> None:
    """A batch that times out, waiting for a lock, is retried until the lock is free."""
    path = sandbox.numbers("t.json", 100)
    sandbox.sql(f"ALTER DATABASE {sandbox.name} SET {setting} = '300ms'")
    command = ("--method", "copy", "--batch-size", "10")
    with sandbox.locked() as cursor, sandbox.start(*command) as process:
        wait_for_log(sandbox, process, error)
        cursor.execute("ROLLBACK")
        process.communicate()
    assert process.returncode == 0
    sandbox.check(path)
    assert sandbox.output("migration_results.json")["retries"] > 0


def test_deadlock(sandbox: MigrationSandbox) -> None:
    """A batch that the server ends to resolve a deadlock is retried."""
    path = sandbox.numbers("t.json", 100)
    sandbox.sql(f"ALTER DATABASE {sandbox.name} SET deadlock_timeout = '200ms'")
    with sandbox.locked() as cursor:
        cursor.execute("SET deadlock_timeout = '1h'")
        with sandbox.start("--batch-size", "10") as process:
            wait_for_lock(cursor, process)
            # It holds the row of its first batch in the ledger, and waits for us.
            cursor.execute(
                "INSERT INTO pgload_ledger SELECT file, \"table\", 1, 0, 0, 1, '', '' "
                "FROM pgload_ledger WHERE first_record = 0"
            )
            wait_for_log(sandbox, process, "deadlock detected (SQLSTATE 40P01)")
            cursor.execute("ROLLBACK")
            process.communicate()
    assert process.returncode == 0
    sandbox.check(path)


def test_retry_timeout(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A transient error that does not pass ends the run with one line after --retry-timeout."""
    sandbox.numbers("t.json", 100)
    sandbox.sql(f"ALTER DATABASE {sandbox.name} SET lock_timeout = '100ms'")
    with sandbox.locked():
        assert sandbox.migrate("--retry-timeout", "1") == 1
    output = capsys.readouterr().out
    assert "pgload: t.json: records 1–100 into t: canceling statement due to lock timeout" in output
    assert sandbox.migrate("--resume") == 0


@pytest.mark.parametrize(
    ("state", "transient", "data"),
    [
        (None, True, False),  # a lost connection
        ("08006", True, False),
        ("40001", True, False),
        ("57P03", True, False),
        ("22P02", False, True),
        ("23505", False, True),
        ("P0001", False, True),
        ("42P01", False, False),
        ("42501", False, False),
        ("53100", True, False),
        ("25006", True, False),
        ("UE001", False, True),
    ],
)
def test_kinds_of_errors(state: str | None, transient: bool, data: bool) -> None:
    """An error is transient, the record's fault, or neither, by its SQLSTATE."""

    class ServerError(psycopg2.Error):
        pgcode = state

    assert (is_transient(ServerError()), is_data_error(ServerError())) == (transient, data)


def test_record_error() -> None:
    """A record that cannot be encoded is a data error, and names its column."""
    error = RecordError("a.json: record 1", column="n")
    assert is_data_error(error)
    assert column_of(error) == "n"
    assert column_of(ValueError()) is None
