"""The files of a folder: which there are, whether they may be read, whether they stay as they are.

A file is opened only if it is a regular one: a pipe or a device that is called `x.json` would be
waited for without an end. A link may lead to another file of its folder, but not out of it.
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

LISTED = ", ".join(DATA_SUFFIXES)


def data_files(folder: Path) -> list[Path]:
    """What is called like a JSON file directly in `folder`, in name order.

    Raises `SourceError` when there is nothing; one that cannot be read says so when it is opened.
    """
    try:
        found = list(folder.iterdir())
    except NotADirectoryError:
        raise SourceError(f"{folder} is not a folder: name one that holds JSON files") from None
    except FileNotFoundError:
        raise SourceError(f"{folder} does not exist: name a folder that holds JSON files") from None
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from None
    files = sorted(path for path in found if path.suffix.lower() in DATA_SUFFIXES)
    if not files:
        raise SourceError(
            f"{folder} holds no file that ends in {LISTED}: name the folder that holds them"
        )
    return files


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a change of a file is noticed, without reading it again."""

    inode: int
    size: int
    modified: int  # ns

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file's stamp now. Raises `SourceError` for one that may not or cannot be read."""
        with opened(path) as file:
            return file.stamp


class DataFile:
    """A regular file, open for reading, that is watched while it is read."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.file = file
        self.stamp = _stamp(os.fstat(file.fileno()))

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes from `offset`, or fewer where the file ends. Raises as `fill` does."""
        buffer = bytearray(min(size, max(0, self.stamp.size - offset)))
        return bytes(memoryview(buffer)[: self.fill(offset, memoryview(buffer))])

    def fill(self, offset: int, view: memoryview) -> int:
        """Read from `offset` until `view` is full or the file ends; gives the number of bytes.

        Raises `SourceError` when the file is not as it was when it was opened.
        """
        self.file.seek(offset)
        filled = 0
        while filled < len(view) and (got := self.file.readinto(view[filled:])):
            filled += got
        self.check()
        return filled

    def check(self) -> None:
        """Raise `SourceError` when the file grew, shrank, was written to, replaced or removed."""
        try:
            now = _stamp(self.path.stat())
        except OSError:
            raise SourceError(
                f"{self.path.name}: vanished while it was read; put it back and start again"
            ) from None
        if now != self.stamp:
            raise changed(self.path, self.stamp, now)


@contextmanager
def opened(path: Path, stamp: Stamp | None = None) -> Iterator[DataFile]:
    """The file, open for reading. Raises `SourceError`, naming it, for all that goes wrong.

    With a `stamp` also when the file is no longer the one that the stamp was taken of.
    """
    try:
        _check_kind(path)
        # Without waiting, should the file have been replaced by a pipe in this very moment.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with FileIO(number) as file:
            data = DataFile(path, file)
            if stamp is not None and data.stamp != stamp:
                raise changed(path, stamp, data.stamp)
            yield data
    except PermissionError:
        raise SourceError(
            f"{_shown(path)}: cannot be read: permission denied; make it readable (chmod +r)"
        ) from None
    except OSError as error:
        raise SourceError(f"{_shown(path)}: cannot be read: {error.strerror or error}") from None


def content_id(path: Path) -> str:
    """What tells a file's content from any other, whatever the file is called: its SHA-256.

    Raises `SourceError` for a file that cannot be read or changes meanwhile.
    """
    with opened(path) as data:
        digest = hashlib.file_digest(data.file, "sha256").hexdigest()
        data.check()
    return digest


def changed(path: Path, before: Stamp, now: Stamp) -> SourceError:
    """The error for a file that is not what it was."""
    size = "" if before.size == now.size else f" from {before.size:,} to {now.size:,} bytes"
    return SourceError(
        f"{path.name}: changed{size} while it was in use; start again when it is complete"
    )


def _check_kind(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{_shown(path)}: its name is not UTF-8; rename it") from None
    if path.is_symlink():
        target, folder = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
        if not target.exists():
            raise SourceError(f"{path.name}: is a broken link to {target}; remove it")
        if not target.is_relative_to(folder):
            raise SourceError(
                f"{path.name}: is a link out of the folder, to {target}; put the file itself there"
            )
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise SourceError(f"{path.name}: is a folder, not a file; rename it, or name it as --data")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path.name}: is a pipe or a device, not a file; remove it")


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _shown(path: Path) -> str:
    return path.name.encode(errors="backslashreplace").decode()
