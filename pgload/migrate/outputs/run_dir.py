"""The directory of a run, and the links to its files.

    migration_outputs/
        migration_progress.json -> runs/latest/migration_progress.json
        …
        runs/
            latest -> 2025-01-15T01-30-03Z
            2025-01-15T01-30-03Z/

The files in the output directory are symbolic links, not copies: one rename of `latest` makes them
all show a new run at once, the log can be followed, and no large file is written twice. Of two runs
that share an output directory each writes its own files, and the links show the one begun last.
"""

from __future__ import annotations

import fcntl
import re
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from pgload.contract import BATCHES, HELD_REJECTS, LOG, OUTPUT_FILES, REJECTS
from pgload.migrate.outputs.files import output_error

_RUN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-(\d+))?")


def make_run_dir(outputs: Path, started: datetime) -> Path:
    """Create a directory below `outputs/runs`, named after the run's start in UTC.

    Raises `OutputError`.
    """
    name = started.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    try:
        (outputs / "runs").mkdir(parents=True, exist_ok=True)
        for n in count(1):
            run_dir = outputs / "runs" / (f"{name}-{n}" if n > 1 else name)
            with suppress(FileExistsError):  # another run began in this second
                run_dir.mkdir()
                return run_dir
    except OSError as error:
        raise output_error(outputs, error) from None
    raise AssertionError  # pragma: no cover: `count` does not end


def link_as_latest(run_dir: Path) -> None:
    """Make the links in the output directory show the files of this run."""
    runs = run_dir.parent
    try:
        for name in OUTPUT_FILES:
            target, link = f"runs/latest/{name}", runs.parent / name
            if link.is_symlink() and link.readlink() == Path(target):
                continue
            if link.exists() and not link.is_symlink():  # of another tool, or a copy
                link.rename(_unused(runs / f"before-{run_dir.name}-{name}"))
            _link(link, target, run_dir.name)
        _link(runs / "latest", run_dir.name, run_dir.name)
    except OSError as error:
        raise output_error(runs.parent, error) from None


def prune(runs: Path, keep: int) -> None:
    """Remove the files of all but the newest `keep` runs, and the directories that get empty.

    Runs that are still running (their log is locked) or have rejects, which are kept nowhere else,
    stay; so does everything that is not a run.
    """
    found = []
    for path in runs.iterdir():
        match = _RUN.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink():
            found.append((match[1], int(match[2] or 1), path))
    for *_, run_dir in sorted(found, reverse=True)[max(keep, 1) :]:
        if not is_running(run_dir) and not _has_rejects(run_dir):
            # What cannot be removed must not keep a migration from starting.
            with suppress(OSError):
                files = [run_dir / name for name in (*OUTPUT_FILES, BATCHES)]
                for path in [*run_dir.glob(".*.tmp"), *files]:
                    path.unlink(missing_ok=True)
                run_dir.rmdir()


def _has_rejects(run_dir: Path) -> bool:
    path = run_dir / REJECTS
    return any(run_dir.glob(HELD_REJECTS)) or (path.is_file() and path.stat().st_size > 0)


def _link(link: Path, target: str, run: str) -> None:
    """Make a symbolic link, replacing an existing one."""
    temporary = link.with_name(f".{link.name}.{run}.tmp")  # of this run only
    temporary.symlink_to(target)
    temporary.replace(link)


def _unused(path: Path) -> Path:
    """The path, with a number if it is taken."""
    return next(
        each
        for n in count(1)
        if not (each := path.with_name(f"{path.name}.{n}" if n > 1 else path.name)).exists()
    )


def is_running(run_dir: Path) -> bool:
    """Whether a process has the run's log open."""
    try:
        with (run_dir / LOG).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no log
        return False
    return False
