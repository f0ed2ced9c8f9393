"""Variables, a URL and a service file become keywords of libpq."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from pgload.errors import RefusedLoginError, UsageError
from pgload.targets.cloud import cloud_target
from pgload.targets.parameters import DEFAULTS, read_parameters
from tests.support.servers import SECRET, tcp_server

GCP = {"GCP_DB_HOST": "h", "GCP_DB_NAME": "d", "GCP_DB_USER": "u"}


def parameters(variables: dict[str, str], cloud: str = "GCP") -> dict[str, Any]:
    return dict(cloud_target(cloud, variables).parameters)


def test_any_keyword_of_libpq() -> None:
    """`<CLOUD>_DB_<KEYWORD>` sets any keyword of libpq; a password is not required."""
    more = {
        "GCP_DB_HOST": "one,two",
        "GCP_DB_HOSTADDR": "192.0.2.1,192.0.2.2",
        "GCP_DB_PORT": "5432,6432",
        "GCP_DB_SSLCERT": "/own.pem",
        "GCP_DB_SSLKEY": "/own.key",
        "GCP_DB_SSLCRL": "/revoked.pem",
        "GCP_DB_PASSFILE": "/pgpass",
        "GCP_DB_CHANNEL_BINDING": "require",
        "GCP_DB_TARGET_SESSION_ATTRS": "read-write",
        "GCP_DB_OPTIONS": "-c work_mem=5MB",
        "GCP_DB_KEEPALIVES_IDLE": "5",
    }
    names = {"GCP_DB_NAME": "dbname", "GCP_DB_USER": "user"}
    expected = {
        names.get(name, name.removeprefix("GCP_DB_").lower()): value
        for name, value in (GCP | more).items()
    }
    assert parameters(GCP | more) == {**DEFAULTS, **expected}


def test_what_is_not_a_keyword() -> None:
    """A keyword that libpq does not know is an error with the variable's name; empty is unset."""
    with pytest.raises(UsageError, match=r"^GCP_DB_SSLCRT is not a setting: .* keyword 'sslcrt'"):
        parameters(GCP | {"GCP_DB_SSLCRT": "/own.pem"})
    others = {"GCP_DB_SSLCRT": "", "GCP_DB_PRICE_PER_HOUR": "1", "AWS_DB_SSLCRT": "/aws.pem"}
    assert parameters(GCP | others) == parameters(GCP)


def test_certificates_of_the_system() -> None:
    """With the system's root certificates the server's is checked, as libpq requires it then."""
    assert parameters(GCP | {"GCP_SSLROOTCERT": "system"})["sslmode"] == "verify-full"


def test_any_prefix_and_url() -> None:
    """Any prefix is a cloud; a URL may replace the variables, which win over it."""
    url = "postgresql://neon%40tenant:p%2Fw@neon.example:6543/main?sslmode=verify-full"
    target = cloud_target("NEON", {"NEON_DATABASE_URL": url})
    assert target.parameters["user"] == "neon@tenant"
    assert target.with_secret()["password"] == "p/w"
    assert target.parameters["sslmode"] == "verify-full"
    more = {"NEON_DB_NAME": "other", "NEON_DB_PASSWORD": SECRET}
    other = cloud_target("NEON", {"NEON_DATABASE_URL": url} | more)
    assert (other.parameters["dbname"], other.parameters["port"]) == ("other", "6543")
    assert other.with_secret()["password"] == SECRET


@pytest.mark.parametrize(
    "url",
    [
        f"{SECRET} {SECRET}",
        "host=h user=hidden dbname=d",
        "postgresql://owner:p@hidden@127.0.0.1/owned",
        "postgresql://owner:12/hidden@127.0.0.1/owned",
        "postgresql://owner:12?3@hidden@127.0.0.1/owned",
        "postgresql://owner:hidden@127.0.0.1/owned?schema=public",
        "postgresql://owner:hidden@127.0.0.1",
        "postgresql:///owned",
    ],
)
def test_malformed_url(url: str) -> None:
    """A malformed URL, or one with unescaped characters, is an error that repeats none of it."""
    with pytest.raises(UsageError, match="NEON_DATABASE_URL is not of the form") as caught:
        parameters({"NEON_DATABASE_URL": url}, "NEON")
    assert SECRET not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_variables_that_set_them() -> None:
    """Each keyword is known with the variable that was used, for advice."""
    url = "postgresql://u:p@h/d"
    given = {"NEON_DATABASE_URL": url, "NEON_DB_USER": "other", "NEON_SSLMODE": "disable"}
    assert read_parameters("NEON", given).variables == {
        "host": "NEON_DATABASE_URL",
        "dbname": "NEON_DATABASE_URL",
        "password": "NEON_DATABASE_URL",
        "user": "NEON_DB_USER",
        "sslmode": "NEON_SSLMODE",
    }
    target = cloud_target("NEON", given)
    assert target.variable("password") == "NEON_DATABASE_URL"
    assert target.variable("dbname") == "NEON_DATABASE_URL"
    assert target.variable("sslrootcert") == "NEON_DB_SSLROOTCERT"  # the one to set
    assert cloud_target("GCP", GCP).variable("dbname") == "GCP_DB_NAME"


SERVICES = """
[other]
host=elsewhere
[own] # libpq ignores what follows
# a comment
ldap://host/dc=example?port
host=service.example
port=6432
user=service user
password=p=w
sslmode=verify-full
"""


@pytest.fixture
def service_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The service file of libpq."""
    path = tmp_path / "services.conf"
    path.write_text(SERVICES)
    monkeypatch.setenv("PGSERVICEFILE", str(path))
    return path


@pytest.mark.usefixtures("service_file")
@pytest.mark.parametrize(
    "given",
    [
        {"OWN_DB_SERVICE": "own", "OWN_DB_NAME": "main"},
        {"OWN_DATABASE_URL": "postgresql:///main?service=own"},
        {"OWN_DATABASE_URL": "postgresql:///main", "OWN_DB_SERVICE": "own"},
    ],
)
def test_service(given: dict[str, str]) -> None:
    """A service stands for host and user; variables win over it, and it wins over our defaults."""
    found = parameters(given, "OWN")
    assert (found["host"], found["port"], found["user"]) == (
        "service.example",
        "6432",
        "service user",
    )
    assert (found["dbname"], found["sslmode"], found["service"]) == ("main", "verify-full", "own")
    assert cloud_target("OWN", given).with_secret()["password"] == "p=w"
    given = given | {"OWN_DB_PASSWORD": SECRET, "OWN_DB_USER": "me"}
    assert cloud_target("OWN", given).with_secret()["password"] == SECRET
    assert parameters(given, "OWN")["user"] == "me"


def test_service_that_only_libpq_finds(service_file: Path) -> None:
    """Where we do not find the service, connections still require TLS, at the service's port."""
    service_file.write_text("[own]\nport 5432\n")
    with pytest.raises(RefusedLoginError, match=r"conf\", line 2: check OWN_DB_SERVICE and PGSERV"):
        cloud_target("OWN", {"OWN_DB_SERVICE": "own"}).connect()
    service_file.write_text("")
    found = parameters({"OWN_DB_SERVICE": "own"}, "OWN")
    expected = {**DEFAULTS, "service": "own"}
    del expected["port"]
    assert found == expected
    with pytest.raises(RefusedLoginError, match=r"no service 'own': check OWN_DB_SERVICE"):
        cloud_target("OWN", {"OWN_DB_SERVICE": "own"}).connect()


def test_service_and_password_file(service_file: Path, tmp_path: Path) -> None:
    """Connections by a service, with the password in a file: no variable but the two names."""
    with tcp_server() as variables:
        service_file.write_text(
            "[own]\nhost=127.0.0.1\nuser=owner\ndbname=owned\nsslmode=disable\n"
            f"port={variables['GCP_DB_PORT']}\noptions=-c work_mem=5MB\n"
        )
        passfile = tmp_path / "pgpass"
        passfile.write_text(f"127.0.0.1:*:owned:owner:{SECRET}\n")
        passfile.chmod(0o600)
        target = cloud_target("OWN", {"OWN_DB_SERVICE": "own", "OWN_DB_PASSFILE": str(passfile)})
        with closing(target.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT session_user, current_setting('work_mem')")
            assert cursor.fetchone() == ("owner", "5MB")
        passfile.write_text("")
        with pytest.raises(RefusedLoginError, match=r"set OWN_DB_PASSWORD, or check OWN_DB_PASSF"):
            target.connect()
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(**target.with_secret())
