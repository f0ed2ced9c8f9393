"""Forwards TCP connections to a server's Unix socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread


def forward_all(listener: socket.socket, server: Callable[[], str]) -> None:
    """Connect every client to the Unix socket that `server` names then, until it is shut down."""
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            Thread(target=_forward_both, args=(client, server()), daemon=True).start()


def _forward_both(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
        server.connect(path)
        answers = Thread(target=_forward, args=(server, client), daemon=True)
        answers.start()
        _forward(client, server)
        answers.join()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            sink.sendall(chunk)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
