"""Ctrl-C ends a run in good order, wherever it comes."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from pgload.bench.session import Interrupts


@pytest.fixture
def session() -> Any:
    """What a session needs here."""
    return SimpleNamespace(shouldstop=False)


def test_between_loads(session: Any) -> None:
    """The session stops after the current test; nothing long begins any more."""
    interrupts = Interrupts()
    with interrupts.handled(session):
        signal.raise_signal(signal.SIGINT)
        assert session.shouldstop == "Ctrl-C"
        with pytest.raises(pytest.exit.Exception, match="Ctrl-C"):
            interrupts.interruptible(lambda: pytest.fail("it began"))


def test_twice(session: Any) -> None:
    """A second signal acts at once."""
    with Interrupts().handled(session):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_within_a_load(session: Any) -> None:
    """A load is interrupted at once, with pytest's exit code of an interrupted run."""
    interrupts, before = Interrupts(), signal.getsignal(signal.SIGINT)
    with interrupts.handled(session):
        assert interrupts.interruptible(lambda: 7) == 7
        with pytest.raises(pytest.exit.Exception) as raised:
            interrupts.interruptible(lambda: signal.raise_signal(signal.SIGINT))
        assert raised.value.returncode == pytest.ExitCode.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before
