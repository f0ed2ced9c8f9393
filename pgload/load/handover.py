"""A queue between threads that can be stopped from either side without a time-out."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """Hands items over in order; `put` waits while `limit` items wait to be taken."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._finished = self._stopped = False
        self._changed = Condition()

    def put(self, item: Item) -> bool:
        """Add an item; gives False, and drops it, once the queue is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._items) < self._limit)
            if self._stopped:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> Item | None:
        """The next item; None once the queue is stopped, or is finished and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._finished or self._items)
            if self._stopped or not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that no item will follow."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Give up: items that wait are not handed over any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
