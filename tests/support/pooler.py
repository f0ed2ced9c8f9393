"""A PgBouncer in front of a server: transaction mode, passwords, a pool of three connections.

Debian's and other systems' package `pgbouncer` has the program. Without it the tests are skipped,
but fail in CI.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from pgload.targets.target import Target
from tests.support.environment import SECRET
from tests.support.waiting import wait_until

POOL = 3  # connections to the server, for each database and user
PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class Pooler:
    """A running PgBouncer, its files in `folder`."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target  # as the pooler gives it
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        process: dict[str, Any] = {}
        if os.geteuid() == 0:  # PgBouncer refuses to run as root
            nobody = pwd.getpwnam("nobody")
            process = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        pooler = self._process = subprocess.Popen(
            [PROGRAM, "--quiet", "pgbouncer.ini"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **process,
        )
        wait_until(lambda: pooler.poll() is not None or _answers(self.target))
        assert pooler.poll() is None, (self._folder / "log").read_text()

    def stop(self) -> None:
        """Kill it, which cuts all connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_pooler(target: Target, **settings: Any) -> Iterator[Pooler]:
    """A PgBouncer in front of the target; `settings` are PgBouncer's own."""
    if PROGRAM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pgbouncer is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": "users.txt",
        "pool_mode": "transaction",
        "default_pool_size": POOL,
        "max_client_conn": 100,
        "logfile": "log",
    } | settings
    server = f"host={target.parameters['host']} port={target.parameters.get('port', 5432)}"
    lines = ["[databases]", f"* = {server}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in values.items()]
    address = {"host": "127.0.0.1", "port": port, "password": SECRET, "sslmode": "disable"}
    found = replace(target, parameters={**target.parameters, **address})
    with tempfile.TemporaryDirectory(prefix="pgload-") as name:
        folder = Path(name)
        (folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))
        (folder / "users.txt").write_text(f'"{target.parameters["user"]}" "{SECRET}"\n')
        pooler = Pooler(found, folder)
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.stop()


@contextmanager
def pooled(target: Target, **settings: Any) -> Iterator[Target]:
    """The target as a PgBouncer gives it; `settings` are PgBouncer's own."""
    with running_pooler(target, **settings) as pooler:
        yield pooler.target


def _answers(target: Target) -> bool:
    with suppress(psycopg2.OperationalError):
        psycopg2.connect(**{"dbname": "postgres", **target.parameters}).close()
        return True
    return False


# Left by a client in its server connection: locks, temporary relations, settings other than those
# that PgBouncer sets for each of its clients, prepared statements, cursors, channels.
_LEFT = """
    SELECT 'lock ' || locktype FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype = 'advisory'
    UNION ALL SELECT 'temporary ' || relname FROM pg_class
    WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()
    UNION ALL SELECT 'setting ' || name FROM pg_settings WHERE source = 'session' AND name <> ALL
    ('{application_name,client_encoding,DateStyle,TimeZone,standard_conforming_strings}')
    UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements
    UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
    UNION ALL SELECT 'channel ' || c FROM pg_listening_channels() AS c"""


def left_behind(target: Target, database: str = "postgres") -> list[str]:
    """What earlier clients left in the pool's connections to a database."""
    parameters = {**target.parameters, "dbname": database}
    found: list[str] = []
    connections = [psycopg2.connect(**parameters) for _ in range(POOL)]
    try:
        for connection in connections:  # each in a transaction, so that each has one of the pool's
            with connection.cursor() as cursor:
                cursor.execute(_LEFT)
                found += [text for (text,) in cursor.fetchall()]
    finally:
        for connection in connections:
            with closing(connection):
                connection.rollback()
    return found
