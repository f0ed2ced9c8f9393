"""A beat that advances shows that a process is alive; one that does not, that it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgload.errors import TargetError
from pgload.load import heartbeat
from pgload.load.heartbeat import Heartbeat, watch
from pgload.targets.target import Target
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty beats in a second."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)


def beats(connection: Connection, schema: str) -> dict[str, int]:
    """The beats by key."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT key, beat FROM {schema}.beats")
        return dict(cursor.fetchall())


def test_alive_and_dead(server: Target, connection: Connection, schema: str) -> None:
    """Who beats is seen, and who has ended is not; the last statement is the end of it."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {schema}.beats (key text, beat int)")
        cursor.execute(f"INSERT INTO {schema}.beats VALUES ('alive', 0), ('dead', 0)")
    advance = f"UPDATE {schema}.beats SET beat = beat + 1 WHERE key = 'alive'".encode()
    one = Heartbeat(server.connect, advance)
    assert watch(lambda: beats(connection, schema)) == {"alive"}
    one.close(f"DELETE FROM {schema}.beats WHERE key = 'alive'".encode())
    assert watch(lambda: beats(connection, schema)) == set()
    assert beats(connection, schema) == {"dead": 0}


def test_nothing_to_watch() -> None:
    """Without any beat there is nothing to wait for."""
    reads: list[None] = []
    assert watch(lambda: reads.append(None) or {}) == set()
    assert len(reads) == 1


def test_lost_connection(server: Target, connection: Connection, schema: str) -> None:
    """The beat continues over a new connection, as soon as there is one."""
    opened: list[Connection] = []

    def connect() -> Connection:
        if len(opened) == 1 and opened[0].closed:
            opened.append(opened[0])
            raise TargetError("GCP: the server does not answer")
        opened.append(server.connect())
        return opened[-1]

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SEQUENCE {schema}.beat")
        one = Heartbeat(connect, f"SELECT nextval('{schema}.beat')".encode())
        wait_until(lambda: bool(opened))
        cursor.execute("SELECT pg_terminate_backend(%s)", (opened[0].info.backend_pid,))
        wait_until(lambda: len(opened) == 3)
        cursor.execute(f"SELECT last_value FROM {schema}.beat")
        ((before,),) = cursor.fetchall()

        def advanced() -> bool:
            cursor.execute(f"SELECT last_value > {before} FROM {schema}.beat")
            return bool(cursor.fetchall()[0][0])

        wait_until(advanced)
    one.close()
    assert opened[-1].closed
