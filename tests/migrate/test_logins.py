"""Logins of a migration: a secret for each connection, and refusals that end it at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgload.targets.target import Target
from tests.support.environment import ROOT, environment
from tests.support.loading import write_json
from tests.support.migrating import wait_for_lock
from tests.support.servers import SECRET, password_server, rotating_command, set_password

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def started() -> Iterator[tuple[Target, dict[str, str]]]:
    """A server on TCP with passwords: for its superuser, in the database owned; and variables."""
    with password_server() as (admin, variables):
        yield replace(admin, parameters={**admin.parameters, "dbname": "owned"}), variables


@pytest.fixture
def admin(started: tuple[Target, dict[str, str]]) -> Iterator[Target]:
    """The server for its superuser, with an empty table t of owner, in the database owned."""
    admin, _ = started
    execute(admin, "CREATE TABLE t (n int); ALTER TABLE t OWNER TO owner")
    yield admin
    execute(admin, "DROP TABLE t; DROP TABLE IF EXISTS pgload_ledger CASCADE")
    set_password(admin, SECRET)


@pytest.fixture
def start(started: tuple[Target, dict[str, str]], tmp_path: Path) -> Start:
    """Starts a migration of 100 records in batches of 10, with more variables of the cloud."""
    (tmp_path / "data").mkdir()
    write_json(tmp_path / "data" / "t.json", [{"n": n} for n in range(100)])

    def start(*options: str, **given: str) -> subprocess.Popen[str]:
        more = {f"GCP_DB_{name}": value for name, value in given.items()}
        command = [sys.executable, "-m", "pgload", "migrate", "--cloud", "GCP", "--data", "data"]
        return subprocess.Popen(
            [*command, "--batch-size", "10", *options],
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": str(ROOT), **started[1], **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def execute(admin: Target, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements; returns the rows of the last."""
    with closing(admin.connect()) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def logins(admin: Target) -> int:
    """How many connections owner has opened, by the server's log."""
    log = Path(admin.parameters["host"]) / "log"
    return log.read_text("utf-8").count("connection authorized: user=owner ")


def test_nothing_of_a_secret_is_shown(admin: Target, start: Start, tmp_path: Path) -> None:
    """The password command is called once for each connection; no password is in any output, file
    or process list."""
    before, log, seen = logins(admin), tmp_path / "passwords", set[str]()
    rotating = rotating_command(admin, log)
    with start("--connections", "3", PASSWORD="", PASSWORD_COMMAND=rotating) as process:
        while process.poll() is None:
            seen.update(
                " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])
            )
            time.sleep(0.01)
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0, output
    passwords = log.read_text().split()
    assert len(passwords) == len(set(passwords)) >= 4  # three workers and the main thread
    assert logins(admin) - before == len(passwords)
    assert any("rotate.py" in line for line in seen)  # the command was seen as it ran
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != log]
    assert any(path.name == "migration_stats.json" for path in files)
    texts = [output, *seen, *(path.read_text("utf-8") for path in files)]
    assert not any(password in text for password in passwords for text in texts)
    assert execute(admin, "SELECT count(*) FROM t") == [(100,)]


@pytest.mark.parametrize("by", ["password", "command"])
def test_changed_password(admin: Target, start: Start, tmp_path: Path, by: str) -> None:
    """A password that was changed meanwhile ends the run at once, not after --retry-timeout."""
    (tmp_path / "password").write_text(SECRET)
    given = {"PASSWORD": "", "PASSWORD_COMMAND": f"cat {tmp_path}/password"}
    with closing(admin.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t")
        with start(**(given if by == "command" else {})) as process:
            wait_for_lock(cursor, process)
            set_password(admin, "another")
            begin = time.monotonic()
            cut(admin)
            cursor.execute("ROLLBACK")
            output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert process.returncode == 1, output
    assert "Traceback" not in output
    variable = "GCP_DB_PASSWORD_COMMAND" if by == "command" else "GCP_DB_PASSWORD"
    assert f"password of user 'owner': check GCP_DB_USER and {variable}" in output


def test_changed_password_that_the_command_knows(
    admin: Target, start: Start, tmp_path: Path
) -> None:
    """A lost connection is opened again with the password of that moment; the load completes."""
    (tmp_path / "password").write_text(SECRET)
    given = {"PASSWORD": "", "PASSWORD_COMMAND": f"cat {tmp_path}/password"}
    with closing(admin.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t")
        with start("--connections", "2", **given) as process:
            wait_for_lock(cursor, process)
            set_password(admin, "another")
            (tmp_path / "password").write_text("another")
            cut(admin)
            cursor.execute("ROLLBACK")
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert execute(admin, "SELECT count(*), sum(n) FROM t") == [(100, 4950)]


def cut(admin: Target) -> None:
    """Cut owner's connections."""
    execute(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'")
