"""A streaming standby of an embedded server, and a TCP address that leads to either of them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import psutil
import psycopg2

from pgload.targets.target import Target
from tests.support.forwarding import forward_all
from tests.support.waiting import wait_until


class Server:
    """A running server process, by its data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pid = int((folder / "data/postmaster.pid").read_text().split()[0])
        self.process = psutil.Process(pid)

    @property
    def socket(self) -> str:
        return f"{self.folder}/.s.PGSQL.5432"

    def sql(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements; returns the rows of the last."""
        with closing(psycopg2.connect(host=str(self.folder), user="postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def crash(self) -> None:
        """End it at once, with all its connections."""
        self.process.send_signal(signal.SIGQUIT)
        wait_until(
            lambda: not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE
        )


@contextmanager
def standby_of(target: Target) -> Iterator[Server]:
    """A standby that streams from an embedded server; commits wait for it (synchronous)."""
    primary = Server(Path(target.parameters["host"]))
    folder = Path(tempfile.mkdtemp(prefix="pgload-"))
    user = {}
    if os.geteuid() == 0:
        ids = primary.process.uids().real, primary.process.gids().real
        os.chown(folder, *ids)
        user = {"user": ids[0], "group": ids[1], "extra_groups": []}
    programs = Path(primary.process.exe()).parent
    backup = [str(programs / "pg_basebackup"), "-h", str(primary.folder), "-U", "postgres"]
    backup += ["-D", str(folder / "data"), "-R", "-X", "stream", "-c", "fast"]
    subprocess.run(backup, check=True, cwd=folder, **user)
    command = [part.replace(str(primary.folder), str(folder)) for part in primary.process.cmdline()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True, **user
        )
    try:
        wait_until(lambda: _streams(primary), 60)
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        yield Server(folder)
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _streams(primary: Server) -> bool:
    ((state,),) = primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
    return state == 1


@contextmanager
def address(server: Server) -> Iterator[Address]:
    """A TCP port on this machine, as a name in DNS that is changed after a failover."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Address(listener.getsockname()[1], server)
        Thread(target=forward_all, args=(listener, lambda: found.server.socket)).start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@dataclass
class Address:
    """Connections that exist stay with the server that they were made to."""

    port: int
    server: Server  # where new connections go
