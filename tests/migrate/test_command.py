"""The command itself: signals, exit codes, options, secrets."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from pgload.cli import parser
from pgload.targets.target import Target
from tests.support.files import as_nobody
from tests.support.migrating import CLOUD, SECRET, MigrationSandbox, make_sandbox, wait_for_lock


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(sandbox: MigrationSandbox, number: signal.Signals) -> None:
    """Interrupted while it waits for the server, it ends at once with a summary; the command in
    that loads the rest."""
    path = sandbox.numbers("t.json", 500)
    with sandbox.locked() as cursor:
        with sandbox.start("--batch-size", "10", "--connections", "2") as process:
            wait_for_lock(cursor, process)
            process.send_signal(number)
            output, _ = process.communicate()
        cursor.execute("ROLLBACK")
    assert process.returncode == 130, output
    assert sandbox.output("migration_results.json")["status"] == "interrupted"
    assert "Traceback" not in output
    (command,) = re.findall(r"resume with: python (.*)", output)
    again = [sys.executable, *shlex.split(command)]
    assert again[-1] == "--resume"
    subprocess.run(
        again, cwd=sandbox.work, env=sandbox.environment, check=True, capture_output=True
    )
    sandbox.check(path)


def test_interrupted_twice(sandbox: MigrationSandbox) -> None:
    """A second Ctrl-C ends it at once, even if the server does not answer."""
    sandbox.numbers("t.json", 500)
    with sandbox.locked() as cursor:
        with sandbox.start("--batch-size", "10") as process:
            backend = psutil.Process(wait_for_lock(cursor, process))
            backend.suspend()
            try:
                process.send_signal(signal.SIGINT)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.communicate(timeout=1)
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=30)
            finally:
                backend.resume()
        cursor.execute("ROLLBACK")
    assert process.returncode == 130
    assert "Traceback" not in output
    assert sandbox.migrate("--resume") == 0


def test_interrupted_before_it_began(sandbox: MigrationSandbox) -> None:
    """Ctrl-C before the first batch ends it without a traceback."""
    sandbox.numbers("t.json", 10)
    lock = "pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE"
    with sandbox.locked(lock) as cursor, sandbox.start() as process:
        wait_for_lock(cursor, process)
        process.send_signal(signal.SIGINT)
        cursor.execute("ROLLBACK")
        output, _ = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in output


def test_secrets(sandbox: MigrationSandbox) -> None:
    """The password is in no file, message or process list."""
    sandbox.file("t.json", [{"n": n if n < 50 else "bad"} for n in range(100)])
    with sandbox.locked() as cursor, sandbox.start() as process:
        wait_for_lock(cursor, process)
        assert SECRET not in " ".join(psutil.Process(process.pid).cmdline())
        cursor.execute("ROLLBACK")
        output, _ = process.communicate()
    assert process.returncode == 1
    assert SECRET not in output
    written = [path for path in sandbox.work.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--resume", "--restart"), "choose one"),
        (("--resume", "--no-ledger"), "--resume needs the ledger"),
        (("--cloud", "A,B"), "a migration has one target"),
        (("--cloud", "NOWHERE"), "NOWHERE_DB_HOST"),
        (("--cloud", "A/B"), "cannot be a cloud's name"),
    ],
)
def test_wrong_use(
    sandbox: MigrationSandbox,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Options that contradict each other are refused with one line."""
    sandbox.numbers("t.json", 10)
    assert sandbox.migrate(*options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "no cloud is named: give --cloud NAME"),
        ({"CLOUD_PROVIDER": "AZURE"}, "AZURE_DB_HOST"),
        ({"ENV": CLOUD, f"{CLOUD}_DB_USER": ""}, f"set {CLOUD}_DB_USER "),
        ({"ENV": "EMBEDDED"}, "confirm that with --cloud EMBEDDED"),
    ],
)
def test_no_usable_cloud(
    sandbox: MigrationSandbox, variables: dict[str, str], message: str
) -> None:
    """Without a cloud that is named or configured, nothing is loaded into a temporary server."""
    sandbox.numbers("t.json", 10)
    done = migrate_by_variables(sandbox, variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not sandbox.outputs.exists()


def test_cloud_of_the_environment(sandbox: MigrationSandbox) -> None:
    """ENV names the cloud where --cloud does not."""
    path = sandbox.numbers("t.json", 10)
    assert migrate_by_variables(sandbox, {"ENV": CLOUD.lower()}).returncode == 0
    sandbox.check(path)


def migrate_by_variables(
    sandbox: MigrationSandbox, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command without --cloud, with these variables besides those of the sandbox."""
    return subprocess.run(
        [sys.executable, "-m", "pgload", "migrate", "--data", str(sandbox.data)],
        cwd=sandbox.work,
        env=sandbox.environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("outputs", ["data", "data/outputs", "data/../data/x/y", "link"])
def test_outputs_among_the_data(
    sandbox: MigrationSandbox, outputs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outputs in the folder of the data, which could be loaded as data, are refused."""
    sandbox.numbers("t.json", 10)
    (sandbox.work / "link").symlink_to("data")
    assert sandbox.migrate("--output-dir", outputs) == 2
    assert f"--output-dir {outputs} is in --data" in capsys.readouterr().err
    assert [path.name for path in sandbox.data.iterdir()] == ["t.json"]


def test_unreadable_configuration(server: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder, a mapping or a `.env` that may not be read is an error of one line."""
    with (
        TemporaryDirectory() as name,  # pytest's own folders are closed to others
        make_sandbox(server, Path(name)) as sandbox,
    ):
        sandbox.work.chmod(0o755)
        sandbox.file("t.json", [{"n": 1}])
        mapping, variables = sandbox.data / "tables.toml", sandbox.work / ".env"
        mapping.write_text('[[table]]\nfiles = "x"\nname = "t"\n')
        variables.write_text("A=1\n")
        assert sandbox.migrate("--dry-run") == 0
        capsys.readouterr()
        for path in (sandbox.data, mapping, variables):
            path.chmod(0)
            with as_nobody():
                assert sandbox.migrate() == 2
            path.chmod(0o755)
            error = capsys.readouterr().err
            assert f"{path.name} cannot be read: permission denied; make it readable" in error
            assert error.count("\n") == 1


def test_reader_that_has_read_enough(sandbox: MigrationSandbox) -> None:
    """A closed pipe does not end a migration, and does not change its exit code."""
    path = sandbox.numbers("t.json", 500)
    read, write = os.pipe()
    os.close(read)
    with sandbox.start("--batch-size", "10", stdout=write) as process:
        os.close(write)
        assert process.wait() == 0
    sandbox.check(path)


@pytest.mark.parametrize("option", ["--retry-timeout", "--patience"])
def test_retry_timeout(option: str) -> None:
    """--patience is the old name of --retry-timeout, which the help does not show."""
    assert parser().parse_args(["migrate", option, "7"]).retry_timeout == 7
    assert parser().parse_args(["migrate"]).retry_timeout == 300
