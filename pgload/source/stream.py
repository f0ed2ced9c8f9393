"""A file's content from its beginning to its end, each byte read once, whatever it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from threading import Thread
from typing import Any

PIECES_AHEAD = 2  # that a thread has ready
CLOSE_SECONDS = 5.0  # to wait for a thread that may be in a request


class Stream:
    """Decompressed bytes, in order. `offset` counts those that were taken.

    `readinto` reads some bytes into a buffer and gives their number, 0 at the end; `stamp` shows
    later whether the file is still the same. With `hashing` the bytes that are read are hashed.
    """

    def __init__(
        self,
        name: str,
        readinto: Callable[[memoryview], int],
        *,
        stamp: Any = None,
        hashing: bool = False,
    ) -> None:
        self.name = name
        self.stamp = stamp
        self.offset = 0
        self._readinto = readinto
        self._hash = hashlib.sha256() if hashing else None
        self._ahead = bytearray()  # what was looked at
        self._taken = 0  # bytes of it

    def fill(self, view: memoryview) -> int:
        """Read until `view` is full or the file ends; the number of bytes read."""
        size = min(len(view), len(self._ahead) - self._taken)
        view[:size] = memoryview(self._ahead)[self._taken : self._taken + size]
        self._take(size)
        size += self._read(view[size:])
        self.offset += size
        return size

    def ahead(self, size: int) -> bytearray:
        """What comes next, at least `size` bytes if there are as many; it is not taken."""
        if self._taken:
            self._ahead, self._taken = self._ahead[self._taken :], 0
        known = len(self._ahead)
        if known < size:
            longer = bytearray(size)
            longer[:known] = self._ahead
            end = known + self._read(memoryview(longer)[known:])
            self._ahead = longer if end == size else longer[:end]
        return self._ahead

    def skip(self, size: int) -> None:
        """Take `size` bytes that were looked at."""
        self._take(size)
        self.offset += size

    def _take(self, size: int) -> None:
        self._taken += size
        if self._taken == len(self._ahead):
            self._ahead, self._taken = bytearray(), 0

    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of all bytes that were read."""
        assert self._hash is not None
        return self._hash.hexdigest()

    def _read(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view) and (got := self._readinto(view[filled:])):
            filled += got
        if self._hash is not None:
            self._hash.update(view[:filled])
        return filled


class Prefetch:
    """The pieces of an iterator, which a thread of its own runs a few pieces ahead."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._queue = Queue[bytes | BaseException](PIECES_AHEAD)
        self._closed = False
        self._left = memoryview(b"")
        self._ended = False
        self._thread = Thread(target=self._run, name="pgload-source", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                if piece:
                    self._queue.put(piece)
                if self._closed:
                    return
            self._queue.put(b"")
        except BaseException as error:  # raised again where the bytes are needed
            self._queue.put(error)

    def __iter__(self) -> Iterator[bytes]:
        while not self._ended:
            piece = self._queue.get()
            if isinstance(piece, BaseException):
                self._ended = True
                raise piece
            if piece:
                yield piece
            else:
                self._ended = True

    def readinto(self, view: memoryview) -> int:
        """Copy some bytes into `view`; their number, 0 at the end."""
        if not self._left:
            self._left = memoryview(next(iter(self), b""))
        size = min(len(view), len(self._left))
        view[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        while True:
            try:
                self._queue.get_nowait()  # so that the thread does not wait for room
            except Empty:
                break
        self._thread.join(CLOSE_SECONDS)
