"""What the tabs of the dashboard are made of. Whatever comes from a file is shown as text."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from pgload import contract
from pgload.report.i18n import Words
from pgload.report.plots import Plot
from pgload.report.svg import draw
from pgload.report.watch import MigrationFiles, text

EMPTY = "–"
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!$|<>~:&^=@/\"'])")


@dataclass(frozen=True)
class Places:
    """Where the dashboard looks, and what it speaks."""

    outputs: Path
    data: Path
    storage: Path
    words: Words


def plain(value: object) -> str:
    """A value for a place where Streamlit takes Markdown, so that it is not taken for any."""
    return MARKDOWN.sub(r"\\\1", " ".join(text(value).split()))


def table(columns: Mapping[str, Iterable[Any]], *, sizes: Container[str] = ()) -> None:
    """A table of columns; a wide one scrolls for itself. Those in `sizes` hold bytes."""
    values = {name: list(column) for name, column in columns.items()}
    numbers = {
        name: st.column_config.NumberColumn(format="bytes" if name in sizes else "localized")
        for name, column in values.items()
        if any(isinstance(each, int | float) for each in column)
    }
    st.dataframe(
        values,
        hide_index=True,
        width="stretch",
        column_config=numbers,
        placeholder=EMPTY,
    )


def metrics(values: Mapping[str, str]) -> None:
    """Numbers under their names, as many in a line as there is room for."""
    with st.container(horizontal=True, gap="large"):
        for name, value in values.items():
            st.metric(name, value, width="content")


def heading(words: str) -> str:
    """Words of ours with a capital at the front, where the language has any."""
    return words[:1].upper() + words[1:]


@st.cache_data(max_entries=200, show_spinner=False)
def _svg(plot: Plot, sides: Mapping[str, str]) -> str:
    return draw(plot, sides or None)


def charts(plots: Sequence[Plot], words: Words, sides: Mapping[str, str] | None = None) -> None:
    """The charts side by side, under each its numbers. As pictures, they can run no script."""
    for place, plot in enumerate(plots):
        if place % 2 == 0:  # a row of its own for each two, so that a narrow screen keeps the order
            columns = st.columns(2)
        with columns[place % 2]:
            st.image(_svg(plot, sides or {}), width="stretch")
            with st.expander(plain(f"{words('numbers')}: {plot.title}")):
                rows = plot.positions
                unit = plot.unit
                shown = {plot.x_title or " ": [_position(each) for each in rows]}
                for name, points in plot.series.items():
                    shown[text(name)] = [
                        unit.format(points[each].value) if each in points else "" for each in rows
                    ]
                table(shown)


def _position(position: Any) -> str:
    if isinstance(position, int | float):
        return f"{round(position, 3):,}"
    return text(position)


def count(value: float | None, digits: int = 0) -> str:
    """A number with its thousands told apart; a dash where it is not known."""
    return EMPTY if value is None else f"{value:,.{digits}f}"


def duration(seconds: float | None, words: Words) -> str:
    """Seconds in the two units that matter, as `1 min 38 s`; a dash where they are not known."""
    if seconds is None:
        return EMPTY
    return contract.duration(seconds, lambda name: words(f"unit_{name}"))


def status(state: str, words: Words) -> str:
    """A run's state in words."""
    return words.maybe(f"status_{state}", state) if state else words("status_unknown")


def setting(run: MigrationFiles, words: Words) -> str:
    """Where and how a run writes: `GCP, copy, batch size 1,000, connections 4`."""
    parts = [run.text("cloud_provider"), run.text("method")]
    for name in ("batch_size", "num_connections"):
        if (value := run.number(name)) is not None:
            parts.append(f"{words(name)} {count(value)}")
    return ", ".join(filter(None, parts))
