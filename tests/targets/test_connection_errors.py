"""A failed connection is reported in one line: the fault, the variable to check, what to do."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pgload.errors import TargetError, TooManyConnectionsError
from pgload.load.loader import Loader
from pgload.targets.cloud import cloud_target
from pgload.targets.connection_errors import check_server
from pgload.targets.target import Target
from tests.support.servers import SECRET, tcp_server

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """A server on TCP with passwords, as variables of the cloud GCP."""
    with tcp_server() as variables:
        yield variables


def connect(variables: dict[str, str], **changed: str) -> Connection:
    changes = {f"GCP_DB_{name}": value for name, value in changed.items()}
    return cloud_target("GCP", variables | changes).connect()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"PASSWORD": "wrong-word"},
            "GCP: the server refuses the password of user 'owner': check GCP_DB_USER and "
            "GCP_DB_PASSWORD",
        ),
        (
            {"USER": "ghost"},
            "GCP: the server refuses the password of user 'ghost': check GCP_DB_USER",
        ),
        (
            {"HOST": "no-such-host.invalid"},
            "GCP: the host 'no-such-host.invalid' is unknown: check GCP_DB_HOST",
        ),
        (
            {"PORT": "1"},
            "GCP: nothing listens at 127.0.0.1:1: check GCP_DB_HOST and GCP_DB_PORT",
        ),
        (
            {"SSLMODE": "require"},
            "GCP: the server refuses TLS, which GCP_DB_SSLMODE=require requires",
        ),
        ({"NAME": "missing"}, "GCP: there is no database 'missing': check GCP_DB_NAME"),
        (
            {"USER": "nobody_else"},
            "GCP: the server does not admit user 'nobody_else' to database 'owned' from here",
        ),
    ],
)
def test_failed_connection(
    variables: dict[str, str], changed: dict[str, str], message: str
) -> None:
    """A failed connection is one line with the cloud and the variable to check, no password."""
    with pytest.raises(TargetError) as caught:
        connect(variables, **changed)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "wrong-word" not in str(caught.value)


def test_several_addresses(variables: dict[str, str]) -> None:
    """Of several addresses the error is the last one's, not that of the first that failed."""
    with pytest.raises(TargetError, match="refuses the password"):
        connect(variables, HOST="::1,127.0.0.1", PASSWORD="wrong-word")


@pytest.mark.parametrize("password", ["S3\udcffCRET", "S3\0CRET"], ids=ascii)
def test_password_that_cannot_be_sent(variables: dict[str, str], password: str) -> None:
    """A password that the driver refuses is an error of one line, without it."""
    with pytest.raises(TargetError, match=r"^GCP: the driver cannot use the values") as caught:
        connect(variables, PASSWORD=password)
    assert caught.value.__suppress_context__
    assert "CRET" not in str(caught.value)


def test_too_many_clients(variables: dict[str, str]) -> None:
    """A server without connections left is an error with the number that it gave."""
    target = cloud_target("GCP", variables)
    with (
        pytest.raises(TooManyConnectionsError, match=r"it gave 1\d of 40 connections"),
        Loader(target.connect, "copy", connections=40),
    ):
        pass


class WebServer(socketserver.BaseRequestHandler):
    """Answers what it does not understand as web servers do."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_not_postgresql(variables: dict[str, str], sslmode: str) -> None:
    """Another server at the port is recognised as such."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), WebServer) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        port = web.server_address[1]
        with pytest.raises(TargetError) as caught:
            connect(variables, PORT=str(port), SSLMODE=sslmode)
        web.shutdown()
        thread.join()
    assert str(caught.value) == (
        f"GCP: the server at 127.0.0.1:{port} is not PostgreSQL: check GCP_DB_PORT"
    )


def test_supported_server() -> None:
    """PostgreSQL 13 and newer are supported; older versions are an error."""
    check_server(Target("GCP", {}), 130000, "PostgreSQL 13.0 on x86_64-pc-linux-gnu")
    with pytest.raises(TargetError, match="GCP: the server is PostgreSQL 12; pgload needs 13"):
        check_server(Target("GCP", {}), 120022, "PostgreSQL 12.22")


def test_other_product() -> None:
    """A server that speaks the protocol but is another product is named."""
    with pytest.raises(TargetError, match=r"the server is 'CockroachDB CCL v25\.1', not Post"):
        check_server(Target("GCP", {}), 130000, "CockroachDB CCL v25.1 on x86_64")
