"""Simulated latency delays in both directions and changes nothing else."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

from pgload.errors import TargetError
from pgload.targets.delay import delayed
from pgload.targets.target import Target
from tests.support.loading import round_trip
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.mark.parametrize("rtt_ms", [5, 40])
def test_round_trip(server: Target, connection: Connection, rtt_ms: float) -> None:
    """A round trip takes longer by the latency asked for, which is in the target's facts."""
    with delayed(server, rtt_ms) as target:
        assert target.facts["rtt_asked_ms"] == rtt_ms
        far = target.connect()
        seconds = round_trip(far)
        far.close()
    assert seconds >= rtt_ms / 1000
    assert seconds < 2 * rtt_ms / 1000 + 10 * round_trip(connection) + 0.01


def test_no_delay(server: Target) -> None:
    """With 0 ms there is no proxy, which would cost time."""
    with delayed(server, 0) as target:
        assert target.parameters == server.parameters
        assert target.facts["rtt_asked_ms"] == 0


def test_bytes(server: Target) -> None:
    """Bytes arrive unchanged, in both directions and over many connections."""
    with delayed(server, 2) as target:

        def echo(n: int) -> bool:
            sent = "".join(map(str, range(n, 200_000 + n)))  # more than fits into one piece
            connection = target.connect()
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s, md5(%s)", (sent, sent))
                got, md5 = cursor.fetchone()
                cursor.execute("SELECT md5(%s)", (got,))
                same = cursor.fetchone()[0] == md5
            connection.close()
            return same and got == sent

        with ThreadPoolExecutor(12) as threads:
            assert all(threads.map(echo, range(12)))


def test_requests_overlap(server: Target) -> None:
    """Connections are delayed at the same time: ten take about as long as one."""
    with delayed(server, 40) as target, ThreadPoolExecutor(10) as threads:
        connections = list(threads.map(lambda _: target.connect(), range(10)))
        start = time.perf_counter()
        list(threads.map(round_trip, connections))
        together = time.perf_counter() - start
        start = time.perf_counter()
        round_trip(connections[0])
        alone = time.perf_counter() - start
        for connection in connections:
            connection.close()
    assert together < 2 * alone


def test_end_of_a_connection(server: Target, connection: Connection) -> None:
    """A connection that is closed or cut on one side ends on the other."""
    with delayed(server, 2) as target:
        far = target.connect()
        pid = far.info.backend_pid
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
            assert cursor.fetchone() == (True,)
        with far.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
        far.close()
        other = target.connect()
        pid = other.info.backend_pid
        other.close()
        with connection.cursor() as cursor:

            def gone() -> bool:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (pid,))
                return cursor.fetchone() == (0,)

            wait_until(gone)


def test_long_directory(server: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory in which no socket can be made is an error, not a wait."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(TargetError, match=r"--rtt 5 did not start in .*: set TMPDIR=/tmp"):
        delayed(server, 5).__enter__()
