"""The embedded server is durable, private, and stops with Python."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from pgload.errors import TargetError
from pgload.targets.embedded import embedded as start
from pgload.targets.target import Target
from tests.support.servers import embedded


def settings(target: Target) -> dict[str, str]:
    connection = target.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE source <> 'default'")
        changed = dict(cursor.fetchall())
        cursor.execute("SELECT name, setting FROM pg_settings")
        everything = dict(cursor.fetchall())
    connection.close()
    return everything | {"changed": " ".join(sorted(changed))}


def test_settings() -> None:
    """The settings that decide how fast it writes are PostgreSQL's defaults, durable ones."""
    with embedded() as server:
        found = settings(server)
    assert (found["fsync"], found["synchronous_commit"], found["full_page_writes"]) == ("on",) * 3
    assert found["listen_addresses"] == ""
    # initdb writes some defaults into postgresql.conf; none of them is about writing but these.
    about_writing = {"wal_level", "checkpoint_timeout", "commit_delay", "wal_buffers"}
    assert not about_writing & set(found["changed"].split())
    assert (found["max_wal_size"], found["min_wal_size"]) == ("1024", "80")


def test_two_at_once(server: Target) -> None:
    """A second server has data of its own, and its end does not affect the first."""
    with start() as other:  # without a cache
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
import os
from pgload.targets.cloud import open_target
with open_target("EMBEDDED", os.environ) as target:
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


def test_cache(tmp_path: Path) -> None:
    """The first start keeps an empty cluster, the next ones copy it and leave it as it is."""
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        with start(cache) as target:
            connection = target.connect()
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE only_here (a int)")
            connection.close()
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert (kept / "PG_VERSION").is_file()
    assert not (kept / "postmaster.pid").exists()


def test_cache_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that create the cluster at once, both start and one is kept."""
    rename = Path.rename

    def rename_later(copy: Path, kept: Path) -> Path:
        shutil.copytree(copy, kept)
        return rename(copy, kept)

    monkeypatch.setattr(Path, "rename", rename_later)
    with start(tmp_path) as target:
        target.connect().close()
    assert len(list(tmp_path.iterdir())) == 1


def test_cache_that_is_a_file(tmp_path: Path) -> None:
    """A cache that cannot be used is an error with the variable's name."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(TargetError, match=r"cannot be used: .* EMBEDDED_CACHE"),
        start(tmp_path / "file"),
    ):
        pass


def test_inherited_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's process does not inherit exported passwords."""
    monkeypatch.setenv("GCP_DB_PASSWORD", "s3cret")
    with embedded() as target:
        folder = Path(target.parameters["host"])
        postmaster = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        assert "GCP_DB_PASSWORD" not in psutil.Process(postmaster).environ()


def test_server_that_cannot_start() -> None:
    """A server that refuses to start is an error with its reason, at once."""
    with (
        pytest.raises(TargetError, match=r"the server did not start: .*no_such_setting"),
        embedded(no_such_setting="1"),
    ):
        pass


def test_long_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory whose path is too long for a Unix socket is an error."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(TargetError, match="set TMPDIR=/tmp"), embedded():
        pass
    assert list(folder.iterdir()) == []
