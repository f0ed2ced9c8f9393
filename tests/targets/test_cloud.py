"""A cloud is configured in `.env`, and what goes wrong on the way to it is said in one line."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.target import prepare
from pgload.errors import TargetError, TooManyConnectionsError, UsageError
from pgload.load.loader import Loader
from pgload.targets.cloud import cloud_target, default_cloud, environment
from pgload.targets.connection_errors import check_server
from pgload.targets.embedded import embedded
from pgload.targets.target import Target
from tests.support.loading import write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SECRET = "s3cret/wörd'"
GCP = {"GCP_DB_HOST": "h", "GCP_DB_NAME": "d", "GCP_DB_USER": "u", "GCP_DB_PASSWORD": SECRET}


def test_variables() -> None:
    """The contract's variables become connection parameters, with TLS unless told otherwise."""
    target = cloud_target("GCP", GCP)
    assert target.parameters == {
        "host": "h",
        "port": "5432",
        "dbname": "d",
        "user": "u",
        "password": SECRET,
        "sslmode": "require",
        "connect_timeout": 15,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60000,
    }
    more = {
        "GCP_DB_PORT": "6432",
        "GCP_DB_SSLMODE": "verify-full",
        "GCP_DB_SSLROOTCERT": "/ca.pem",
        "GCP_INSTANCE_TYPE": "db-custom-2-7680",
        "GCP_PRICE_PER_HOUR": "0.14",
    }
    target = cloud_target("GCP", GCP | more)
    assert target.parameters["port"] == "6432"
    assert target.parameters["sslmode"] == "verify-full"
    assert target.parameters["sslrootcert"] == "/ca.pem"
    assert (target.instance_type, target.price_per_hour) == ("db-custom-2-7680", 0.14)


def test_any_prefix_and_url() -> None:
    """Any prefix is a cloud; a URL does instead of single variables, which win over it."""
    url = "postgresql://neon%40tenant:p%2Fw@neon.example:6543/main?sslmode=verify-full"
    target = cloud_target("NEON", {"NEON_DATABASE_URL": url})
    assert target.parameters["user"] == "neon@tenant"
    assert target.parameters["password"] == "p/w"
    assert target.parameters["sslmode"] == "verify-full"
    other = cloud_target("NEON", {"NEON_DATABASE_URL": url, "NEON_DB_NAME": "other"})
    assert (other.parameters["dbname"], other.parameters["port"]) == ("other", "6543")


@pytest.mark.parametrize(
    "url",
    [
        f"{SECRET} {SECRET}",
        "postgresql://owner:p@hidden@127.0.0.1/owned",
        "postgresql://owner:12/hidden@127.0.0.1/owned",
        "postgresql://owner:hidden@127.0.0.1",
        "postgresql:///owned",
    ],
)
def test_url_of_no_form(url: str) -> None:
    """A URL that is none, or has unescaped signs in it, is an error that repeats none of it."""
    with pytest.raises(UsageError, match="NEON_DATABASE_URL is not of the form") as caught:
        cloud_target("NEON", {"NEON_DATABASE_URL": url})
    assert SECRET not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("password", ["S3\udcffCRET", "S3\0CRET"], ids=ascii)
def test_password_that_cannot_be_sent(tcp_server: dict[str, str], password: str) -> None:
    """A password that the driver refuses is an error of one line, without it."""
    with pytest.raises(TargetError, match="GCP: the driver cannot use what GCP") as caught:
        connect(tcp_server, PASSWORD=password)
    assert caught.value.__suppress_context__
    assert "CRET" not in str(caught.value)


def test_the_address_that_answered(tcp_server: dict[str, str]) -> None:
    """Of several addresses the one that decided is told about, not the first that failed."""
    with pytest.raises(TargetError, match="refuses the password"):
        connect(tcp_server, HOST="::1,127.0.0.1", PASSWORD="wrong-word")


def test_price_that_is_no_number() -> None:
    """A price has to be a number."""
    with pytest.raises(UsageError, match="GCP_PRICE_PER_HOUR is 'cheap': give a number"):
        cloud_target("GCP", GCP | {"GCP_PRICE_PER_HOUR": "cheap"})


def test_password_is_not_shown() -> None:
    """A target shown by a debugger or a traceback does not show its password."""
    assert SECRET not in repr(cloud_target("GCP", GCP))


def test_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real environment variables win over `.env`."""
    (tmp_path / ".env").write_text("GCP_DB_HOST=from-file\nGCP_DB_NAME=from-file\n")
    monkeypatch.setenv("GCP_DB_HOST", "from-environment")
    variables = environment(tmp_path)
    assert variables["GCP_DB_HOST"] == "from-environment"
    assert variables["GCP_DB_NAME"] == "from-file"


def test_default_cloud() -> None:
    """CLOUD_PROVIDER, then ENV, where that cloud is configured; otherwise EMBEDDED."""
    assert default_cloud({}) == "EMBEDDED"
    assert default_cloud({"CLOUD_PROVIDER": "gcp"}) == "EMBEDDED"
    assert default_cloud({"CLOUD_PROVIDER": "gcp"} | GCP) == "GCP"
    assert default_cloud({"ENV": "GCP"} | GCP) == "GCP"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[dict[str, str]]:
    """A server as clouds have it, on TCP and with passwords; as variables of the cloud GCP."""
    port = str(free_port())
    with embedded(listen_addresses="127.0.0.1", port=port, max_connections="16") as target:
        connection = target.connect()
        with connection.cursor() as cursor:
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
        connection.close()
        yield {
            "GCP_DB_HOST": "127.0.0.1",
            "GCP_DB_PORT": port,
            "GCP_DB_NAME": "owned",
            "GCP_DB_USER": "owner",
            "GCP_DB_PASSWORD": SECRET,
            "GCP_DB_SSLMODE": "disable",
        }


def connect(variables: dict[str, str], **changed: str) -> Connection:
    return cloud_target(
        "GCP", {**variables, **{f"GCP_DB_{k}": v for k, v in changed.items()}}
    ).connect()


def test_reachable(tcp_server: dict[str, str]) -> None:
    """The server of these tests is reached with the right variables, under our name."""
    connection = connect(tcp_server)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('application_name')")
        assert cursor.fetchone() == ("owner", "pgload")
    connection.close()


@pytest.mark.parametrize(
    ("changed", "says"),
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
            "GCP: the server refuses TLS, which GCP_DB_SSLMODE=require asks for",
        ),
        ({"NAME": "missing"}, "GCP: there is no database 'missing': check GCP_DB_NAME"),
        (
            {"USER": "nobody_else"},
            "GCP: the server does not admit user 'nobody_else' to database 'owned' from here",
        ),
    ],
)
def test_trouble(tcp_server: dict[str, str], changed: dict[str, str], says: str) -> None:
    """Each trouble is one line: what, which cloud, which variable to look at; no password."""
    with pytest.raises(TargetError) as caught:
        connect(tcp_server, **changed)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "wrong-word" not in str(caught.value)


def test_too_many_clients(tcp_server: dict[str, str]) -> None:
    """A server without connections left says how many it gave."""
    target = cloud_target("GCP", tcp_server)
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
def test_not_postgresql(tcp_server: dict[str, str], sslmode: str) -> None:
    """Something else that answers at the port is told from a server."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), WebServer) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        port = web.server_address[1]
        with pytest.raises(TargetError) as caught:
            connect(tcp_server, PORT=str(port), SSLMODE=sslmode)
        web.shutdown()
        thread.join()
    assert str(caught.value) == (
        f"GCP: what answers at 127.0.0.1:{port} is not PostgreSQL: check GCP_DB_PORT"
    )


@contextmanager
def presenting_itself_as(version: bytes, server: Target) -> Iterator[Target]:
    """A way to the server on which the version that it reports is another."""
    ours = f"{server.parameters['host']}/.s.PGSQL.5432"
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def serve() -> None:
            near = stack.enter_context(listener.accept()[0])
            far = stack.enter_context(socket.socket(socket.AF_UNIX))
            far.connect(ours)

            def forward() -> None:
                with suppress(OSError):
                    while data := near.recv(65536):
                        far.sendall(data)
                    far.shutdown(socket.SHUT_WR)

            threading.Thread(target=forward, daemon=True).start()
            while data := far.recv(65536):
                near.sendall(data.replace(b"server_version\x0018.4\x00", version))

        thread = threading.Thread(target=serve)
        thread.start()
        address = {"host": "127.0.0.1", "port": listener.getsockname()[1], "sslmode": "disable"}
        yield Target("GCP", {**server.parameters, **address})
        thread.join()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten records."""
    write_json(tmp_path / "numbers.json", [{"n": str(n)} for n in range(10)])
    return Dataset.read(tmp_path, schema="pgload_bench")


def test_too_old(server: Target, dataset: Dataset) -> None:
    """A server older than PostgreSQL 13 is refused before anything is made on it."""
    with (
        presenting_itself_as(b"server_version\x0012.4\x00", server) as target,
        pytest.raises(TargetError, match="GCP: the server is PostgreSQL 12; pgload needs 13"),
        prepare(target, dataset),
    ):
        pass


def test_other_product() -> None:
    """A server that speaks the protocol but is another product is named."""
    with pytest.raises(TargetError, match=r"the server is 'CockroachDB CCL v25\.1', not Post"):
        check_server("GCP", 130000, "CockroachDB CCL v25.1 on x86_64")


def test_plain_owner(tcp_server: dict[str, str], dataset: Dataset) -> None:
    """A role that owns its database and may nothing else can measure, without CHECKPOINT."""
    with prepare(cloud_target("GCP", tcp_server), dataset) as site:
        site.reset()
        assert not site.may_checkpoint
        with Loader(site.target.connect, "copy") as loader:
            loader.run(dataset.batches(3))
        site.verify()
        assert 0 < site.rtt().p50 <= site.rtt().p99
        assert site.wal_position() > 0


def test_may_not_make_a_schema(tcp_server: dict[str, str], dataset: Dataset) -> None:
    """A role that may not make a schema is told which grant it needs."""
    guest = cloud_target("GCP", tcp_server | {"GCP_DB_USER": "guest"})
    with (
        pytest.raises(TargetError, match="user 'guest' lacks a right: permission denied"),
        prepare(guest, dataset),
    ):
        pass


def test_second_benchmark(server: Target, dataset: Dataset) -> None:
    """While a benchmark holds the schema, another one in the same database is turned away."""
    with (
        prepare(server, dataset),
        pytest.raises(TargetError, match="another benchmark is running in this database"),
        prepare(server, dataset),
    ):
        pass
