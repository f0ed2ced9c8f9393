"""The embedded server is durable, alone, and gone when Python is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from pgload.errors import TargetError
from pgload.targets.embedded import embedded
from pgload.targets.target import Target


def settings(target: Target) -> dict[str, str]:
    connection = target.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE source <> 'default'")
        changed = dict(cursor.fetchall())
        cursor.execute("SELECT name, setting FROM pg_settings")
        everything = dict(cursor.fetchall())
    connection.close()
    return everything | {"changed": " ".join(sorted(changed))}


def test_settings(server: Target) -> None:
    """What decides how fast it writes is as PostgreSQL ships it, durable."""
    found = settings(server)
    assert (found["fsync"], found["synchronous_commit"], found["full_page_writes"]) == ("on",) * 3
    assert found["listen_addresses"] == ""
    # initdb writes some defaults into postgresql.conf; none of them is about writing but these.
    about_writing = {"wal_level", "checkpoint_timeout", "commit_delay", "wal_buffers"}
    assert not about_writing & set(found["changed"].split())
    assert (found["max_wal_size"], found["min_wal_size"]) == ("1024", "80")


def test_two_at_once(server: Target) -> None:
    """A second server beside the first has its own data, and takes nothing along when it ends."""
    with embedded() as other:
        connection = other.connect()
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE only_here (a int)")
        connection.close()
        folder = Path(other.parameters["host"])
        assert folder.is_dir()
        assert folder != Path(server.parameters["host"])
    assert not folder.exists()
    connection = server.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('only_here')")
        assert cursor.fetchone() == (None,)
    connection.close()


HOLDER = """
from pgload.errors import TargetError
from pgload.targets.embedded import embedded
with embedded() as target:
    print(target.parameters["host"], flush=True)
    input()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_end_of_python(end: signal.Signals) -> None:
    """However Python ends, the server ends too and its directory is removed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        postmaster = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(postmaster)
        guard = server.parent()
        process.send_signal(end)
        process.wait(timeout=30)
    _, alive = psutil.wait_procs([server, guard], timeout=30)
    assert not alive
    assert not folder.exists()


def test_server_that_cannot_start() -> None:
    """A server that refuses to start says why, at once."""
    with (
        pytest.raises(TargetError, match=r"the server did not start: .*no_such_setting"),
        embedded(no_such_setting="1"),
    ):
        pass


def test_long_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory in which no Unix socket could be made is named, with what to do."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(TargetError, match="set TMPDIR=/tmp"), embedded():
        pass
    assert list(folder.iterdir()) == []
