"""`python -m pgload dashboard` before Streamlit runs."""

from __future__ import annotations

import socket
from importlib.metadata import PackageNotFoundError

import pytest

from pgload import cli
from pgload.dashboard import serve


def test_without_streamlit_the_error_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is that of a usage error, also for a version that is too old."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(serve, "version", missing)
    assert cli.main(["dashboard"]) == 2
    assert capsys.readouterr().err == (
        "pgload: the dashboard needs Streamlit: pip install streamlit\n"
    )
    monkeypatch.setattr(serve, "version", lambda _: "1.9.0")
    assert cli.main(["dashboard"]) == 2
    assert "too old" in capsys.readouterr().err


def test_a_port_in_use_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before Streamlit is started."""
    monkeypatch.setattr(serve, "version", lambda _: "1.60.0")
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["dashboard", "--port", str(port)]) == 2
    assert "choose another with --port" in capsys.readouterr().err
