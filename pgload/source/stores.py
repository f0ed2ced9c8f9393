"""The files of a folder: listing them, opening them, noticing that one changes.

Only regular files are opened: a read from a pipe or device called `x.json` might never end.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from pgload.contract import DATA_SUFFIXES
from pgload.errors import SourceError


def data_files(folder: Path) -> list[Path]:
    """The entries directly in `folder` with a JSON suffix, in name order.

    Raises `SourceError` when there is none. Whether one can be read is checked when it is opened.
    """
    files = sorted(path for path in _entries(folder) if path.suffix.lower() in DATA_SUFFIXES)
    if not files:
        raise SourceError(
            f"{folder} holds no file that ends in {', '.join(DATA_SUFFIXES)}: "
            "name the folder that holds them"
        )
    return files


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except NotADirectoryError:
        raise SourceError(f"{folder} is not a folder: name one that holds JSON files") from None
    except FileNotFoundError:
        raise SourceError(f"{folder} does not exist: name a folder that holds JSON files") from None
    except OSError as error:
        raise _unreadable(folder, _reason(error)) from None


def _unreadable(folder: Path, reason: str) -> SourceError:
    return SourceError(f"{folder} cannot be read: {reason}; make it readable (chmod +rx)")


def other_files(folder: Path) -> list[str]:
    """The names of the folder's visible entries that are not data files, in name order.

    That of a folder ends with a slash. Raises as `data_files` does.
    """
    try:
        return sorted(
            f"{path.name}/" if path.is_dir() else path.name
            for path in _entries(folder)
            if path.suffix.lower() not in DATA_SUFFIXES and not path.name.startswith(".")
        )
    except PermissionError:  # a folder that may be listed, but not entered
        raise _unreadable(folder, "permission denied") from None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows that a file changed, without reading it again."""

    inode: int
    size: int  # bytes
    modified: int  # ns

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file's stamp now. Raises `SourceError` for a file that cannot be read."""
        with opened(path) as file:
            return file.stamp


class DataFile:
    """A regular file, open for reading, that is checked for changes at every read."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.file = file
        self.stamp = _stamp(os.fstat(file.fileno()))

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, or fewer where the file ends. Raises as `fill` does."""
        buffer = bytearray(min(size, max(0, self.stamp.size - offset)))
        return bytes(memoryview(buffer)[: self.fill(offset, memoryview(buffer))])

    def fill(self, offset: int, view: memoryview) -> int:
        """Read from `offset` until `view` is full or the file ends; the number of bytes read.

        Raises `SourceError` when the file has changed since it was opened.
        """
        self.file.seek(offset)
        filled = 0
        while filled < len(view) and (got := self.file.readinto(view[filled:])):
            filled += got
        self.check()
        return filled

    def check(self) -> None:
        """Raise `SourceError` when the file was written to, truncated, replaced or removed."""
        try:
            now = _stamp(self.path.stat())
        except OSError:
            raise SourceError(
                f"{self.path.name}: vanished while it was read; put it back and start again"
            ) from None
        if now != self.stamp:
            raise _changed(self.path, self.stamp, now)


@contextmanager
def opened(path: Path, stamp: Stamp | None = None) -> Iterator[DataFile]:
    """The file, open for reading.

    Raises `SourceError`, naming the file, when it cannot be opened or read, and when a `stamp` is
    given that is no longer the file's.
    """
    try:
        _check_kind(path)
        # Non-blocking, in case a pipe took the file's place since the check.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with FileIO(number) as file:
            data = DataFile(path, file)
            if stamp is not None and data.stamp != stamp:
                raise _changed(path, stamp, data.stamp)
            yield data
    except PermissionError:
        raise SourceError(
            f"{_printable(path)}: cannot be read: permission denied; make it readable (chmod +r)"
        ) from None
    except OSError as error:
        raise SourceError(
            f"{_printable(path)}: cannot be read: {_reason(error)}; check that it is there"
        ) from None


def content_id(path: Path) -> str:
    """The SHA-256 of the file's content, in hexadecimal; independent of the file's name.

    Raises `SourceError` for a file that cannot be read or that changes meanwhile.
    """
    with opened(path) as data:
        digest = hashlib.file_digest(data.file, "sha256").hexdigest()
        data.check()
    return digest


def _check_kind(path: Path) -> None:
    """Raise `SourceError` for anything but a regular file, or a link to one."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{_printable(path)}: its name is not UTF-8; rename it") from None
    if path.is_symlink() and not (target := Path(os.path.realpath(path))).exists():
        raise SourceError(f"{path.name}: is a broken link to {target}; remove it")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise SourceError(f"{path.name}: is a folder, not a file; rename it, or name it as --data")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path.name}: is a pipe or a device, not a file; remove it")


def _changed(path: Path, before: Stamp, now: Stamp) -> SourceError:
    size = "" if before.size == now.size else f" from {before.size:,} to {now.size:,} bytes"
    return SourceError(
        f"{path.name}: changed{size} while it was in use; start again when it is complete"
    )


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _printable(path: Path) -> str:
    return path.name.encode(errors="backslashreplace").decode()
