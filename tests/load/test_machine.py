"""Processor times of this machine's processes, absent where the system does not have them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.load import machine
from pgload.load.machine import ProcessTime, Reading, read, usage
from pgload.targets.delay import delayed
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")


@linux
@pytest.mark.parametrize("schedstat", [True, False])
def test_backend_at_work(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, schedstat: bool
) -> None:
    """A backend's CPU time is that of its process, with and without the kernel's schedstat."""
    if not schedstat:
        monkeypatch.setattr(
            machine,
            "_process_time",
            lambda folder: ProcessTime(machine._cpu(machine._stat(folder))),
        )
    pid = connection.info.backend_pid
    before = read([pid], server_here=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(md5(n::text)) FROM generate_series(1, 500000) n")
    after = read([pid], server_here=True)
    found = usage(before, after, server_here=True)
    assert found.backends is not None
    assert 0.05 < found.backends.cpu <= after.at - before.at + 0.02
    assert after.server - before.server >= found.backends.cpu - 0.02
    assert found.client.cpu < found.backends.cpu
    assert 0 <= found.others <= 1


@linux
def test_other_processes() -> None:
    """Their share is what neither the client nor the server used."""
    reading = Reading(at=0.0, client=ProcessTime(1.0), server=1.0, machine=10.0)
    later = Reading(at=2.0, client=ProcessTime(1.5), server=1.5, machine=12.0)
    processors = os.cpu_count() or 1
    assert usage(reading, later, server_here=True).others == pytest.approx(1 / (2 * processors))
    code = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = read([], server_here=False)
        time.sleep(0.5)
        share = usage(before, read([], server_here=False), server_here=False).others
        other.kill()
    assert share > 0.5 / processors


@linux
def test_client_that_waits_for_a_processor() -> None:
    """The client's delay is that of all its threads."""
    stopped = threading.Event()
    thread = threading.Thread(target=stopped.wait)
    thread.start()
    before = read([], server_here=False)
    after = read([], server_here=False)
    stopped.set()
    thread.join()
    found = usage(before, after, server_here=False)
    assert found.backends is None
    assert found.client.delay >= 0


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Target) -> None:
    """Without /proc the server is not seen to be here, and other processes are not reported."""
    monkeypatch.setattr(machine, "PROC", tmp_path)
    connection = server.connect()
    assert not machine.runs_here(connection)
    connection.close()
    found = usage(read([1], server_here=True), read([1], server_here=True), server_here=True)
    assert found.others == 0
    assert found.backends == ProcessTime()


def test_direct_connection(server: Target, connection: Connection) -> None:
    """A connection through a proxy is not direct, although its server runs on this machine."""
    port = int(server.parameters["port"])
    assert machine.is_direct(connection, port)
    with delayed(server, 1) as far:
        through_proxy = far.connect()
        assert not machine.is_direct(through_proxy, port)
        through_proxy.close()
