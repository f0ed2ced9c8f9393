"""Signals that stop a migration: the first one cleanly, the second one at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from types import FrameType
from typing import Any, Self

INTERRUPTED = 128 + signal.SIGINT  # the exit code
CANCEL_INTERVAL = 0.2  # seconds


class StopOnSignal:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a `KeyboardInterrupt`; the second one exits.

    A signal that is ignored stays ignored, as SIGHUP is under nohup. Python runs a signal's handler
    when the main thread returns from the driver, which waits for the server as long as a lock is
    held. So a thread notices every signal, too, and calls `cancel` until the handler has run.
    """

    _NUMBERS = tuple(
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP: the terminal was closed
        if hasattr(signal, name)
    )

    def __init__(self, cancel: Callable[[], None] = lambda: None) -> None:
        self.cancel = cancel  # what the main thread waits for; called in another thread
        self._handled = Event()
        self._first_ignored = False
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._former = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        Thread(target=self._listen, name="pgload-signals", daemon=True).start()
        for number in self._NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._replaced[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former)
        os.close(self._write_end)  # ends the thread

    def ignore_first(self) -> None:
        """Do not interrupt any more: what is left takes no longer than stopping would."""
        self._first_ignored = True

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._handled.is_set():
            os._exit(INTERRUPTED)  # the server rolls back what was not committed
        self._handled.set()
        if not self._first_ignored:
            raise KeyboardInterrupt

    def _listen(self) -> None:
        """Read the numbers of the signals that arrive, until the pipe is closed."""
        heard = 0
        while data := os.read(self._read_end, 1):
            if data[0] not in self._replaced:
                continue
            heard += 1
            if heard > 1:
                os._exit(INTERRUPTED)
            if not self._first_ignored:
                # In a thread: where the network is gone, to cancel may take minutes.
                Thread(target=self._cancel, name="pgload-cancel", daemon=True).start()
        os.close(self._read_end)

    def _cancel(self) -> None:
        while True:
            with suppress(Exception):  # a connection that is closed meanwhile
                self.cancel()
            if self._handled.wait(CANCEL_INTERVAL):
                return
