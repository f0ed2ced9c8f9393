"""What commands print: lines, and a display of their progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple, TextIO

from pgload.contract import one_line

if TYPE_CHECKING:
    from rich.progress import Progress

BAR_EVERY = 0.25  # seconds; a snapshot is not renewed more often
LINE_EVERY = 5.0
WIDTH = 80  # of a terminal, in columns


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


class Display(NamedTuple):
    """What is shown of a state: on a terminal a bar and a text for each label, else a line."""

    percent: float
    texts: Mapping[str, str]
    line: str
    red: Collection[str] = ()  # labels whose texts are red


@contextmanager
def show(get_display: Callable[[], Display], stream: TextIO | None = None) -> Iterator[None]:
    """Show `get_display()` on `stream` (standard error) again and again while the block runs.

    What is printed in the meantime appears above the bar. A terminal that is closed, or the end of
    a pipe, ends the display, not the block.
    """
    stream, stopped = stream or sys.stderr, Event()

    def keep_showing() -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            # A dumb terminal cannot move its cursor up.
            is_bar = stream.isatty() and os.environ.get("TERM") != "dumb"
            with _bar(stream) if is_bar else _lines(stream) as show_one:
                while not stopped.wait(BAR_EVERY if is_bar else LINE_EVERY):
                    show_one(get_display())
                show_one(get_display())

    thread = Thread(target=keep_showing, name="pgload-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def _lines(stream: TextIO) -> Iterator[Callable[[Display], None]]:
    yield lambda display: print(display.line, file=stream, flush=True)


@contextmanager
def _bar(stream: TextIO) -> Iterator[Callable[[Display], None]]:
    bar = make_bar(stream)

    def show_one(display: Display) -> None:
        update_bar(bar, display)
        bar.start()
        bar.console.show_cursor(True)  # rich hides it, and a killed process leaves it hidden
        bar.refresh()

    try:
        yield show_one
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


def update_bar(bar: Progress, display: Display) -> None:
    """Show it in the bar: the first task has the percentage, each of the others a text."""
    if not bar.tasks:
        bar.add_task("progress", total=100)
        for label in display.texts:
            bar.add_task(label, total=None, text="", style="")
    first, *others = bar.tasks
    bar.update(first.id, completed=display.percent)
    for task in others:
        label = task.description
        style = "red" if label in display.red else ""
        bar.update(task.id, text=display.texts[label], style=style)
