"""A migration on the screen: a bar with a few labelled lines on a terminal, else plain lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, TextIO, TypeVar

from pgload.contract import duration, one_line
from pgload.migrate.outputs.progress import ConnectionState, Snapshot

if TYPE_CHECKING:
    from rich.progress import Progress

BAR_EVERY = 0.25  # seconds; a snapshot is not renewed more often
LINE_EVERY = 5.0
WIDTH = 80  # of a terminal, in columns
NORMAL_STATES = ("writing", "waiting")  # of connections

State = TypeVar("State")


def say(text: str) -> None:
    """Print a line."""
    print(one_line(text), flush=True)


def filled(parts: Iterable[str], indent: str = "  ", first: str | None = None) -> Iterator[str]:
    """The parts with commas between them, as many in a line as `WIDTH` columns take.

    `first` is what the first line begins with, instead of the indent.
    """
    from rich.cells import cell_len  # of some characters is 2

    line, separator = indent if first is None else first, ""
    for part in map(one_line, parts):
        if separator and cell_len(line + separator + part) >= WIDTH:
            yield f"{line},"
            line, separator = indent, ""
        line, separator = line + separator + part, ", "
    yield line


def show_progress(
    snapshot: Callable[[], Snapshot], stream: TextIO | None = None
) -> AbstractContextManager[None]:
    """Show `snapshot()` on `stream` (standard error) again and again while the block runs."""
    return show_state(snapshot, stream, update_bar=update_bar, line=line)


@contextmanager
def show_state(
    get_state: Callable[[], State],
    stream: TextIO | None = None,
    *,
    update_bar: Callable[[Progress, State], None],
    line: Callable[[State], str],
) -> Iterator[None]:
    """Show `get_state()` again and again, by `update_bar` on a terminal, else by `line`.

    What is printed in the meantime appears above the bar. A terminal that is closed, or the end of
    a pipe, ends the display, not the block.
    """
    stream, stopped = stream or sys.stderr, Event()

    def keep_showing() -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            # A dumb terminal cannot move its cursor up.
            is_bar = stream.isatty() and os.environ.get("TERM") != "dumb"
            with _bar(stream, update_bar) if is_bar else _lines(stream, line) as show:
                while not stopped.wait(BAR_EVERY if is_bar else LINE_EVERY):
                    show(get_state())
                show(get_state())

    thread = Thread(target=keep_showing, name="pgload-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def _lines(stream: TextIO, line: Callable[[State], str]) -> Iterator[Callable[[State], None]]:
    yield lambda state: print(line(state), file=stream, flush=True)


@contextmanager
def _bar(
    stream: TextIO, update: Callable[[Progress, State], None]
) -> Iterator[Callable[[State], None]]:
    bar = make_bar(stream)

    def show(state: State) -> None:
        update(bar, state)
        bar.start()
        bar.console.show_cursor(True)  # rich hides it, and a killed process leaves it hidden
        bar.refresh()

    try:
        yield show
    finally:
        bar.stop()


def make_bar(stream: TextIO) -> Progress:
    """A `rich` progress display: in each row a label, and a bar or a text.

    It is without colours where NO_COLOR is set.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, Task, TextColumn
    from rich.progress_bar import ProgressBar
    from rich.table import Column
    from rich.text import Text

    class BarOrText(BarColumn):
        def render(self, task: Task) -> ProgressBar | Text:  # type: ignore[override]
            if "text" not in task.fields:
                return super().render(task)
            return Text(task.fields["text"], style=task.fields["style"])

    one_row = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", style="dim"),
        BarOrText(bar_width=None, table_column=one_row),
        console=Console(file=stream, highlight=False),
        auto_refresh=False,
        expand=True,
    )


def update_bar(bar: Progress, snapshot: Snapshot) -> None:
    """Show a snapshot: the first task is the bar, the others a text each."""
    files = f"{snapshot.files_completed + snapshot.files_failed} of {snapshot.total_files} done"
    texts = {
        "records": _records(snapshot),
        "speed": _speeds(snapshot),
        "rejected": f"{snapshot.rejects:,} records{_retries(snapshot)}",
        "connections": _connections(snapshot.connections),
        "files": f"{files}, {one_line(snapshot.current_file or 'none begun')}",
    }
    if not bar.tasks:
        bar.add_task("progress", total=100)
        for label in texts:
            bar.add_task(label, total=None, text="", style="")
    first, *others = bar.tasks
    bar.update(first.id, completed=snapshot.percent)
    for task in others:
        red = task.description == "rejected" and snapshot.rejects
        bar.update(task.id, text=texts[task.description], style="red" if red else "")


def line(snapshot: Snapshot) -> str:
    """The run in one line, like

    1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, 0 rejected
    """
    parts = [_records(snapshot), f"{snapshot.records_per_second:,.0f} records/s"]
    if snapshot.eta_seconds is not None and snapshot.status == "running":
        parts.append(f"{duration(snapshot.eta_seconds)} left")
    for name in ("updated", "skipped", "suppressed"):
        if number := getattr(snapshot, name):
            parts.append(f"{number:,} {name}")
    parts.append(f"{snapshot.rejects:,} rejected{_retries(snapshot)}")
    others = [each for each in snapshot.connections if each.state not in NORMAL_STATES]
    if others and snapshot.status == "running":
        parts.append(f"connections: {_connections(others)}")
    return ", ".join(parts)


def _records(snapshot: Snapshot) -> str:
    # Rounded down, so that 100% means all of them.
    return (
        f"{snapshot.total_records_processed:,} of {snapshot.total_records:,} records "
        f"({int(snapshot.percent)}%)"
    )


def _speeds(snapshot: Snapshot) -> str:
    left = "" if snapshot.eta_seconds is None else f", {duration(snapshot.eta_seconds)} left"
    return (
        f"{snapshot.records_per_second:,.0f} records/s now, "
        f"{snapshot.average_records_per_second:,.0f} on average"
        f"{left if snapshot.status == 'running' else ''}"
    )


def _retries(snapshot: Snapshot) -> str:
    return f", {snapshot.retries:,} retries" if snapshot.retries else ""


def _connections(connections: Iterable[ConnectionState]) -> str:
    """How many are in which state, and how long the longest if that is long: `3 lost (12 s)`."""
    states: dict[str, list[float]] = {}
    for each in connections:
        states.setdefault(one_line(each.state), []).append(each.seconds)
    return ", ".join(
        f"{len(seconds)} {state}"
        + (f" ({duration(max(seconds))})" if max(seconds) >= LINE_EVERY else "")
        for state, seconds in states.items()
    )
