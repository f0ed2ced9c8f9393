"""Where the time of a load went: reading, encoding, writing, committing, waiting."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pgload.load.stats import LoadResult

Item = TypeVar("Item")


class Timed(Generic[Item]):
    """Passes items on and counts the seconds that it takes to get them.

    reading = Timed((table, batch) for batch in read_batches(path, 1000))
    result = migrator.run(reading)
    profile(result, read=reading.seconds)
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        start = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - start


def profile(result: LoadResult, read: float = 0.0) -> dict[str, float]:
    """Seconds of one load by what they went into, each summed over its threads.

    `read` and `encode` are one thread's. `write`, `commit` and `wait` are the connections' and add
    up to the load's seconds times their number: `wait` is what they waited for an encoded batch.
    """
    write, commit = result.total("write"), result.total("commit")
    return {
        "read": read,
        "encode": result.total("encode"),
        "write": write,
        "commit": commit,
        "wait": max(0.0, result.seconds * result.connections - write - commit),
    }
