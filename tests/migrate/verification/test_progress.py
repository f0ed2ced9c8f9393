"""How far a verification is, in lines and as a bar."""

from __future__ import annotations

from io import StringIO

import pytest

from pgload.migrate.console import show
from pgload.migrate.verification.progress import VerifyProgress
from tests.support.terminal import terminal


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed is that of the last seconds; only records that are new count as progress."""
    now, progressed = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = VerifyProgress(10_000, lambda: progressed.append(progress.done))
    for _ in range(4):
        now[0] += 2
        progress.add(1000)
    assert progress.display.texts == {
        "compared": "4,000 of 10,000 records (40%)",
        "speed": "500 records/s, 12 s left",
        "now": "none begun",
    }
    progress.restart(0)
    now[0] += 2
    progress.add(3000)
    assert progress.display.texts["compared"] == "3,000 of 10,000 records (30%)"
    progress.add(3000)
    assert progressed == [1000, 2000, 3000, 4000, 6000]


def test_lines() -> None:
    """Without a terminal the state is a line, the last one at the end."""
    stream, progress = StringIO(), VerifyProgress(200)
    with show(lambda: progress.display, stream):
        progress.state = "t.json"
        progress.add(200)
    assert stream.getvalue().startswith("compared 200 of 200 records (100%), ")
    assert stream.getvalue().endswith(" records/s, t.json\n")


def test_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is a bar with the records, the speed and what is compared now."""
    monkeypatch.setenv("TERM", "xterm-256color")
    progress = VerifyProgress(200)
    progress.state = "t.json"
    with terminal() as (stream, written), show(lambda: progress.display, stream):
        progress.add(50)
    for expected in ("━━━", "50 of 200 records (25%)", "t.json"):
        assert expected in written[0]
