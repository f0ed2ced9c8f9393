"""A failed connection is reported in one line: the fault, the variable to check, what to do."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

import pgload.targets.embedded
from pgload.errors import RefusedLoginError, TargetError, TooManyConnectionsError
from pgload.load.loader import Loader
from pgload.targets.cloud import cloud_target
from pgload.targets.connection_errors import check_server, sqlstate_of_refusal
from pgload.targets.target import Target
from tests.support.servers import (
    SECRET,
    certificate,
    debian_server,
    tcp_server,
    tls_server,
)
from tests.support.waiting import wait_until

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
        ({"NAME": "certificates"}, "GCP: there is no database 'certificates': check GCP_DB_NAME"),
        (
            {"USER": "nobody_else"},
            "GCP: the server does not admit user 'nobody_else' to database 'owned' from here",
        ),
        (
            {"CONNECT_TIMEOUT": "5s"},
            'GCP: invalid integer value "5s" for connection option "connect_timeout": check '
            "GCP_DB_CONNECT_TIMEOUT",
        ),
        ({"SSLMODE": "on"}, 'GCP: invalid sslmode value: "on": check GCP_DB_SSLMODE'),
        (
            {"PORT": "1,2,3"},
            "GCP: could not match 3 port numbers to 1 hosts: check GCP_DB_PORT and GCP_DB_HOST",
        ),
        (
            {"OPTIONS": "-c work_mem=x"},
            'GCP: FATAL: invalid value for parameter "work_mem": "x": check GCP_DB_OPTIONS',
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


def test_variable_that_was_set(variables: dict[str, str]) -> None:
    """The advice names the variable that holds what is wrong, here a URL."""
    port = variables["GCP_DB_PORT"]
    url = f"postgresql://owner:wrong-word@127.0.0.1:{port}/owned?sslmode=disable"
    for more, advice in (
        ({}, "check OWN_DATABASE_URL$"),
        ({"OWN_DB_USER": "guest"}, "check OWN_DB_USER and OWN_DATABASE_URL$"),
        ({"OWN_DB_PASSWORD": "also wrong"}, "check OWN_DATABASE_URL and OWN_DB_PASSWORD$"),
    ):
        with pytest.raises(RefusedLoginError, match=advice):
            cloud_target("OWN", {"OWN_DATABASE_URL": url} | more).connect()
    with pytest.raises(TargetError, match="check OWN_DATABASE_URL, and that the server runs"):
        cloud_target("OWN", {"OWN_DATABASE_URL": url.replace(port, "1")}).connect()


def test_password_that_libpq_finds(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password that no variable of the cloud holds is reported with its place."""
    path = tmp_path / "pgpass"
    path.write_text("*:*:*:*:wrong-word\n")
    path.chmod(0o600)
    with pytest.raises(RefusedLoginError, match=f"'owner' in {path}: check GCP_DB_USER and that"):
        connect(variables, PASSWORD="", PASSFILE=str(path))
    monkeypatch.setenv("PGPASSWORD", "wrong-word")
    with pytest.raises(RefusedLoginError, match=r"check GCP_DB_USER and PGPASSWORD$"):
        connect(variables, PASSWORD="")


def test_refusals_are_known(variables: dict[str, str]) -> None:
    """What another attempt cannot change is told from what it may."""
    for changed in ({"PASSWORD": "wrong-word"}, {"NAME": "missing"}, {"SSLMODE": "require"}):
        with pytest.raises(RefusedLoginError):
            connect(variables, **changed)
    for changed in ({"PORT": "1"}, {"HOST": "no-such-host.invalid"}):
        with pytest.raises(TargetError) as caught:
            connect(variables, **changed)
        assert not isinstance(caught.value, RefusedLoginError)


def test_several_addresses(variables: dict[str, str]) -> None:
    """Of several addresses the error is the last one's, not that of the first that failed."""
    with pytest.raises(TargetError, match="refuses the password"):
        connect(variables, HOST="::1,127.0.0.1", PASSWORD="wrong-word")


@pytest.mark.parametrize("password", ["S3\udcffCRET", "S3\0CRET"], ids=ascii)
def test_password_that_cannot_be_sent(variables: dict[str, str], password: str) -> None:
    """A password that the driver refuses is an error of one line, without it."""
    with pytest.raises(
        TargetError, match=r"^GCP: the driver cannot use what is set .* GCP_"
    ) as caught:
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


def test_sqlstate_of_refusal(server: Target) -> None:
    """The SQLSTATE of a refusal is known whatever language the server speaks."""
    found = sqlstate_of_refusal
    assert found(server.parameters) is None
    assert found({**server.parameters, "dbname": "missing"}) == "3D000"
    assert found({**server.parameters, "user": "ghost"}) == "28000"
    assert found({**server.parameters, "host": "/nowhere"}) is None
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
        assert found({**server.parameters, "user": "limited", "dbname": "postgres"}) == "53300"
        cursor.execute("DROP ROLE limited")


def test_role_that_may_not_log_in(server: Target) -> None:
    """A role without LOGIN is told from a host that is not admitted."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE barred")
        target = Target("GCP", {**server.parameters, "user": "barred"})
        with pytest.raises(RefusedLoginError, match=r"^GCP: user 'barred' may not log in: check"):
            target.connect()
        cursor.execute("DROP ROLE barred")


def test_server_in_another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that speaks German is understood as well."""
    monkeypatch.setenv("LANGUAGE", "de")
    inherited = (*pgload.targets.embedded.INHERITED, "LANGUAGE")
    monkeypatch.setattr(pgload.targets.embedded, "INHERITED", inherited)
    with debian_server() as target:

        def language() -> str:
            with closing(target.connect()) as connection, connection.cursor() as cursor:
                cursor.execute("SHOW lc_messages")
                return str(cursor.fetchall()[0][0])

        with closing(target.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
            cursor.execute("ALTER SYSTEM SET lc_messages = 'C.UTF-8'")
            cursor.execute("SELECT pg_reload_conf()")
        wait_until(lambda: language() == "C.UTF-8")
        limited = {**target.parameters, "user": "limited", "dbname": "postgres"}
        with pytest.raises(psycopg2.OperationalError) as said:
            psycopg2.connect(**limited)
        if "zu viele Verbindungen" not in str(said.value):
            pytest.skip("the server's German is not installed")
        with pytest.raises(
            TooManyConnectionsError,
            match=r"no connection left .*: FATAL: zu viele Verb",
        ):
            Target("GCP", limited).connect()
        with pytest.raises(RefusedLoginError, match="there is no database 'missing'"):
            Target("GCP", {**target.parameters, "dbname": "missing"}).connect()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates and keys."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def tls(certificates: Path) -> Iterator[dict[str, str]]:
    """A server that requires owner's certificate, and guest's password, as the cloud GCP."""
    with tls_server(certificates) as variables:
        certificate(certificates, "stranger")
        certificate(certificates, "guest", "authority")
        yield variables


def test_client_certificate(tls: dict[str, str], certificates: Path) -> None:
    """A certificate takes the password's place; the server's own is checked as well."""
    own = {"SSLCERT": f"{certificates}/owner.pem", "SSLKEY": f"{certificates}/owner.key"}
    full = {"SSLMODE": "verify-full", "SSLROOTCERT": f"{certificates}/authority.pem"}
    with closing(connect(tls, **own, **full)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT session_user, ssl, client_dn FROM pg_stat_ssl WHERE pid = %s",
            (connection.info.backend_pid,),
        )
        assert cursor.fetchone() == ("owner", True, "/CN=owner")


def test_channel_binding(tls: dict[str, str]) -> None:
    """A password can be bound to the TLS channel; keywords reach libpq as they are."""
    more = {
        "CHANNEL_BINDING": "require",
        "OPTIONS": "-c work_mem=5MB",
        "HOST": "a,b",
        "HOSTADDR": "127.0.0.2,127.0.0.1",
        "TARGET_SESSION_ATTRS": "read-write",
    }
    connection = connect(tls, USER="guest", PASSWORD=SECRET, **more)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SHOW work_mem")
        assert cursor.fetchone() == ("5MB",)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "the server requires a client certificate: set GCP_DB_SSLCERT and GCP_DB_SSLKEY to"),
        (
            {"SSLCERT": "stranger.pem", "SSLKEY": "stranger.key"},
            "the server does not accept the client certificate: check GCP_DB_SSLCERT, which",
        ),
        (
            {"SSLCERT": "guest.pem", "SSLKEY": "guest.key"},
            "the client certificate is not one for user 'owner': check GCP_DB_SSLCERT and ",
        ),
        (
            {"SSLCERT": "owner.pem", "SSLKEY": "guest.key"},
            "the client certificate cannot be used: could not load private key file",
        ),
        (
            {"SSLCERT": "owner.pem", "SSLKEY": "nowhere.key"},
            "the client certificate cannot be used: certificate present, but not private key file",
        ),
        (
            {"SSLMODE": "verify-full", "SSLROOTCERT": "stranger.pem"},
            "the server's certificate does not pass sslmode=verify-full: check GCP_DB_SSLROOTCERT",
        ),
        (
            {"SSLMODE": "verify-full", "SSLROOTCERT": "authority.pem", "HOST": "127.0.0.1"},
            "the server's certificate does not pass sslmode=verify-full: check GCP_DB_SSLROOTCERT "
            "and that GCP_DB_HOST is the name in the certificate",
        ),
        (
            {"SSLMODE": "verify-ca", "SSLROOTCERT": "nowhere.pem"},
            "there is no root certificate to check the server's with: set GCP_DB_SSLROOTCERT",
        ),
        (
            {"USER": "guest"},
            "the server asks for a password of user 'guest', and there is none: set GCP_DB_PASS",
        ),
        (
            {"USER": "guest", "PASSWORD": SECRET, "REQUIRE_AUTH": "gss"},
            'authentication method requirement "gss" failed: server requested SASL authentication: '
            "check GCP_DB_REQUIRE_AUTH",
        ),
    ],
)
def test_certificates_that_are_refused(
    tls: dict[str, str], certificates: Path, changed: dict[str, str], message: str
) -> None:
    """What is wrong with the client's certificate is told from what is wrong with the server's."""
    paths = (".pem", ".key")
    given = {k: f"{certificates}/{v}" if v.endswith(paths) else v for k, v in changed.items()}
    with pytest.raises(RefusedLoginError) as caught:
        connect(tls, **given)
    assert str(caught.value).startswith(f"GCP: {message}")


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
