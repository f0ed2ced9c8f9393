"""What a running migration shows: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import duration
from pgload.migrate.console import bar, line, shown
from pgload.migrate.outputs import Outputs
from pgload.migrate.progress import ConnectionState, FileFacts, RunFacts, Snapshot, Tally
from tests.support.running import content, facts, stat

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
COLOUR = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8])[;m]")


def snapshot(**changes: Any) -> Snapshot:
    """A million of five million records, in."""
    usual: dict[str, Any] = {
        "status": "running",
        "current_file": "a.json",
        "current_batch": 1000,
        "files_completed": 1,
        "files_failed": 0,
        "total_files": 5,
        "total_records_processed": 1_000_000,
        "records_before": 0,
        "records_failed": 0,
        "rejects": 0,
        "retries": 0,
        "total_records": 5_000_000,
        "percent": 20.0,
        "records_per_second": 41_000.4,
        "average_records_per_second": 39_500.0,
        "eta_seconds": 97.6,
        "elapsed_seconds": 25.3,
        "batch_size": 1000,
        "num_connections": 2,
        "connections": (ConnectionState(0, "writing", 0.1), ConnectionState(1, "waiting", 0.2)),
        "method": "copy",
        "cloud_provider": "GCP",
        "instance_type": None,
        "resumed": False,
        "start_time": "2025-01-15T10:30:00.000000+09:00",
        "last_update": "2025-01-15T10:30:25.300000+09:00",
        "pid": 1,
        "run": "migration_outputs/runs/2025-01-15T01-30-00Z",
    }
    return Snapshot(**usual | changes)


LOST = (
    ConnectionState(0, "writing", 0.1),
    ConnectionState(1, "lost", 12.2),
    ConnectionState(2, "writing", 0.3),
)


@contextmanager
def terminal() -> Iterator[tuple[TextIO, list[str]]]:
    """A terminal's stream, and, after the block, all that was written to it."""
    ours, theirs = os.openpty()
    written: list[str] = []

    def read() -> str:
        found = b""
        try:
            while piece := os.read(ours, 4096):
                found += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        return found.decode()

    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read)
        with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123
            yield stream, written
        written.append(reading.result())
    os.close(ours)


@pytest.fixture(autouse=True)
def _usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, 0 failed",
        ),
        (
            {"total_records": None, "percent": 99.99, "eta_seconds": None, "retries": 3},
            "1,000,000 records (99%), 41,000 records/s, 0 failed, 3 retries",
        ),
        (
            {"connections": LOST, "records_failed": 1200, "percent": None, "total_records": None},
            "1,000,000 records, 41,000 records/s, 1 min 38 s left, 1,200 failed, "
            "1 of 3 connections lost",
        ),
        (
            {"status": "completed", "connections": LOST, "eta_seconds": 0.0},
            "1,000,000 of 5,000,000 records (20%), 41,000 records/s, 0 failed",
        ),
    ],
)
def test_line(changes: dict[str, Any], expected: str) -> None:
    """A line says how far it is, how fast, how long still, and what goes wrong."""
    assert line(snapshot(**changes)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (98, "1 min 38 s"),
        (7500, "2 h 5 min"),
        (360_000, "4 d 4 h"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    """Two units are enough."""
    assert duration(seconds) == expected


def test_no_terminal() -> None:
    """Without a terminal there are lines without a control character, the last at the end."""
    stream = io.StringIO()
    now = [snapshot()]
    with shown(lambda: now[0], stream):
        now[0] = snapshot(status="completed", total_records_processed=5_000_000, percent=100.0)
    text = stream.getvalue()
    assert text.endswith("5,000,000 of 5,000,000 records (100%), 41,000 records/s, 0 failed\n")
    assert not CONTROL.search(text)


def test_terminal() -> None:
    """On a terminal a bar tells of records, speeds, files, failures and each connection."""
    now = snapshot(connections=LOST, records_failed=7, current_file="입찰공고.json")
    with terminal() as (stream, written), shown(lambda: now, stream):
        pass
    text = written[0]
    for expected in (
        "━━━",
        "1,000,000 of 5,000,000 records (20%)",
        "41,000 records/s now, 39,500 on average, 1 min 38 s left",
        "7 failed",
        "writing: 0 2; lost: 1 (12 s)",
        "1 of 5 done, 입찰공고.json",
    ):
        assert expected in text
    assert COLOUR.search(text)
    # Shown again at once, so that a killed process leaves a cursor behind.
    assert text.index("\x1b[?25h") < text.index("━━━")


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is respected."""
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as (stream, written), shown(lambda: snapshot(records_failed=1), stream):
        pass
    assert "20%" in written[0]
    assert not COLOUR.search(written[0])


def test_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot go back a line gets plain lines."""
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as (stream, written), shown(snapshot, stream):
        pass
    assert written[0] == f"{line(snapshot())}\r\n"


@given(name=st.text(), state=st.text(min_size=1))
def test_hostile_text(name: str, state: str) -> None:
    """No name and no state steers the terminal, neither in a line nor in the bar."""
    from rich.console import Console

    now = snapshot(current_file=name, connections=(ConnectionState(0, state, 0.0),))
    stream = io.StringIO()
    Console(file=stream, width=90).print(bar(now))
    assert not CONTROL.search(stream.getvalue())
    assert not CONTROL.search(line(now))


def test_screen_that_is_gone() -> None:
    """A closed terminal, or the end of a pipe, ends the showing and not the migration."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:  # noqa: PTH123
        with shown(snapshot, stream):
            done = True
        with pytest.raises(BrokenPipeError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
    closed = io.StringIO()
    closed.close()
    with shown(snapshot, closed):
        assert done


def test_agrees_with_the_file(tmp_path: Path) -> None:
    """What is shown at the end is what stands in the progress file."""
    stream = io.StringIO()
    with Outputs(tmp_path, facts()) as out, shown(lambda: out.snapshot, stream):
        out.file_started(FileFacts("a.json", "t", records=5000))
        for n in range(3):
            out.batch(stat(n))
        out.finish("interrupted")
    progress = content(tmp_path, "migration_progress.json")
    connections = tuple(ConnectionState(**each) for each in progress.pop("connections"))
    assert stream.getvalue() == f"{line(Snapshot(connections=connections, **progress))}\n"
    assert stream.getvalue().startswith("3,000 of 5,000 records (60%), ")
    assert json.dumps(progress)


@given(ends=st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 5000)), min_size=1, max_size=20))
def test_speed_and_remaining_time(ends: list[tuple[float, int]]) -> None:
    """Speed now is that of the last seconds, and what is left is divided by it."""
    total = sum(records for _, records in ends) + 1000
    tally = Tally(RunFacts(**{**vars(facts()), "total_records": total}))
    now, moments = 0.0, [(0.0, 0)]
    for number, (seconds, records) in enumerate(ends):
        now += seconds
        tally.batch(stat(number, records=records))
        moments.append((now, tally.records))
        found = tally.snapshot(
            "running", begin=0.0, now=now, start_time="", last_update="", pid=1, run=""
        )
        assert found.average_records_per_second == pytest.approx(tally.records / now, abs=0.06)
        then, before = max(each for each in moments if each[0] <= max(now - 10, 0))
        speed = (tally.records - before) / (now - then)
        assert found.records_per_second == pytest.approx(speed, abs=0.06)
        if speed:
            left = (total - tally.records) / speed
            assert found.eta_seconds == pytest.approx(left, abs=0.06)
        else:
            assert found.eta_seconds is None
        assert found.percent is not None
        assert found.percent < 100
