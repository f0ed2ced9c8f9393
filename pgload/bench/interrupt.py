"""Ctrl-C in a benchmark run: at once while our own work goes on, else at the next test's end.

Between two lines of pytest's own code an interrupt can leave its output capturing half switched,
which ends the run as an internal error and loses what was measured.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self, TypeVar

import pytest

INTERRUPTED = 2  # pytest's exit code
Result = TypeVar("Result")


class Interrupts:
    """Takes SIGINT while it is entered. A second one, while the first is waiting, acts at once."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._at_once = False

    def __enter__(self) -> Self:
        self._before: Any = signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self._session.shouldstop:
            signal.default_int_handler(number, frame)
        self._session.shouldstop = "Ctrl-C"

    def allow(self, work: Callable[[], Result]) -> Result:
        """Do work that an interrupt may end at any moment; the run then ends in good order."""
        try:
            try:
                self._at_once = True
                if self._session.shouldstop:
                    raise KeyboardInterrupt
                return work()
            finally:
                self._at_once = False
        except KeyboardInterrupt:
            # From here, because pytest cannot show every place that a signal can hit.
            raise pytest.exit.Exception("Ctrl-C", INTERRUPTED) from None


INTERRUPTS = pytest.StashKey[Interrupts]()
