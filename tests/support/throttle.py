"""A proxy in front of a server whose link carries a number of bytes per second, for tests.

It is a process of its own, so that its CPU time does not count as the client's.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pgload.targets.target import Target

SOCKET = ".s.PGSQL.5432"  # the name that libpq looks for in a directory
CHUNK_BYTES = 64 << 10


@contextmanager
def throttled(target: Target, bytes_per_second: float) -> Iterator[Target]:
    """The same target, to which all connections together send so many bytes per second."""
    server = f"{target.parameters['host']}/.s.PGSQL.{target.parameters['port']}"
    with tempfile.TemporaryDirectory(prefix="pgload-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", __name__, folder, server, str(bytes_per_second)]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end is the signal to stop
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                yield replace(target, parameters={**target.parameters, "host": folder})
            finally:
                process.stdin.close()


def _forward(
    source: socket.socket, sink: socket.socket, link: threading.Lock, seconds_per_byte: float
) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            with link:
                time.sleep(len(chunk) * seconds_per_byte)
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _serve(listener: socket.socket, path: str, seconds_per_byte: float) -> None:
    upwards = threading.Lock()
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        server = socket.socket(socket.AF_UNIX)
        server.connect(path)
        up = (client, server, upwards, seconds_per_byte)
        down = (server, client, threading.Lock(), 0.0)
        for arguments in (up, down):
            threading.Thread(target=_forward, args=arguments, daemon=True).start()


def _main(folder: str, path: str, bytes_per_second: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{SOCKET}")
        listener.listen(128)
        arguments = (listener, path, 1 / float(bytes_per_second))
        threading.Thread(target=_serve, args=arguments, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
