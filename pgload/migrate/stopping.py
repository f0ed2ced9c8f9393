"""Ctrl-C, and being asked to end: once in good order, a second time at once."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any, Self

INTERRUPTED = 130  # exit code
SIGNALS = [signal.SIGINT, signal.SIGTERM] + (
    [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # the terminal is gone
)


class Stopping:
    """Turns the first signal into a `KeyboardInterrupt`, until `ignore_first_signal`.

    The second one exits.

    What is ignored stays so, as SIGHUP is under nohup.
    """

    def __init__(self) -> None:
        self._asked = self._finishing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore_first_signal(self) -> None:
        """From now on what is left to do takes no longer than to stop would."""
        self._finishing = True

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            os._exit(INTERRUPTED)  # the server rolls back what was not committed
        self._asked = True
        if not self._finishing:
            raise KeyboardInterrupt
