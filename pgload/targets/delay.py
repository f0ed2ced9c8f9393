"""Simulated latency: a proxy in front of a server that delays what it forwards.

The proxy is a process of its own, so that its CPU time does not count as the client's, and listens
on a Unix socket in a private directory. Each direction delays what it reads by half the round-trip
time and keeps its order; bandwidth is not limited.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pgload.errors import TargetError
from pgload.targets.target import Target

SOCKET = ".s.PGSQL.5432"  # the name that libpq looks for in a directory
CHUNK_BYTES = 256 << 10
IN_FLIGHT_BYTES = 64 << 20  # per direction; the sender waits with more, as on a real link


@contextmanager
def delayed(target: Target, rtt_ms: float) -> Iterator[Target]:
    """The same target with `rtt_ms` milliseconds added to each round trip; with 0, no proxy.

    Raises `TargetError` when the proxy cannot be started.
    """
    facts = {**target.facts, "rtt_asked_ms": rtt_ms}
    if rtt_ms == 0:
        yield replace(target, facts=facts)
        return
    host, port = str(target.parameters["host"]), int(target.parameters.get("port", 5432))
    with tempfile.TemporaryDirectory(prefix="pgload-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", __name__, folder, host, str(port), str(rtt_ms / 2000)]
        package_root = str(Path(__file__).parents[2])
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end is the signal to stop, however this process ends
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": package_root},
            start_new_session=True,  # Ctrl-C is for this process
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise TargetError(
                    f"{target.cloud}: the proxy for --rtt {rtt_ms:g} did not start in {folder}: "
                    "set TMPDIR=/tmp if that path is too long for a Unix socket"
                )
            try:
                parameters = {**target.parameters, "host": folder, "port": 5432}
                yield replace(target, parameters=parameters, facts=facts)
            finally:
                process.stdin.close()


def _address(host: str, port: int) -> tuple[int, str | tuple[str, int]]:
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host, port)


def _serve(listener: socket.socket, host: str, port: int, one_way: float) -> None:
    """Connect every client to the server, with `one_way` seconds of delay in each direction."""
    family, address = _address(host, port)
    while True:
        client, _ = listener.accept()
        server = socket.socket(family)
        try:
            server.connect(address)
        except OSError:
            client.close()
            continue
        if family == socket.AF_INET:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((client, server), (server, client)):
            direction = _Direction(source, sink, one_way)
            for work in (direction.read, direction.write):
                threading.Thread(target=work, daemon=True).start()


class _Direction:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, one_way: float) -> None:
        self._source, self._sink, self._one_way = source, sink, one_way
        self._chunks: deque[tuple[float, bytes]] = deque()  # when it is due, and what
        self._bytes = 0
        self._changed = threading.Condition()

    def read(self) -> None:
        """Queue what arrives, with the time at which it is due at the other end."""
        chunk = b"."
        while chunk:
            try:
                chunk = self._source.recv(CHUNK_BYTES)
            except OSError:
                chunk = b""
            due = time.monotonic() + self._one_way
            with self._changed:
                self._changed.wait_for(lambda: self._bytes < IN_FLIGHT_BYTES)
                self._chunks.append((due, chunk))
                self._bytes += len(chunk)
                self._changed.notify_all()

    def write(self) -> None:
        """Send each chunk when it is due; an empty one is the end of the stream."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._chunks))
                due, chunk = self._chunks.popleft()
                self._bytes -= len(chunk)
                self._changed.notify_all()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not chunk:
                    break
                self._sink.sendall(chunk)
            except OSError:
                break
        with suppress(OSError):  # the other direction may still be in use
            self._sink.shutdown(socket.SHUT_WR)


def _main(folder: str, host: str, port: str, one_way: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(f"{folder}/{SOCKET}")
        except OSError as error:
            sys.exit(f"pgload: {error}")
        listener.listen(128)
        arguments = (listener, host, int(port), float(one_way))
        threading.Thread(target=_serve, args=arguments, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.buffer.read()
        shutil.rmtree(folder, ignore_errors=True)  # in case the parent was killed


if __name__ == "__main__":
    _main(*sys.argv[1:])
