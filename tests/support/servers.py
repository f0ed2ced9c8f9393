"""Embedded servers for tests, which share one run of initdb."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from pgload.targets.embedded import embedded as start_embedded
from pgload.targets.target import Target


def embedded(**settings: str) -> AbstractContextManager[Target]:
    """As `pgload.targets.embedded.embedded`, with the tests' cluster; see tests/conftest.py."""
    return start_embedded(Path(os.environ["EMBEDDED_CACHE"]), **settings)


SECRET = "s3cret/wörd'"  # with characters that a URL and SQL have to quote


@contextmanager
def tcp_server() -> Iterator[dict[str, str]]:
    """A server as clouds have it, on TCP and with passwords; as variables of the cloud GCP.

    Its roles are `owner`, who owns the database `owned` and has no other privilege, and `guest`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with embedded(listen_addresses="127.0.0.1", port=port, max_connections="16") as target:
        with closing(target.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE ROLE owner LOGIN PASSWORD %s", (SECRET,))
            cursor.execute("CREATE DATABASE owned OWNER owner")
            cursor.execute("CREATE ROLE guest LOGIN PASSWORD %s", (SECRET,))
            cursor.execute("SHOW hba_file")
            hba_file = cursor.fetchone()[0]
            rules = [
                "local all all trust",
                "host owned,postgres,missing owner,guest,ghost all scram-sha-256",
            ]
            cursor.execute("COPY (SELECT unnest(%s)) TO %s", (rules, hba_file))
            cursor.execute("SELECT pg_reload_conf()")
        yield {
            "GCP_DB_HOST": "127.0.0.1",
            "GCP_DB_PORT": port,
            "GCP_DB_NAME": "owned",
            "GCP_DB_USER": "owner",
            "GCP_DB_PASSWORD": SECRET,
            "GCP_DB_SSLMODE": "disable",
        }
