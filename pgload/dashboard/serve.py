"""`python -m pgload dashboard`: check Streamlit and the port, then run Streamlit."""

from __future__ import annotations

import os
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pgload.errors import UsageError

SCRIPT = Path(__file__).with_name("app.py")
HOST = "localhost"  # there is no login
MINIMUM = (1, 60)  # of Streamlit: the first with tabs that report which one is open


def serve(outputs: Path, data: Path, language: str | None, port: int) -> int:
    """Serve the dashboard until Ctrl-C, in place of this process.

    Raises `UsageError` if Streamlit is missing or too old, or the port is in use.
    """
    _check_streamlit()
    _check_port(port)
    # Options and not only `.streamlit/config.toml`, since environment variables override that file.
    command = [sys.executable, "-m", "streamlit", "run", str(SCRIPT)]
    command += [f"--server.address={HOST}", f"--server.port={port}", "--server.headless=true"]
    command += ["--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    command += ["--", "--output-dir", str(outputs), "--data", str(data)]
    command += ["--lang", language] if language else []
    print(f"pgload: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
    sys.stderr.flush()
    os.execv(sys.executable, command)


def _check_streamlit() -> None:
    try:
        found = version("streamlit")
    except PackageNotFoundError:
        raise UsageError("the dashboard needs Streamlit: pip install streamlit") from None
    if tuple(int(part) for part in found.split(".")[:2] if part.isdecimal()) < MINIMUM:
        minimum = ".".join(map(str, MINIMUM))
        raise UsageError(
            f"streamlit {found} is too old, {minimum} is needed: pip install -U streamlit"
        )


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used: {error.strerror}; choose another with --port"
            ) from None
