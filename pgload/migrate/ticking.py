"""A thread that does, a few times a second, what other threads have left for it to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Event, Thread

Deed = Callable[[], None]


class Ticking:
    """Does what was put, in order, then `tick`, every `seconds`, until it is stopped.

    What goes wrong in it is its `trouble` and ends it; `put` raises that, so that a worker learns
    that nobody listens any more.
    """

    def __init__(self, tick: Deed, *, seconds: float, most: int) -> None:
        self._tick = tick
        self._seconds = seconds
        self._most = most
        self._waiting: deque[Deed] = deque()
        self._room = Condition()
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="pgload-outputs", daemon=True)
        self.trouble: Exception | None = None
        self.told = False  # of the trouble

    def start(self) -> None:
        """Begin; what was put before is done first."""
        self._thread.start()

    def add(self, deed: Deed) -> None:
        """Leave something to do, at once and whatever may be wrong."""
        self._waiting.append(deed)

    def put(self, deed: Deed) -> None:
        """Leave something to do; wait while there is too much of it. Raises the trouble."""
        if len(self._waiting) >= self._most:
            with self._room:
                self._room.wait_for(self._has_room)
        self.check()
        self._waiting.append(deed)

    def check(self) -> None:
        """Raise the trouble, if there is one."""
        if self.trouble is not None:
            self.told = True
            raise self.trouble

    def stop(self) -> None:
        """Let the thread end. What is left to do, `do_all` does."""
        self._stopped.set()
        self._thread.join()
        self._make_room()

    def do_all(self) -> None:
        """Do what was put up to now; for one thread at a time."""
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.do_all()
                self._tick()
            except Exception as trouble:  # a bug, too, must not go unnoticed
                self.trouble = trouble
                return
            finally:
                self._make_room()

    def _has_room(self) -> bool:
        going = self.trouble is None and not self._stopped.is_set()
        return not going or len(self._waiting) < self._most

    def _make_room(self) -> None:
        with self._room:
            self._room.notify_all()
