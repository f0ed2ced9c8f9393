"""A running migration on the screen: a bar on a terminal, now and then a line anywhere else."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, TextIO

from pgload.contract import duration, one_line
from pgload.migrate.progress import Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_EVERY = 0.25  # seconds; the snapshot is not renewed more often
LINE_EVERY = 5.0
USUAL = {"writing", "waiting"}  # states of a connection that are no news
LABELS = 12  # width of what stands before the bar's lines

Show = Callable[[Snapshot], None]


def say(text: str) -> None:
    """Print a line. A reader that has read enough, as `| head`, ends nothing."""
    try:
        print(one_line(text), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def shown(snapshot: Callable[[], Snapshot], stream: TextIO | None = None) -> Iterator[None]:
    """Show what `snapshot` gives on `stream` (standard error) as long as the block runs.

    What the program prints meanwhile appears above the bar. A screen that is gone ends the showing
    and not the migration.
    """
    over = Event()
    thread = Thread(
        target=_keep_showing,
        args=(stream or sys.stderr, snapshot, over),
        name="pgload-progress",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keep_showing(stream: TextIO, snapshot: Callable[[], Snapshot], over: Event) -> None:
    # ValueError is what a closed stream raises.
    with suppress(OSError, ValueError):
        # A dumb terminal cannot go back a line.
        on_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        with (_bar if on_terminal else _lines)(stream) as show:
            while not over.wait(BAR_EVERY if on_terminal else LINE_EVERY):
                show(snapshot())
            show(snapshot())


@contextmanager
def _lines(stream: TextIO) -> Iterator[Show]:
    yield lambda snapshot: print(line(snapshot), file=stream, flush=True)


@contextmanager
def _bar(stream: TextIO) -> Iterator[Show]:
    from rich.console import Console
    from rich.live import Live

    # It has no colours where NO_COLOR is set.
    console = Console(file=stream, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        console.show_cursor(True)  # which a killed process could not bring back
        yield lambda snapshot: live.update(bar(snapshot), refresh=True)


def line(snapshot: Snapshot) -> str:
    """The run in one line, like

    1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, 0 failed
    """
    parts = [_amount(snapshot), f"{snapshot.records_per_second:,.0f} records/s"]
    if snapshot.eta_seconds is not None and snapshot.status == "running":
        parts.append(f"{duration(snapshot.eta_seconds)} left")
    parts.append(_failures(snapshot))
    if snapshot.status == "running":
        trouble = Counter(each.state for each in snapshot.connections)
        for state in trouble.keys() - USUAL:
            parts.append(f"{trouble[state]} of {trouble.total()} connections {one_line(state)}")
    return ", ".join(parts)


def bar(snapshot: Snapshot) -> RenderableType:
    """The run as a few lines for a terminal, the first of them a bar."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rows: list[tuple[str, RenderableType]] = [
        ("records", Text(_amount(snapshot))),
        ("speed", Text(_speeds(snapshot))),
        ("failures", Text(_failures(snapshot), style="red" if snapshot.records_failed else "")),
        ("connections", Text(_connections(snapshot))),
    ]
    if snapshot.percent is not None:
        rows.insert(0, ("", ProgressBar(total=100, completed=snapshot.percent)))
    files = f"{snapshot.files_completed + snapshot.files_failed} of {snapshot.total_files} done"
    rows.append(("files", Text(f"{files}, {one_line(snapshot.current_file or 'none begun')}")))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=LABELS, style="dim")
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for label, shows in rows:
        grid.add_row(label, shows)
    return grid


def _amount(snapshot: Snapshot) -> str:
    of = "" if snapshot.total_records is None else f" of {snapshot.total_records:,}"
    # Rounded down, so that 100% are all of them.
    share = "" if snapshot.percent is None else f" ({int(snapshot.percent)}%)"
    return f"{snapshot.total_records_processed:,}{of} records{share}"


def _speeds(snapshot: Snapshot) -> str:
    left = "" if snapshot.eta_seconds is None else f", {duration(snapshot.eta_seconds)} left"
    return (
        f"{snapshot.records_per_second:,.0f} records/s now, "
        f"{snapshot.average_records_per_second:,.0f} on average"
        f"{left if snapshot.status == 'running' else ''}"
    )


def _failures(snapshot: Snapshot) -> str:
    retries = f", {snapshot.retries:,} retries" if snapshot.retries else ""
    return f"{snapshot.records_failed:,} failed{retries}"


def _connections(snapshot: Snapshot) -> str:
    """The connections by what they do, and since when where that may be trouble."""
    states: dict[str, list[str]] = {}
    for each in snapshot.connections:
        long = f" ({duration(each.seconds)})" if each.seconds >= LINE_EVERY else ""
        states.setdefault(one_line(each.state), []).append(f"{each.worker}{long}")
    return "; ".join(f"{state}: {' '.join(workers)}" for state, workers in states.items())
