"""`python -m pgload migrate` against a database of its own, and what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2

from pgload.cli import main
from pgload.errors import TargetError
from pgload.load.verify import Fingerprint, expected_fingerprint, fingerprint
from pgload.schema.match import match_table
from pgload.schema.table import Table
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from pgload.targets.target import Target
from tests.support.environment import ROOT, SECRET, environment
from tests.support.loading import write_json
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

CLOUD = "TESTED"
DDL = (
    'CREATE TABLE {} (id serial PRIMARY KEY, n int, a text, "createdAt" timestamptz DEFAULT now())'
)
# How often tests of crashes kill the migration, and cut its connections.
KILLS = int(os.environ.get("PGLOAD_KILLS", "3"))
CUTS = int(os.environ.get("PGLOAD_CUTS", "2"))
_numbers = count(1)


@dataclass
class MigrationSandbox:
    """A database on a server, a folder of files, and the folder that the command runs in."""

    target: Target
    work: Path
    name: str = field(default_factory=lambda: f"migrate_{os.getpid()}_{next(_numbers)}")

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def outputs(self) -> Path:
        return self.work / "migration_outputs"

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that migrates; without other clouds that the machine has configured."""
        parameters = self.target.parameters
        ours = {
            f"{CLOUD}_DB_HOST": str(parameters["host"]),
            f"{CLOUD}_DB_PORT": str(parameters.get("port", 5432)),
            f"{CLOUD}_DB_NAME": self.name,
            f"{CLOUD}_DB_USER": str(parameters["user"]),
            f"{CLOUD}_DB_PASSWORD": SECRET,
            f"{CLOUD}_DB_SSLMODE": "disable",
            "PYTHONPATH": str(ROOT),
        }
        return environment() | ours

    def connect(self) -> Connection:
        """A connection to the database."""
        parameters = {**self.target.parameters, "dbname": self.name}
        return replace(self.target, parameters=parameters).connect()

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; returns the rows of the last."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def locked(self, lock: str = "t IN SHARE MODE") -> Iterator[Cursor]:
        """A transaction that locks a table, to its end."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            cursor.execute(f"BEGIN; LOCK TABLE {lock}")
            yield cursor

    def file(self, name: str, records: Any) -> Path:
        """A file to migrate."""
        return write_json(self.data / name, records)

    def numbers(self, name: str, count: int, start: int = 0) -> Path:
        """A file of records that differ, some of them with unusual characters."""
        texts = ["", "tab\there", 'quote " and \\ backslash', "가나다", "'; --"]
        return self.file(
            name, [{"n": n, "a": texts[n % 5] + str(n)} for n in range(start, start + count)]
        )

    def arguments(self, *options: str, command: str = "migrate") -> list[str]:
        return [command, "--cloud", CLOUD, "--data", str(self.data), *options]

    def verify(self, *options: str) -> int:
        """Run `verify` in this process; returns the exit code."""
        return self.migrate(*options, command="verify")

    def migrate(self, *options: str, command: str = "migrate") -> int:
        """Run the command in this process; returns the exit code."""
        before, folder = dict(os.environ), Path.cwd()
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.work)
        try:
            return main(self.arguments(*options, command=command))
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)

    def start(
        self,
        *options: str,
        command: str = "migrate",
        prefix: Sequence[str] = (),
        **popen: Any,
    ) -> subprocess.Popen[str]:
        """Run the command in a process of its own; `prefix` is the program that runs it."""
        defaults: dict[str, Any] = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "env": self.environment,
        }
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "pgload", *self.arguments(*options, command=command)],
            cwd=self.work,
            text=True,
            **defaults | popen,
        )

    def output(self, name: str) -> Any:
        """The content of an output file."""
        text = (self.outputs / name).read_text("utf-8")
        return list(map(json.loads, text.splitlines())) if name.endswith("l") else json.loads(text)

    def committed(self, connection: Connection | None = None) -> int:
        """How many records are committed according to the ledger; 0 where there is no ledger."""
        if connection is None:
            with closing(self.connect()) as connection:
                return self.committed(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('pgload_ledger') IS NULL")
            if cursor.fetchall()[0][0]:
                return 0
            cursor.execute("SELECT coalesce(sum(records), 0) FROM pgload_ledger")
            return int(cursor.fetchall()[0][0])

    def check(self, *paths: Path, table: str = "t") -> None:
        """The table holds exactly the records of the files, each as often as in them."""
        with closing(self.connect()) as connection:
            fields = {field: None for path in paths for field in scan(path).fields}
            match = match_table(Table(table), fields, connection)
            assert match is not None
            expected = Fingerprint(0, 0)
            for path in paths:
                found = expected_fingerprint(match.table, read_batches(path, 500), connection)
                expected = Fingerprint(*(a + b for a, b in zip(expected, found, strict=True)))
            assert fingerprint(match.table, connection) == expected


@contextmanager
def make_sandbox(server: Target, work: Path, *, drop: bool = True) -> Iterator[MigrationSandbox]:
    """A new database with a table t, dropped at the end unless the server may be gone by then."""
    sandbox = MigrationSandbox(server, work)
    sandbox.data.mkdir(parents=True)
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        # Copying files is faster than writing them to the WAL.
        cursor.execute(f"CREATE DATABASE {sandbox.name} STRATEGY file_copy")
    try:
        sandbox.sql(DDL.format("t"))
        yield sandbox
    finally:
        if drop:
            with closing(server.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {sandbox.name} WITH (FORCE)")


def wait_while_running(process: subprocess.Popen[str], condition: Any) -> Any:
    """Wait until the condition is true; returns its value. Fails if the process ends before."""
    value: Any = None

    def ready() -> bool:
        nonlocal value
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        value = condition()
        return bool(value)

    wait_until(ready)
    return value


def wait_for_commits(
    sandbox: MigrationSandbox, process: subprocess.Popen[str], records: int
) -> bool:
    """Wait until so many records are committed; returns whether the process still runs."""

    def committed() -> bool:
        with suppress(psycopg2.Error, TargetError):  # while the server restarts
            return sandbox.committed() >= records
        return False

    wait_until(lambda: process.poll() is not None or committed(), 120)
    return process.poll() is None


def wait_for_lock(cursor: Cursor, process: subprocess.Popen[str]) -> int:
    """Wait until the migration waits for a lock; returns the process id of its backend."""

    def waiting() -> int | None:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE NOT granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1"
        )
        return next((int(pid) for (pid,) in cursor.fetchall()), None)

    return int(wait_while_running(process, waiting))


class Restarts:
    """Stops an embedded server's process and starts it again on the same data."""

    def __init__(self, target: Target) -> None:
        self._folder = Path(target.parameters["host"])
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Restarts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()

    def restart(self, how: signal.Signals) -> None:
        """SIGINT is a fast shutdown, SIGQUIT a crash; both cut all connections."""
        first_line = (self._folder / "data/postmaster.pid").read_text().split()[0]
        running = psutil.Process(int(first_line))
        command, user, group = running.cmdline(), running.uids().real, running.gids().real
        running.send_signal(how)
        if self._server is not None:
            self._server.wait()
        wait_until(lambda: not running.is_running() or running.status() == psutil.STATUS_ZOMBIE, 60)
        server = self._server = subprocess.Popen(
            command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **({"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}),
        )
        wait_until(lambda: server.poll() is not None or self._accepts_connections(), 60)

    def _accepts_connections(self) -> bool:
        try:
            psycopg2.connect(host=str(self._folder), user="postgres").close()
        except psycopg2.OperationalError:
            return False
        return True
