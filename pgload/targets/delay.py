"""A distance on loopback: connections to a server through a process that holds bytes back.

The process is another one than the client's, so that its work does not count as the client's, and
listens on a Unix socket in a private directory. Bandwidth is not limited, only time: each
direction delays what it reads by half the round-trip time and keeps its order.
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
IN_FLIGHT_BYTES = 64 << 20  # per direction; more waits in the sender, as on a real link


@contextmanager
def delayed(target: Target, rtt_ms: float) -> Iterator[Target]:
    """The same target, `rtt_ms` milliseconds further away; 0 is no detour at all.

    Raises `TargetError` when the way cannot be set up.
    """
    known = {**target.known, "rtt_asked_ms": rtt_ms}
    if rtt_ms == 0:
        yield replace(target, known=known)
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
                raise TargetError(f"{target.cloud}: the delay of {rtt_ms} ms could not be set up")
            try:
                parameters = {**target.parameters, "host": folder, "port": 5432}
                yield replace(target, parameters=parameters, known=known)
            finally:
                process.stdin.close()


def _address(host: str, port: int) -> tuple[int, str | tuple[str, int]]:
    if host.startswith("/"):
        return socket.AF_UNIX, f"{host}/.s.PGSQL.{port}"
    return socket.AF_INET, (host, port)


def _serve(listener: socket.socket, host: str, port: int, one_way: float) -> None:
    family, address = _address(host, port)
    while True:
        near, _ = listener.accept()
        far = socket.socket(family)
        try:
            far.connect(address)
        except OSError:
            near.close()
            continue
        if family == socket.AF_INET:
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((near, far), (far, near)):
            line = _Line(source, sink, one_way)
            for part in (line.read, line.write):
                threading.Thread(target=part, daemon=True).start()


class _Line:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, one_way: float) -> None:
        self._source, self._sink, self._one_way = source, sink, one_way
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def read(self) -> None:
        """Take what comes, with the time at which it is due at the other end."""
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
        """Pass each chunk on when it is due; an empty one is the end."""
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
        self._end()

    def _end(self) -> None:
        # The other direction may still have something to say.
        with suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)


def _main(folder: str, host: str, port: str, one_way: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{SOCKET}")
        listener.listen(128)
        arguments = (listener, host, int(port), float(one_way))
        threading.Thread(target=_serve, args=arguments, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.buffer.read()
        shutil.rmtree(folder, ignore_errors=True)  # where the parent was killed


if __name__ == "__main__":
    _main(*sys.argv[1:])
