"""What a running migration shows: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.contract import PROGRESS
from pgload.migrate.console import make_bar, show, update_bar
from pgload.migrate.outputs.display import display
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import ConnectionState, FileFacts, Snapshot
from tests.support.migrating import MigrationSandbox
from tests.support.running import content, facts, stat
from tests.support.terminal import read_all, terminal

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
        "records_by_others": 0,
        "skipped": 0,
        "updated": 0,
        "suppressed": 0,
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
            "1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, 0 rejected",
        ),
        (
            {"percent": 99.99, "eta_seconds": None, "retries": 3},
            "1,000,000 of 5,000,000 records (99%), 41,000 records/s, 0 rejected, 3 retries",
        ),
        (
            {"connections": LOST, "rejects": 1200},
            "1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, "
            "1,200 rejected, connections: 1 lost (12 s)",
        ),
        (
            {"skipped": 5, "updated": 7, "suppressed": 1},
            "1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, "
            "7 updated, 5 skipped, 1 suppressed, 0 rejected",
        ),
        (
            {"status": "completed", "connections": LOST, "eta_seconds": 0.0},
            "1,000,000 of 5,000,000 records (20%), 41,000 records/s, 0 rejected",
        ),
    ],
)
def test_line(changes: dict[str, Any], expected: str) -> None:
    """A line has the records, the speed, the time left, rejects, and connections with errors."""
    assert display(snapshot(**changes)).line == expected


def test_no_terminal() -> None:
    """Without a terminal there are lines without control characters, the last one at the end."""
    stream = io.StringIO()
    now = [snapshot()]
    with show(lambda: display(now[0]), stream):
        now[0] = snapshot(status="completed", total_records_processed=5_000_000, percent=100.0)
    text = stream.getvalue()
    assert text.endswith("5,000,000 of 5,000,000 records (100%), 41,000 records/s, 0 rejected\n")
    assert not CONTROL.search(text)


def test_terminal() -> None:
    """On a terminal there is a bar, with records, speed, rejects, connections and files."""
    now = snapshot(connections=LOST, rejects=7, current_file="입찰공고.json")
    with terminal() as (stream, written), show(lambda: display(now), stream):
        pass
    text = written[0]
    for expected in (
        "━━━",
        "1,000,000 of 5,000,000 records (20%)",
        "41,000 records/s now, 39,500 on average, 1 min 38 s left",
        "7 records",
        "2 writing, 1 lost (12 s)",
        "1 of 5 done, 입찰공고.json",
    ):
        assert expected in text
    assert COLOUR.search(text)
    # The cursor is shown from the first picture on, since a killed process cannot show it.
    assert text.index("\x1b[?25h") < text.rindex("━━━")


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR the bar is without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as (stream, written), show(lambda: display(snapshot(rejects=1)), stream):
        pass
    assert "20%" in written[0]
    assert not COLOUR.search(written[0])


def test_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot move its cursor up gets plain lines."""
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as (stream, written), show(lambda: display(snapshot()), stream):
        pass
    assert written[0] == f"{display(snapshot()).line}\r\n"


@given(name=st.text(), state=st.text(min_size=1))
def test_hostile_text(name: str, state: str) -> None:
    """No file name and no state can steer the terminal, in a line or in the bar."""
    now = snapshot(current_file=name, connections=(ConnectionState(0, state, 0.0),))
    stream = io.StringIO()
    bar = make_bar(stream)
    update_bar(bar, display(now))
    bar.console.print(bar)
    assert not CONTROL.search(stream.getvalue())
    assert not CONTROL.search(display(now).line)


def test_screen_that_is_gone() -> None:
    """A closed terminal, or the end of a pipe, ends the display and not the migration."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:  # noqa: PTH123
        with show(lambda: display(snapshot()), stream):
            done = True
        with pytest.raises(BrokenPipeError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
    closed = io.StringIO()
    closed.close()
    with show(lambda: display(snapshot()), closed):
        assert done


def test_agrees_with_the_file(tmp_path: Path) -> None:
    """The last line shows the content of the progress file."""
    stream = io.StringIO()
    with Outputs(tmp_path, facts()) as out, show(lambda: display(out.snapshot), stream):
        out.file_started(FileFacts("a.json", "t"))
        for n in range(3):
            out.batch(stat(n))
        out.finish("interrupted")
    progress = content(tmp_path, PROGRESS)
    del progress["files"]
    connections = tuple(ConnectionState(**each) for each in progress.pop("connections"))
    assert stream.getvalue() == f"{display(Snapshot(connections=connections, **progress)).line}\n"
    assert stream.getvalue().startswith("3,000 of 5,000 records (60%), ")


def test_on_a_terminal(sandbox: MigrationSandbox) -> None:
    """On a terminal the command shows a bar, and then the summary."""
    sandbox.numbers("t.json", 500)
    ours, theirs = os.openpty()
    environment = sandbox.environment | {"TERM": "xterm"}
    with sandbox.start(stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = read_all(ours)
    os.close(ours)
    assert process.returncode == 0
    assert "500 of 500 records (100%)" in shown
    assert "completed: 500 read, 500 written, 0 updated, 0 skipped, 0 rejected" in shown


@pytest.mark.parametrize("width", [40, 80])
def test_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is one line: at 80 columns complete but for long names, else with an ellipsis."""
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    bar = make_bar(stream)
    update_bar(
        bar, display(snapshot(current_file="x" * 200, connections=LOST * 20, retries=12_345))
    )
    bar.console.print(bar)
    lines = stream.getvalue().splitlines()
    assert [each.split()[0] for each in lines] == [
        "progress", "records", "speed", "rejected", "connections", "files",
    ]  # fmt: skip
    assert max(map(len, lines)) <= width
    assert [each.rstrip().endswith("…") for each in lines][-1]
    if width == 80:
        assert not any("…" in each for each in lines[:-1])
