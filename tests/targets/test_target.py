"""A target opens connections and does not show its password."""

from __future__ import annotations

from pgload.targets.target import Target


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


def test_password_is_not_shown() -> None:
    """A target shown by a debugger or a traceback does not show its password."""
    assert "s3cret" not in repr(Target("GCP", {"host": "h", "password": "s3cret"}))
