"""A migration that writes: complete, valid files at any moment, and what stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest

from pgload.contract import METHODS, PROGRESS, RESULTS, STATS
from pgload.source import reader as source_reader
from tests.support.migrating import (
    DDL,
    MigrationSandbox,
    wait_for_lock,
    wait_while_running,
)


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("method", METHODS)
def test_complete(sandbox: MigrationSandbox, method: str, ledger: tuple[str, ...]) -> None:
    """Every record of every file is in its table, whatever the method and the connections."""
    sandbox.sql(DDL.format("other"))
    paths = [sandbox.numbers(f"t_{n}.json", 997, start=1000 * n) for n in range(3)]
    others = sandbox.numbers("other.json", 5)
    given = ("--method", method, "--batch-size", "50", "--connections", "4", *ledger)
    assert sandbox.migrate(*given) == 0
    sandbox.check(*paths)
    sandbox.check(others, table="other")
    assert (sandbox.committed() == 0) == bool(ledger)
    results = sandbox.output("migration_results.json")
    assert (results["status"], results["total_records"]) == ("completed", 2996)
    assert (results["successful"], results["failed"], results["total_files"]) == (4, 0, 4)
    progress = sandbox.output("migration_progress.json")
    assert (progress["status"], progress["percent"]) == ("completed", 100)
    stats = sandbox.output("migration_stats.json")
    assert sum(batch["records_count"] for batch in stats["batches"]) == 2996


def test_rejects_of_an_earlier_run(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with rejects of an earlier run is not successful, and a note names their file."""
    sandbox.file("t.json", [{"n": 1}, {"n": "one"}])
    assert sandbox.migrate() == 1
    assert sandbox.migrate("--resume", "--keep-runs", "1") == 1
    results = json.loads((sandbox.outputs / "migration_results.json").read_bytes())
    assert (results["successful"], results["failed"]) == (0, 1)
    assert "1 of its records were rejected by an earlier run" in capsys.readouterr().out
    kept = [path for path in sandbox.outputs.glob("runs/2*/rejects.jsonl") if path.stat().st_size]
    assert len(kept) == 1


def test_batches_are_capped(sandbox: MigrationSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of long records hold fewer of them, the same ones in every run."""
    monkeypatch.setattr(source_reader, "BATCH_BYTES", 1000)
    path = sandbox.file("t.json", [{"n": n, "a": "x" * (300 * (n % 5))} for n in range(50)])
    assert sandbox.migrate("--batch-size", "20") == 0
    batches = sandbox.output("migration_stats.json")["batches"]
    assert len(batches) > 10
    assert all(each["bytes"] <= 1000 or each["records_count"] == 1 for each in batches)
    sandbox.check(path)
    sandbox.sql("DELETE FROM pgload_ledger WHERE first_record BETWEEN 10 AND 20")
    monkeypatch.setattr(source_reader, "BATCH_BYTES", 900)
    assert sandbox.migrate("--resume") == 1  # cut differently
    sandbox.check(path)


HOSTILE = ['a"b', "a'b", "a;b--", "%s", "{0}", "a\\b", "a\nb", "가나다", " ", "select", "\u202e"]


def test_hostile_names(sandbox: MigrationSandbox) -> None:
    """Names of fields, tables and files are data, and a log line is one line."""
    record = dict.fromkeys(HOSTILE, "v")
    paths = []
    for n, name in enumerate(HOSTILE):
        file = sandbox.data / f"{name}{n:02}.json"
        file.write_text(json.dumps([{**record, "n": n}]), "utf-8")
        paths.append(file)
    rules = "".join(
        f"[[table]]\nfiles = {json.dumps(f'*{n:02}.json')}\nname = {json.dumps(name)}\n"
        for n, name in enumerate(HOSTILE)
    )
    (sandbox.data / "tables.toml").write_text(rules, "utf-8")
    assert sandbox.migrate("--create-tables") == 0
    for name, path in zip(HOSTILE, paths, strict=True):
        sandbox.check(path, table=name)
    assert sandbox.migrate("--resume") == 0
    line = re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (INFO|WARNING|ERROR) - [^\x00-\x1f\u202e]*"
    )
    log = (sandbox.outputs / "migration.log").read_text("utf-8")
    assert all(line.fullmatch(each) for each in log.splitlines())


def read_again_and_again(folder: Path, stopped: Event, errors: list[object]) -> None:
    """Read the JSON files in a loop, until one of them is not valid."""
    while not errors and not stopped.wait(0.001):
        for name in (PROGRESS, STATS, RESULTS):
            with suppress(FileNotFoundError):
                try:
                    msgspec.json.decode((folder / name).read_bytes())
                except msgspec.DecodeError as error:
                    errors.append((name, error))


@pytest.mark.parametrize("end", ["completed", "failed", "interrupted", "killed"])
def test_files_are_valid_at_any_moment(sandbox: MigrationSandbox, end: str) -> None:
    """The JSON files of a run are complete whenever they are read, however the run ends."""
    sandbox.file("t.json", [{"n": "x" if end == "failed" and n > 200 else n} for n in range(600)])
    stopped, errors = Event(), list[object]()
    reader = Thread(target=read_again_and_again, args=(sandbox.outputs, stopped, errors))
    reader.start()
    try:
        with sandbox.start("--batch-size", "1", "--max-rejects", "0") as process:
            if end in ("interrupted", "killed"):
                wait_while_running(process, lambda: sandbox.committed() >= 50)
                process.send_signal(signal.SIGINT if end == "interrupted" else signal.SIGKILL)
            output, _ = process.communicate()
    finally:
        stopped.set()
        reader.join()
    assert not errors
    status = sandbox.output("migration_progress.json")["status"]
    assert status == ("running" if end == "killed" else end), output
    codes = {"completed": 0, "failed": 1, "interrupted": 130, "killed": -signal.SIGKILL}
    assert process.returncode == codes[end]
    if end == "failed":
        assert "--max-rejects is 0" in sandbox.output("migration_results.json")["error"]
    if end != "killed":
        assert sandbox.output("migration_results.json")["status"] == end
        written = sum(b["records_count"] for b in sandbox.output("migration_stats.json")["batches"])
        assert sandbox.sql("SELECT count(*) FROM t") == [(written,)]
    assert not re.search("[\x00-\x08\x0b-\x1f]", output)  # no terminal, no control characters


def test_too_many_clients(
    sandbox: MigrationSandbox, restricted: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that gives fewer connections is used with these, with a note; with none it is
    unusable."""
    path = sandbox.numbers("t.json", 100)
    sandbox.sql(
        f"GRANT CREATE ON SCHEMA public TO {sandbox.name}",
        f"ALTER ROLE {sandbox.name} CONNECTION LIMIT 3",
    )
    assert restricted.migrate("--connections", "8", "--batch-size", "10") == 0
    output = "TESTED: the server gave 2 of 8 connections: continuing with 2"
    assert output in capsys.readouterr().out
    assert output in (sandbox.outputs / "migration.log").read_text("utf-8")
    sandbox.check(path)
    sandbox.sql(f"ALTER ROLE {sandbox.name} CONNECTION LIMIT 0")
    assert restricted.migrate("--resume") == 2
    assert "the server has no connection left" in capsys.readouterr().err


def test_rights(
    sandbox: MigrationSandbox, restricted: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the right to create the ledger nothing is written, and the error says what to do."""
    path = sandbox.numbers("t.json", 100)
    assert restricted.migrate() == 2
    output = capsys.readouterr()
    assert "permission denied for schema public" in output.out + output.err
    assert "--no-ledger does without" in output.out + output.err
    assert sandbox.sql("SELECT count(*) FROM t") == [(0,)]
    assert restricted.migrate("--no-ledger") == 0
    sandbox.check(path)
    sandbox.sql(f"REVOKE INSERT ON t FROM {sandbox.name}")
    assert restricted.migrate("--no-ledger") == 1
    assert "permission denied for table t (SQLSTATE 42501)" in capsys.readouterr().out


def test_read_only_server(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that stays read-only ends the run with one line; it can be resumed later."""
    path = sandbox.numbers("t.json", 100)
    sandbox.sql(f"ALTER DATABASE {sandbox.name} SET default_transaction_read_only = on")
    for _ in range(2):
        assert sandbox.migrate("--resume", "--retry-timeout", "1") == 1
        output = capsys.readouterr().out
        assert "read-only transaction (SQLSTATE 25006); " in output
        with closing(sandbox.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute("CREATE TABLE IF NOT EXISTS pgload_ledger_was_not_made ()")
    sandbox.sql(
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {sandbox.name} RESET default_transaction_read_only",
    )
    assert sandbox.migrate("--resume") == 0
    sandbox.check(path)


@pytest.fixture
def small_disk(sandbox: MigrationSandbox) -> Iterator[Path]:
    """A file system of 2 MB that holds table t."""
    folder = Path(sandbox.target.parameters["host"]) / "disk"  # the server's user may write there
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        user = Path(sandbox.target.parameters["host"]).stat()
        os.chown(folder, user.st_uid, user.st_gid)
        sandbox.sql(
            f"CREATE TABLESPACE {sandbox.name} LOCATION '{folder}'",
            f"ALTER TABLE t SET TABLESPACE {sandbox.name}",
        )
        yield folder
        sandbox.sql("DROP TABLE t", f"DROP TABLESPACE {sandbox.name}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(
    sandbox: MigrationSandbox, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk that stays full ends the run with one line; with more space it is resumed."""
    path = sandbox.file("t.json", [{"n": n, "a": str(n) + "x" * 1500} for n in range(4000)])
    given = ("--batch-size", "50", "--connections", "4")
    assert sandbox.migrate(*given, "--retry-timeout", "1") == 1
    output = capsys.readouterr().out
    assert "No space left on device (SQLSTATE 53100)" in output
    assert re.search(r"\(SQLSTATE 53100\); .*disk", output)
    committed = sandbox.sql("SELECT count(*) FROM t")[0][0]
    assert 0 < committed < 4000
    assert sandbox.output("migration_progress.json")["total_records_processed"] == committed
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert sandbox.migrate("--resume", "--connections", "4") == 0
    sandbox.check(path)


@pytest.mark.parametrize("change", ["grows", "vanishes"])
def test_file_that_changes(sandbox: MigrationSandbox, change: str) -> None:
    """A file that changes while it is loaded fails with a line; the next one is loaded."""
    first = sandbox.file("t_1.json", [{"n": n, "a": "x" * 20_000} for n in range(1000)])
    sandbox.numbers("t_2.json", 50)
    with sandbox.locked() as cursor, sandbox.start("--batch-size", "10") as process:
        wait_for_lock(cursor, process)
        if change == "grows":
            with first.open("a") as file:
                file.write(" ")
        else:
            first.unlink()
        cursor.execute("ROLLBACK")
        output, _ = process.communicate()
    assert process.returncode == 1, output
    assert f"pgload: t_1.json: {'changed' if change == 'grows' else 'vanished'}" in output
    assert sandbox.sql("SELECT count(*) FROM t WHERE a !~ '^x'") == [(50,)]
    results = sandbox.output("migration_results.json")
    assert [file["status"] for file in results["files"]] == ["failed", "completed"]


def test_table_dropped_meanwhile(sandbox: MigrationSandbox) -> None:
    """A table that is dropped during a migration ends it with one line."""
    sandbox.numbers("t.json", 1000)
    with sandbox.locked("t") as cursor, sandbox.start("--batch-size", "10") as process:
        wait_for_lock(cursor, process)
        cursor.execute("DROP TABLE t; COMMIT")
        output, _ = process.communicate()
    assert process.returncode == 1, output
    assert 'relation "public.t" does not exist (SQLSTATE 42P01)' in output
    sandbox.sql("CREATE TABLE t (n int, a text)")
    assert sandbox.migrate("--resume") == 0
    assert sandbox.sql("SELECT count(*) FROM t") == [(1000,)]


def test_files_of_an_interrupted_run(sandbox: MigrationSandbox) -> None:
    """A file that is begun and not finished is `unfinished`, the next ones are `pending`."""
    for n in range(3):
        sandbox.numbers(f"t_{n}.json", 500, start=500 * n)
    with sandbox.locked() as cursor, sandbox.start("--batch-size", "10") as process:
        wait_for_lock(cursor, process)
        wait_while_running(process, lambda: states(sandbox, PROGRESS)[0] == "running")
        assert states(sandbox, PROGRESS) == ["running", "pending", "pending"]
        process.send_signal(signal.SIGINT)
        process.communicate()
    for name in (PROGRESS, RESULTS):
        assert states(sandbox, name) == ["unfinished", "pending", "pending"]
    assert sandbox.migrate("--resume") == 0
    assert states(sandbox, RESULTS) == ["completed"] * 3


def states(sandbox: MigrationSandbox, name: str) -> list[str]:
    return [file["status"] for file in sandbox.output(name)["files"]] or [""]


def test_results_report_what_was_done(
    sandbox: MigrationSandbox, restricted: MigrationSandbox
) -> None:
    """Results and log have the connections that the server gave and the batch size in use."""
    path = sandbox.numbers("t.json", 100)
    sandbox.sql(
        f"GRANT CREATE ON SCHEMA public TO {sandbox.name}",
        f"ALTER ROLE {sandbox.name} CONNECTION LIMIT 3",
    )
    assert restricted.migrate("--connections", "8", "--batch-size", "10") == 0
    results = sandbox.output(RESULTS)
    assert (results["num_connections"], results["batch_size"]) == (2, 10)
    log = (sandbox.outputs / "migration.log").read_text("utf-8")
    assert "Connected to TESTED: 2 connections" in log
    assert "Writing 10 batches over 2 connections" in log
    average = results["average_records_per_second"]
    progress = sandbox.output(PROGRESS)
    assert round(progress["average_records_per_second"], 1) == round(average, 1)
    assert restricted.migrate("--connections", "2", "--batch-size", "7", "--resume") == 0
    assert sandbox.output(RESULTS)["batch_size"] == 10
    sandbox.check(path)
