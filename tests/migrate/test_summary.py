"""The last lines of a run: every record is counted once, and the seconds are those of the files."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.support.migrating import MigrationSandbox
from tests.support.waiting import wait_until

SUMMARY = re.compile(
    r"^(?:completed|completed with errors|failed|interrupted): (?:.*\n)(?:  .*\n)*", re.M
)
KEYS = {
    "read": "records_read",
    "updated": "updated",
    "skipped": "skipped",
    "suppressed": "suppressed",
    "rejected": "rejects",
    "left": "records_left",
}


def summary(output: str) -> str:
    """The run's result as one line."""
    found = SUMMARY.search(output)
    assert found is not None, output
    assert max(map(len, found[0].splitlines())) <= 80
    assert len(found[0].splitlines()) <= 4
    return " ".join(found[0].split())


def counted(text: str) -> dict[str, int]:
    """The numbers of this run, by what they count."""
    own = text.partition(" by earlier runs")[0]
    return {
        name: int(number.replace(",", ""))
        for number, name in re.findall(r"(\d[\d,]*) ([a-z]+)", own)
    }


def check(text: str, results: dict[str, Any]) -> None:
    """The numbers are those of the results, and add up."""
    numbers = counted(text)
    for name, key in KEYS.items():
        assert numbers.get(name, 0) == results[key], name
    assert numbers["written"] + numbers["updated"] == results["total_records"]
    before = [results[f"{name}_before"] for name in ("records", "not_written", "rejects")]
    parts = ("written", "updated", "skipped", "suppressed", "rejected", "left")
    assert results["records_read"] == sum(numbers.get(name, 0) for name in parts) + sum(before)
    seconds = [results[f"{name}_seconds"] for name in ("load", "total_duration", "wall")]
    assert seconds == sorted(seconds)
    for name in ("load", "wall"):
        rate, took = results[f"{name}_records_per_second"], results[f"{name}_seconds"]
        assert rate * took == pytest.approx(results["total_records"], rel=1e-3)
        assert f"{took:.1f} s ({rate:,.0f} records/s)" in text


def test_conflicts_and_rejects(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records that are skipped, updated or rejected are counted beside the written ones."""
    sandbox.sql("CREATE TABLE k (k int PRIMARY KEY, v text)", "INSERT INTO k VALUES (1), (2)")
    sandbox.file("k.json", [{"k": n, "v": "x"} for n in (1, 2, 3, 4, "bad")])
    for how, written in (("skip", 2), ("update", 0)):
        assert sandbox.migrate("--on-conflict", how, "--verify") == 1
        text = summary(capsys.readouterr().out)
        check(text, sandbox.output("migration_results.json"))
        assert counted(text)["written"] == written
        assert ", verified, load " in text
    assert counted(text)["updated"] == 4
    assert sandbox.sql("SELECT count(*), count(v) FROM k") == [(4, 4)]


def test_resumed_run(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """What a run that ended early has left, the next one writes, and the numbers of both add up."""
    sandbox.file("t.json", [{"n": "bad" if n % 10 == 9 else n} for n in range(100)])
    assert sandbox.migrate("--batch-size", "10", "--max-rejects", "3") == 1
    text = summary(capsys.readouterr().out)
    assert text.startswith(
        "failed: 100 read, 27 written, 0 updated, 0 skipped, 3 rejected, 70 left"
    )
    check(text, sandbox.output("migration_results.json"))
    assert sandbox.migrate("--resume") == 1
    text = summary(capsys.readouterr().out)
    assert ", by earlier runs 27 written and 3 rejected, not verified, " in text
    check(text, sandbox.output("migration_results.json"))
    assert counted(text)["written"] == 63
    assert sandbox.sql("SELECT count(*) FROM t") == [(90,)]


def test_wall_seconds(sandbox: MigrationSandbox) -> None:
    """The seconds of the whole command count from the start of its process, to its end."""
    sandbox.numbers("t.json", 100)
    began = time.time()
    with sandbox.start() as process:
        output = process.communicate()[0]
    took = time.time() - began
    results = sandbox.output("migration_results.json")
    check(summary(output), results)
    assert results["total_duration_seconds"] < results["wall_seconds"] <= took + 0.02
    assert took - results["wall_seconds"] < max(0.5, took / 3)  # the end of the process


def test_rejects_are_shown_meanwhile(sandbox: MigrationSandbox) -> None:
    """While the bad records of a batch are searched for, the state of the connection shows it."""
    sandbox.sql("CREATE TABLE c (n int CHECK (n < 0 OR pg_sleep(0.01) IS NULL))")
    sandbox.file("c.json", [{"n": n} for n in range(300)])
    progress = sandbox.outputs / "migration_progress.json"

    def state() -> str | None:
        if not progress.exists():
            return None
        found = sandbox.output("migration_progress.json")["connections"]
        return str(found[0]["state"])

    with sandbox.start() as process:
        wait_until(lambda: state() == "rejecting")
        process.communicate()
    assert process.returncode == 1
    assert sandbox.output("migration_results.json")["rejects"] == 300


@pytest.mark.parametrize("program", ["/usr/local/bin/pgload", "/site-packages/pgload/__main__.py"])
def test_command_that_resumes(
    sandbox: MigrationSandbox,
    program: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command that resumes a run is called as the run was."""
    monkeypatch.setattr("sys.argv", [program])
    sandbox.file("t.json", [{"n": "bad"}])
    assert sandbox.migrate("--max-rejects", "0") == 1
    called = "python -m pgload" if program.endswith(".py") else "pgload"
    assert f"\nresume with: {called} migrate --cloud " in capsys.readouterr().out
