"""How output files are written: replaced atomically, or appended to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from threading import Lock

from pgload.errors import OutputError


def replace_file(
    path: Path, parts: Iterable[bytes], *, durable: bool = False, mode: int = 0o666
) -> None:
    """Replace a file atomically: a reader sees the old content or the new one.

    `durable` waits until the content is on the disk. `mode` is without what the umask takes. After
    an `OutputError` the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(number, "wb") as file:
            file.writelines(parts)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # makes room on a full disk
        raise output_error(path, error) from None


class AppendFile:
    """A file that grows by whole pieces, from any thread; a failed write is undone.

    It is locked as long as it is open, so that `prune` in another process knows that it is in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        try:
            # For this user only: rejects are records, and a message may hold a value of one.
            # Unbuffered: a buffer would keep the data of a failed write.
            number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._file = FileIO(number, "ab")
        except OSError as error:
            raise output_error(path, error) from None
        self.size = os.fstat(self._file.fileno()).st_size  # in bytes
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
        """What was written, in pieces of at most `piece` bytes. Raises `OSError`."""
        rest = self.size
        with self.path.open("rb") as file:
            while rest and (data := file.read(min(piece, rest))):
                rest -= len(data)
                yield data

    def close(self) -> None:
        """Close the file and release its lock."""
        with suppress(OSError):  # some file systems report errors late; `durable` is reliable
            self._file.close()


def output_error(path: Path, error: OSError) -> OutputError:
    """The `OutputError` for a path."""
    why = error.strerror or type(error).__name__
    return OutputError(
        f"cannot write {path}: {why}; free some space or choose another --output-dir"
    )
