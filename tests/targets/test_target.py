"""A target opens connections and does not show its password."""

from __future__ import annotations

import pytest

from pgload.errors import TargetError
from pgload.targets.identity import stored_password
from pgload.targets.target import Target, wait_until_up
from tests.support.servers import embedded


def test_connect(server: Target) -> None:
    """A connection has our name and the settings that `load` relies on, and no transaction."""
    parameters = {**server.parameters, "options": "-c standard_conforming_strings=off"}
    connection = Target("EMBEDDED", parameters).connect()
    names = ("application_name", "client_encoding", "standard_conforming_strings")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(name) FROM unnest(%s) AS name", (list(names),))
        assert [value for (value,) in cursor.fetchall()] == ["pgload", "UTF8", "on"]
    assert connection.autocommit
    connection.close()


def test_environment_of_other_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq's variables for other servers replace neither a target's address nor its database."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    monkeypatch.setenv("PGDATABASE", "missing")
    with embedded() as target:
        connection = target.connect()
        assert connection.info.dbname == "postgres"
        connection.close()


def test_passphrase_is_not_shown(server: Target) -> None:
    """A connection shown by a debugger or a traceback does not show a key's passphrase."""
    connection = Target("GCP", {**server.parameters, "sslpassword": "s3cret"}).connect()
    assert "s3cret" not in repr(connection)
    connection.close()


def test_password_is_not_shown() -> None:
    """A target shown by a debugger or a traceback does not show its password, nor a passphrase."""
    target = Target("GCP", {"sslpassword": "s3cret"}, stored_password("s3cret"))
    assert "s3cret" not in repr(target)


@pytest.mark.parametrize(
    ("failure", "seconds", "message"),
    [
        ("no space left", 60, "HERE: the server did not start: no space left"),
        (None, 0, "HERE: the server did not start: no connection within 0 s: nothing listens at"),
    ],
)
def test_server_that_does_not_start(failure: str | None, seconds: float, message: str) -> None:
    """The reason is that of the server, or else the last error of connecting."""
    target = Target("HERE", {"host": "127.0.0.1", "port": 1})
    with pytest.raises(TargetError) as caught:
        wait_until_up(target, lambda: failure, seconds)
    assert str(caught.value).startswith(message)


def test_server_that_starts(server: Target) -> None:
    """The wait ends with the first connection."""
    wait_until_up(server, lambda: "not asked", 0)
