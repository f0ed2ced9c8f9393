"""The folder of one run, and the ways its files are written: replaced whole, or appended to.

    migration_outputs/
        migration_progress.json -> runs/latest/migration_progress.json
        …
        runs/
            latest -> 2025-01-15T01-30-03Z
            2025-01-15T01-30-03Z/

The familiar names are symbolic links, not copies: one rename of `latest` turns all of them to a new
run at once, the log can be followed under its familiar name, and no large file is written twice.
Where two runs share a folder, each writes into its own and the names show the one begun last.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Lock

from pgload.contract import BATCHES, LOG, OUTPUT_FILES
from pgload.errors import OutputError

_RUN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:-(\d+))?")


def make_run_folder(outputs: Path, started: datetime) -> Path:
    """A new folder below `outputs/runs`, named after the run's start in UTC.

    Raises `OutputError` where it cannot be made.
    """
    name = started.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    try:
        (outputs / "runs").mkdir(parents=True, exist_ok=True)
        for n in count(1):
            folder = outputs / "runs" / (f"{name}-{n}" if n > 1 else name)
            with suppress(FileExistsError):  # another run began in this second
                folder.mkdir()
                return folder
    except OSError as error:
        raise output_error(outputs, error) from None
    raise AssertionError  # pragma: no cover: `count` does not end


def show_as_newest(folder: Path) -> None:
    """Let the familiar names in the output folder mean the files of this run."""
    runs = folder.parent
    try:
        for name in OUTPUT_FILES:
            wanted, link = f"runs/latest/{name}", runs.parent / name
            if link.is_symlink() and link.readlink() == Path(wanted):
                continue
            if link.exists() and not link.is_symlink():  # of another tool, or copied here
                link.rename(_free(runs / f"before-{folder.name}-{name}"))
            _link(link, wanted, folder.name)
        _link(runs / "latest", folder.name, folder.name)
    except OSError as error:
        raise output_error(runs.parent, error) from None


def prune(runs: Path, keep: int) -> None:
    """Remove the oldest runs but `keep`: their own files, and the folders that this leaves empty.

    A run that still goes on is kept (its log is locked), and so is one with rejects, which are told
    of nowhere else, and whatever does not look like a run.
    """
    found = []
    for folder in runs.iterdir():
        match = _RUN.fullmatch(folder.name)
        if match and folder.is_dir() and not folder.is_symlink():
            found.append((match[1], int(match[2] or 1), folder))
    for *_, folder in sorted(found, reverse=True)[max(keep, 1) :]:
        if not _in_use(folder) and not _has_rejects(folder):
            # Whatever cannot be removed stays: no reason to keep a migration from starting.
            with suppress(OSError):
                for path in [
                    *folder.glob(".*.tmp"),
                    *(folder / n for n in (*OUTPUT_FILES, BATCHES)),
                ]:
                    path.unlink(missing_ok=True)
                folder.rmdir()


def _has_rejects(folder: Path) -> bool:
    path = folder / "rejects.jsonl"
    return path.is_file() and path.stat().st_size > 0


def replace_file(path: Path, parts: Iterable[bytes], *, durable: bool = False) -> None:
    """Give a file new content at once: a reader sees the old one or the new one, nothing between.

    `durable` waits until the content is on the disk. Raises `OutputError`; the old content stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # on a full disk every byte counts
        raise output_error(path, error) from None


class AppendFile:
    """A new file that grows by whole pieces, from any thread: a failed write leaves nothing of it.

    It is locked as long as it is open, which tells `prune` of another process that it is in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # in bytes
        self._lock = Lock()
        try:
            # Without a buffer, which after a failed write would keep the data for another attempt.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise output_error(path, error) from None
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, data: bytes, *, durable: bool = False) -> None:
        """Write `data`, and with `durable` wait until it is on the disk. Raises `OutputError`."""
        with self._lock:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
                if durable:
                    os.fsync(self._file.fileno())
            except OSError as error:
                with suppress(OSError):
                    self._file.truncate(self.size)
                raise output_error(self.path, error) from None
            self.size += len(data)

    def read(self, piece: int = 1 << 20) -> Iterator[bytes]:
        """What was written, in pieces of so many bytes. Raises `OSError`."""
        rest = self.size
        with self.path.open("rb") as file:
            while rest and (data := file.read(min(piece, rest))):
                rest -= len(data)
                yield data

    def close(self) -> None:
        """Close the file and let go of its lock."""
        with suppress(OSError):  # some file systems tell only now; `durable` is what to rely on
            self._file.close()


def output_error(path: Path, error: OSError) -> OutputError:
    """The error as one line for the user."""
    why = error.strerror or type(error).__name__
    return OutputError(
        f"cannot write {path}: {why}; make room for it or choose another --output-dir"
    )


def _link(link: Path, target: str, run: str) -> None:
    """Make a symbolic link, in place of one that is there."""
    temporary = link.with_name(f".{link.name}.{run}.tmp")  # no other run's
    temporary.symlink_to(target)
    temporary.replace(link)


def _free(path: Path) -> Path:
    return next(
        each
        for n in count(1)
        if not (each := path.with_name(f"{path.name}.{n}" if n > 1 else path.name)).exists()
    )


def _in_use(folder: Path) -> bool:
    """Whether the process that writes into this folder is alive."""
    try:
        with (folder / LOG).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no log
        return False
    return False
