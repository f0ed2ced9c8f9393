"""Embedded servers for tests, which share one run of initdb."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

import pgload.targets.embedded
from pgload.targets.embedded import embedded as start_embedded
from pgload.targets.target import Target


def embedded(**settings: str) -> AbstractContextManager[Target]:
    """As `pgload.targets.embedded.embedded`, with the tests' cluster; see tests/conftest.py."""
    return start_embedded(Path(os.environ["EMBEDDED_CACHE"]), **settings)


SECRET = "s3cret/wörd'"  # with characters that a URL and SQL have to quote


# Gives owner another password at each call, adds it to a file, and prints it.
ROTATE = """
import secrets, sys, psycopg2
folder, port, log = sys.argv[1:]
connection = psycopg2.connect(host=folder, port=port, user="postgres")
connection.autocommit = True
password = secrets.token_hex(16)
connection.cursor().execute("ALTER ROLE owner PASSWORD %s", (password,))
print(password, file=open(log, "a"))
print("not for the terminal:", password, file=sys.stderr)
print(password)
"""


def rotating_command(admin: Target, log: Path) -> str:
    """A password command that gives owner another password at each call, and adds it to `log`."""
    script, server = log.with_name("rotate.py"), admin.parameters
    script.write_text(ROTATE)
    return shlex.join([sys.executable, str(script), server["host"], server["port"], str(log)])


def set_password(admin: Target, password: str) -> None:
    """Give owner another password."""
    with closing(admin.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER ROLE owner PASSWORD %s", (password,))


def unused_port() -> str:
    """A TCP port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def password_server() -> Iterator[tuple[Target, dict[str, str]]]:
    """A server as clouds have it, on TCP and with passwords: for its superuser, and as variables.

    The variables are of the cloud GCP. The roles are `owner`, who owns the database `owned` and has
    no other privilege, and `guest`.
    """
    port = unused_port()
    settings = {"listen_addresses": "127.0.0.1", "port": port, "max_connections": "16"}
    with embedded(**settings, log_connections="on") as target:
        databases = "owned,postgres,missing,certificates"
        set_up(target, f"host {databases} owner,guest,ghost all scram-sha-256")
        more = {"GCP_DB_PASSWORD": SECRET, "GCP_DB_SSLMODE": "disable"}
        yield target, variables_of(port) | more


@contextmanager
def tcp_server() -> Iterator[dict[str, str]]:
    """As `password_server`, without its superuser."""
    with password_server() as (_, variables):
        yield variables


def set_up(target: Target, *rules: str, **settings: str) -> None:
    """Make the roles and their database; `rules` are lines of pg_hba.conf."""
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE owner LOGIN PASSWORD %s", (SECRET,))
        cursor.execute("CREATE DATABASE owned OWNER owner")
        cursor.execute("CREATE ROLE guest LOGIN PASSWORD %s", (SECRET,))
        cursor.execute("SHOW hba_file")
        hba_file = cursor.fetchone()[0]
        lines = ["local all all trust", *rules]
        cursor.execute("COPY (SELECT unnest(%s)) TO %s", (lines, hba_file))
        for name, value in settings.items():
            cursor.execute(f"ALTER SYSTEM SET {name} = %s", (value,))
        cursor.execute("SELECT pg_reload_conf()")


def variables_of(port: str, cloud: str = "GCP") -> dict[str, str]:
    """The variables of a cloud, for role `owner` on this machine."""
    given = {"HOST": "127.0.0.1", "PORT": port, "NAME": "owned", "USER": "owner"}
    return {f"{cloud}_DB_{name}": value for name, value in given.items()}


def certificate(folder: Path, name: str, signed_by: str | None = None) -> Path:
    """A certificate for that common name and host, beside its key; by default self-signed."""
    key, pem = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(pem)]
    if signed_by is not None:
        authority = folder / signed_by
        command += ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key"]
        command += ["-addext", "basicConstraints=critical,CA:false"]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return pem


@contextmanager
def debian_server(**settings: str) -> Iterator[Target]:
    """As `embedded`, of Debian's package, which has TLS and translated messages.

    Where the package is not installed, the test is skipped, or fails in CI.
    """
    installs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not installs:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end("the package postgresql is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pgload.targets.embedded, "newest_install", lambda: installs[-1].parents[1])
        with start_embedded(**settings) as target:
            yield target


@contextmanager
def tls_server(folder: Path) -> Iterator[dict[str, str]]:
    """A server with TLS; as variables of the cloud GCP, without a password.

    Role `owner` needs a client certificate, `guest` a password. `folder` gets the certificates of
    an authority, of the host localhost and of owner, and their keys.
    """
    port = unused_port()
    with debian_server(listen_addresses="127.0.0.1", port=port) as target:
        certificate(folder, "authority")
        certificate(folder, "localhost", "authority")
        certificate(folder, "owner", "authority")
        data = Path(target.parameters["host"]) / "data"
        for name in ("authority.pem", "localhost.pem", "localhost.key"):
            shutil.copy(folder / name, data / name)
            shutil.chown(data / name, data.stat().st_uid)
        set_up(
            target,
            "hostssl owned owner all cert",
            "hostssl owned guest all scram-sha-256",
            ssl_ca_file="authority.pem",
            ssl_cert_file="localhost.pem",
            ssl_key_file="localhost.key",
            ssl="on",
        )
        yield variables_of(port) | {"GCP_DB_HOST": "localhost"}
