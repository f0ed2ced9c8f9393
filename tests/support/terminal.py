"""A terminal, and what is written to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TextIO


def read_all(terminal: int) -> str:
    """What is written to a terminal, until its other end is closed."""
    found = b""
    with suppress(OSError):  # Linux's end of the file
        while piece := os.read(terminal, 4096):
            found += piece
    return found.decode()


@contextmanager
def terminal() -> Iterator[tuple[TextIO, list[str]]]:
    """A terminal's stream, and, after the block, all that was written to it."""
    ours, theirs = os.openpty()
    written: list[str] = []

    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read_all, ours)
        with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
            yield stream, written
        written.append(reading.result())
    os.close(ours)
