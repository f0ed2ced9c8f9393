"""Where data is: files on this machine, standard input, and objects; found, opened, recognised.

Only regular files of a folder are opened: a read from a pipe or device called `x.json` might never
end. A pipe is read only if it is named, once, into a temporary file.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pgload.contract import DATA_SUFFIXES
from pgload.errors import SourceError
from pgload.source.compression import MAGIC_BYTES, compression_of, decompressed, plain_name
from pgload.source.stream import Prefetch, Stream

MAPPING_NAME = "tables.toml"  # in the folder of the data, and not data itself
STDIN = "-"
PIECE_BYTES = 1 << 20  # of a compressed file, read at a time
_URL = re.compile(r"[a-z][a-z0-9+]+://")


class Source(ABC):
    """A file's content, wherever it is.

    `path` names it in messages, in tables.toml and in the ledger; it need not be in a file system.
    """

    path: Path

    @abstractmethod
    def opened(self, stamp: Any = None, *, hashing: bool = False) -> AbstractContextManager[Stream]:
        """The content, decompressed.

        Raises `SourceError`, naming the file, when it cannot be opened or read, when it changes
        meanwhile, and when a `stamp` is given that is no longer the file's.
        """

    def identity(self, stamp: Any) -> str | None:
        """What identifies the content without reading it; None if nothing does."""
        del stamp
        return None


def source_of(file: Path | Source) -> Source:
    """The source of a file on this machine, or the source itself."""
    return file if isinstance(file, Source) else LocalFile(file)


@dataclass(frozen=True)
class Found:
    """What is at the place that `--data` names."""

    sources: Sequence[Source]  # by their paths, in order
    folder: Path  # where tables.toml is looked for
    others: Sequence[str] = ()  # the folder's other visible entries; of a folder with a slash
    note: str = ""  # what the user should know


def find(data: str | Path) -> Found:
    """The files at a folder, a file, a glob, `-` (standard input), or a URL of objects.

    In a folder these are the entries directly in it with a JSON suffix, compressed or not. Raises
    `SourceError` when there is none. Whether one can be read is checked when it is opened.
    """
    text = os.fspath(data)
    if text == STDIN:
        return _standard_input()
    if _URL.match(text):
        from pgload.source.objects import find_objects

        sources: Sequence[Source] = find_objects(text)
        found = Found(sources, Path())
    elif Path(text).is_dir() or not (glob.has_magic(text) or os.path.lexists(text)):
        found = _in_folder(Path(text))
    else:
        found = _one_file(Path(text)) if os.path.lexists(text) else _matching(text)
    names = set[str]()
    for source in found.sources:
        if source.path.name in names:
            raise SourceError(
                f"{source.path.name}: several files of {without_secrets(text)} have this name, by "
                "which results and the ledger know a file: load them one folder at a time"
            )
        names.add(source.path.name)
    return found


def without_secrets(data: str | Path) -> str:
    """The place without what a URL may hold to give access: user, password and signature."""
    text = os.fspath(data)
    return re.sub(r"(?<=://)[^/]*@|\?.*$", "", text) if _URL.match(text) else text


def is_missing(data: str | Path) -> bool:
    """Whether a place on this machine, which is not a pattern, does not exist."""
    text = os.fspath(data)
    elsewhere = text == STDIN or _URL.match(text) or glob.has_magic(text)
    return not elsewhere and not os.path.lexists(text)


def is_data(name: Path) -> bool:
    """Whether a file has a JSON suffix, compressed or not."""
    return plain_name(name).lower().endswith(DATA_SUFFIXES)


def no_data(place: str) -> SourceError:
    """The error for a place without data."""
    suffixes = ", ".join(DATA_SUFFIXES)
    return SourceError(f"{place} holds no file that ends in {suffixes}: name one that does")


def _in_folder(folder: Path) -> Found:
    entries = _entries(folder)
    files = sorted(path for path in entries if is_data(path))
    if not files:
        raise no_data(str(folder))
    try:
        others = sorted(
            f"{path.name}/" if path.is_dir() else path.name
            for path in entries
            if not is_data(path) and not path.name.startswith(".") and path.name != MAPPING_NAME
        )
    except PermissionError:  # a folder that may be listed, but not entered
        raise _unreadable(folder, "permission denied") from None
    return Found([LocalFile(path) for path in files], folder, others)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        raise SourceError(
            f"{folder} does not exist: name a folder that holds JSON files, or a file"
        ) from None
    except OSError as error:
        raise _unreadable(folder, _reason(error)) from None


def _unreadable(folder: Path, reason: str) -> SourceError:
    return SourceError(f"{folder} cannot be read: {reason}; make it readable (chmod +rx)")


def _matching(pattern: str) -> Found:
    paths = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [path for path in paths if not path.is_dir() and path.name != MAPPING_NAME]
    if not files:
        raise SourceError(f"{pattern} matches no file: name a folder or a file, or correct it")
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return Found([LocalFile(path) for path in files], fixed)


def _one_file(path: Path) -> Found:
    if not path.is_fifo():
        return Found([LocalFile(path)], path.parent)
    try:
        with path.open("rb") as pipe:
            return _spooled(pipe, path, f"{path} is a pipe: its content")
    except PermissionError:
        raise SourceError(f"{path}: cannot be read: permission denied") from None


def _standard_input() -> Found:
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError("--data -: standard input is a terminal: pipe JSON into it")
    return _spooled(sys.stdin.buffer, Path("stdin"), "standard input")


def _spooled(pipe: IO[bytes], path: Path, what: str) -> Found:
    """A pipe's content in a temporary file that only this process can open."""
    size, number = 0, -1
    try:
        number, name = tempfile.mkstemp(prefix="pgload-")  # mode 0600
        os.unlink(name)  # noqa: PTH108 - it goes with the process, however that ends
        while piece := pipe.read(PIECE_BYTES):
            size += len(piece)
            while piece:
                piece = piece[os.write(number, piece) :]
    except BaseException as error:
        if number >= 0:
            os.close(number)
        if not isinstance(error, OSError):
            raise
        raise SourceError(
            f"{path.name}: cannot be kept in a temporary file in {tempfile.gettempdir()}: "
            f"{_reason(error)}; set TMPDIR to a folder with room"
        ) from None
    note = (
        f"{what} is kept in a temporary file in {tempfile.gettempdir()} "
        f"({size / 1e6:,.1f} MB) until the end; to resume, pipe the same data again"
    )
    return Found([SpooledFile(path, number)], Path(), note=note)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows that a file changed, without reading it again."""

    inode: int
    size: int  # bytes
    modified: int  # ns
    changed: int  # ns; cannot be set back, unlike `modified`

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class LocalFile(Source):
    """A regular file, which is checked for changes at every read."""

    path: Path

    @contextmanager
    def opened(self, stamp: Any = None, *, hashing: bool = False) -> Iterator[Stream]:
        try:
            _check_kind(self.path)
            # Non-blocking, in case a pipe took the file's place since the check.
            number = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                now = Stamp.of(os.fstat(number))
                if stamp is not None and now != stamp:
                    raise changed(self.path, stamp, now)
                yield from _streamed(_Reader(number, self.path, now), hashing=hashing)
            finally:
                os.close(number)
        except PermissionError:
            raise SourceError(
                f"{_printable(self.path)}: cannot be read: permission denied; make it readable "
                "(chmod +r)"
            ) from None
        except OSError as error:
            raise SourceError(
                f"{_printable(self.path)}: cannot be read: {_reason(error)}; check that it is there"
            ) from None


@dataclass(frozen=True)
class SpooledFile(Source):
    """What a pipe gave, in a temporary file without a name."""

    path: Path
    number: int  # the file descriptor, closed with this object

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.number)

    @contextmanager
    def opened(self, stamp: Any = None, *, hashing: bool = False) -> Iterator[Stream]:
        del stamp  # nobody else can write to it
        reader = _Reader(self.number, self.path, None)
        try:
            yield from _streamed(reader, hashing=hashing)
        except OSError as error:
            raise SourceError(f"{self.path.name}: cannot be read: {_reason(error)}") from None


class _Reader:
    """Reads a file descriptor from its beginning; checks the file's stamp after every read."""

    def __init__(self, number: int, path: Path, stamp: Stamp | None) -> None:
        self._number = number
        self.path = path
        self.stamp = stamp
        self._offset = 0

    def readinto(self, view: memoryview) -> int:
        size = os.preadv(self._number, [view], self._offset)
        self._offset += size
        if self.stamp is not None:
            self._check(self.stamp)
        return size

    def pieces(self) -> Iterator[bytes]:
        buffer = bytearray(PIECE_BYTES)
        while size := self.readinto(memoryview(buffer)):
            yield bytes(memoryview(buffer)[:size])

    def head(self) -> bytes:
        return os.pread(self._number, MAGIC_BYTES, 0)

    def _check(self, stamp: Stamp) -> None:
        try:
            now = Stamp.of(self.path.stat())
        except OSError:
            raise SourceError(
                f"{self.path.name}: vanished while it was read; put it back and start again"
            ) from None
        if now != stamp:
            raise changed(self.path, stamp, now)


def _streamed(reader: _Reader, *, hashing: bool) -> Iterator[Stream]:
    """The reader's content, for a context manager."""
    name, stamp = reader.path.name, reader.stamp
    compression = compression_of(name, reader.head())
    if compression is None:
        yield Stream(name, reader.readinto, stamp=stamp, hashing=hashing)
        return
    content = Prefetch(decompressed(name, compression, reader.pieces()))
    try:
        yield Stream(name, content.readinto, stamp=stamp, hashing=hashing)
    finally:
        content.close()


def changed(path: Path, before: Any, now: Any) -> SourceError:
    """The error for a file whose stamp is another; a stamp has a `size`."""
    size = "" if before.size == now.size else f" from {before.size:,} to {now.size:,} bytes"
    return SourceError(
        f"{path.name}: changed{size} while it was in use; start again when it is complete"
    )


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


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _printable(path: Path) -> str:
    return path.name.encode(errors="backslashreplace").decode()
