"""A migration from a store of objects, or from a pipe, resumes after it was killed."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.migrate.test_crashes import wait_for_commits
from tests.support.migrating import MigrationSandbox
from tests.support.stores import Store, azure_store, google_store, s3_store, web_store

RECORDS = 1500


@contextmanager
def opened(name: str, work: Path) -> Iterator[Store]:
    """One of the stores."""
    with ExitStack() as stack:
        if name == "az":
            yield stack.enter_context(azure_store(work))
        else:
            stores = {"web": web_store, "s3": s3_store, "gs": google_store}
            yield stack.enter_context(stores[name]())


def killed_when_begun(process: subprocess.Popen[str], sandbox: MigrationSandbox) -> None:
    """Kill a migration that has committed some batches and not all."""
    with process:
        assert wait_for_commits(sandbox, process, 1), process.communicate()[0]
        process.kill()
    assert 0 < sandbox.committed() < RECORDS


@pytest.mark.parametrize("name", ["web", "s3", "az", "gs"])
def test_killed_and_resumed(sandbox: MigrationSandbox, name: str) -> None:
    """Every record of a compressed object is written once, though the migration was killed."""
    path = sandbox.numbers("t.json", RECORDS)
    with opened(name, sandbox.work) as store:
        store.put("t.json.gz", gzip.compress(path.read_bytes()))
        env = sandbox.environment | store.environment
        options = ("--data", f"{store.url}t.json.gz", "--batch-size", "2", "--resume")
        killed_when_begun(sandbox.start(*options, env=env), sandbox)
        with sandbox.start(*options, "--connections", "2", env=env) as process:
            output, _ = process.communicate()
        assert process.returncode == 0, output
        assert "committed already" in output
    sandbox.check(path)


def test_pipe_killed_and_resumed(sandbox: MigrationSandbox) -> None:
    """The same data from standard input is continued; the plan says where it is kept."""
    (sandbox.work / "tables.toml").write_text('[[table]]\nfiles = "stdin"\nname = "t"\n')
    path = sandbox.numbers("t.json", RECORDS)
    options = ("--data", "-", "--batch-size", "2", "--resume")
    with path.open() as file:
        killed_when_begun(sandbox.start(*options, stdin=file), sandbox)
    with path.open() as file, sandbox.start(*options, stdin=file) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "standard input is kept in a temporary file in " in output
    sandbox.check(path)


def test_dry_run_of_a_pipe(sandbox: MigrationSandbox) -> None:
    """A dry run checks a sample of standard input, and writes nothing."""
    (sandbox.work / "tables.toml").write_text('[[table]]\nfiles = "stdin"\nname = "t"\n')
    path = sandbox.numbers("t.json", 10)
    with path.open() as file, sandbox.start("--data", "-", "--dry-run", stdin=file) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "checked against the columns' types: all 10 records, none is refused" in output
    assert sandbox.committed() == 0


def test_signed_url(sandbox: MigrationSandbox) -> None:
    """What gives access to a URL is in no output file, and not in the command that resumes."""
    path = sandbox.numbers("t.json", 10)
    with web_store() as store:
        store.put("t.json", path.read_bytes())
        place = store.url.replace("//", "//me:secret@") + "t.json?sig=secret"
        assert sandbox.migrate("--data", place) == 0
    assert sandbox.output("migration_results.json")["resume_command"].count("/d/t.json ") == 1
    for file in sandbox.outputs.rglob("*"):
        assert not file.is_file() or "secret" not in file.read_text()
    sandbox.check(path)
