"""A program in a network of its own, which can be cut off so that packets vanish.

    python -m tests.support.network SERVER PORT COMMAND...

runs the command in a network namespace where 127.0.0.1:PORT leads to the server, a Unix socket.
Its standard input takes the words `down` and `up`. While the network is down nothing that is sent
arrives, and neither end is informed: a connection looks as if the other end were silent.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from threading import Thread

from tests.support.forwarding import forward_all

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TIMEOUT = 2000  # ms, after which this end gives up a connection


def in_network(server: str, port: int) -> list[str]:
    """What to put in front of a command, to run it there."""
    # An ordinary user needs a user namespace for it; root would lose its rights in one.
    options = ["--net"] if os.geteuid() == 0 else ["--net", "--map-root-user"]
    return ["unshare", *options, sys.executable, "-m", __name__, server, str(port)]


def _switch(up: bool) -> None:
    """Take the loopback interface up or down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh", b"lo", 0)
        _, flags = struct.unpack("16sh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)[:18])
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags))


def _obey() -> None:
    for line in sys.stdin:
        _switch(line.strip() == "up")


def _main(server: str, port: str, *command: str) -> int:
    _switch(up=True)
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        # What is accepted inherits this.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TIMEOUT)
        Thread(target=forward_all, args=(listener, lambda: server), daemon=True).start()
        Thread(target=_obey, daemon=True).start()
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
