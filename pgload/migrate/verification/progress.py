"""How far a verification is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pgload.contract import duration, one_line
from pgload.migrate.console import Display

WINDOW = 10.0  # seconds that the speed is measured over


class VerifyProgress:
    """Counts the records that were sent to the server.

    `on_add` is called whenever there are more than ever before. One thread counts; another one may
    read.
    """

    def __init__(self, total: int, on_add: Callable[[], None] = lambda: None) -> None:
        self.total = total
        self.done = self._furthest = 0
        self.state = "none begun"  # the file that is read, or what the server does
        self._on_add = on_add
        self._recent = deque([(time.monotonic(), 0)], maxlen=1000)

    def add(self, records: int) -> None:
        """More records were compared."""
        self.done += records
        self._recent.append((time.monotonic(), self.done))
        while len(self._recent) > 2 and self._recent[1][0] <= self._recent[-1][0] - WINDOW:
            self._recent.popleft()
        if self.done > self._furthest:
            self._furthest = self.done
            self._on_add()

    def restart(self, done: int) -> None:
        """The records after the first `done` are compared again."""
        self.done = done
        self._recent.clear()
        self._recent.append((time.monotonic(), done))

    @property
    def percent(self) -> float:
        """The share of the records that are compared."""
        return 100 * self.done / self.total if self.total else 100.0

    @property
    def records_per_second(self) -> float:
        """The speed of the last `WINDOW` seconds."""
        (then, before), (now, after) = self._recent[0], self._recent[-1]
        return (after - before) / (now - then) if now > then else 0.0

    @property
    def display(self) -> Display:
        """What is shown."""
        speed, left = self.records_per_second, ""
        if speed and self.done < self.total:
            left = f", {duration((self.total - self.done) / speed)} left"
        texts = {
            "compared": f"{self.done:,} of {self.total:,} records ({int(self.percent)}%)",
            "speed": f"{speed:,.0f} records/s{left}",
            "now": one_line(self.state),
        }
        return Display(self.percent, texts, line=f"compared {', '.join(texts.values())}")
