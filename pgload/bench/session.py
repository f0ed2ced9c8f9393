"""What the hooks, fixtures and benchmarks of one run share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

from pgload.errors import PgloadError

if TYPE_CHECKING:
    from pgload.bench.console import BenchConsole
    from pgload.bench.drift import DriftProbe
    from pgload.bench.finals import Finalist
    from pgload.bench.journal import Journal
    from pgload.bench.measure import Pass
    from pgload.bench.options import BenchOptions
    from pgload.bench.search import Search
    from pgload.contract import Setting

Result = TypeVar("Result")


class Interrupts:
    """Handles SIGINT: outside of `interruptible` the run stops after the current test.

    A second signal, or one within `interruptible`, acts at once.
    """

    def __init__(self) -> None:
        self._requested = False
        self._immediate = False

    @contextmanager
    def handled(self, session: pytest.Session) -> Iterator[None]:
        """Handle SIGINT in the block, which runs the session's tests."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self._immediate or self._requested:
                signal.default_int_handler(number, frame)
            self._requested = True
            session.shouldstop = "Ctrl-C"

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def interruptible(self, work: Callable[[], Result]) -> Result:
        """Call `work`, which SIGINT may end at any point; fixtures are then still torn down."""
        try:
            try:
                self._immediate = True
                if self._requested:
                    raise KeyboardInterrupt
                return work()
            finally:
                self._immediate = False
        except KeyboardInterrupt:
            # Raised here because pytest cannot show a traceback of every place a signal can hit.
            raise pytest.exit.Exception("Ctrl-C", pytest.ExitCode.INTERRUPTED) from None


@dataclass
class BenchSession:
    """The state of a run of benchmarks; a test is named by its id without the pass."""

    options: BenchOptions
    console: BenchConsole
    interrupts: Interrupts = field(default_factory=Interrupts)
    probes: dict[str, DriftProbe] = field(default_factory=dict)  # by cloud
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)  # facts, by cloud
    unavailable: dict[str, str] = field(default_factory=dict)  # cloud -> why it is not measured
    passes: dict[str, list[Pass]] = field(default_factory=dict)  # measured, by test
    settings: dict[str, tuple[str, Setting]] = field(default_factory=dict)  # and clouds, by test
    finals: list[Finalist] = field(default_factory=list)  # measured after the last pass
    not_measured: list[dict[str, Any]] = field(default_factory=list)  # settings, each with a reason
    journal: Journal | None = None
    search: Search | None = None  # with --search
    output: dict[str, Any] | None = None  # pytest-benchmark's JSON of the run

    @property
    def out_of_time(self) -> str:
        """Why the settings that are left are not measured once the time of the run is over."""
        return f"the {self.options.max_time:g} s of --max-time are over; --resume measures the rest"

    def stop(self, error: PgloadError) -> NoReturn:
        """Write what is wrong, and end the run."""
        self.console.line(f"pgload: {error}")
        pytest.exit("stopped", returncode=2)


SESSION = pytest.StashKey[BenchSession]()  # set only in a run of benchmarks
