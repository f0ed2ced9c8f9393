"""Tables, charts and formats that the tabs share. Text from files is never taken for Markdown."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from pgload import contract
from pgload.report.i18n import Words
from pgload.report.migrations import SavedMigration
from pgload.report.plots import Plot
from pgload.report.svg import draw

EMPTY = "–"
SHOWN_RUNS = 50  # migrations in a list
SHOWN_FILES = 5000  # in a table
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!$|<>~:&^=@/\"'])")


@dataclass(frozen=True)
class Sources:
    """The folders that the dashboard reads, and the words of its language."""

    outputs: Path
    data: Path
    storage: Path
    words: Words


def text(value: object) -> str:
    """A value as text in UTF-8: the bytes of file names that are not are escaped."""
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def plain(value: object) -> str:
    """A value as one line in which every character that Markdown interprets is escaped."""
    return MARKDOWN.sub(r"\\\1", " ".join(text(value).split()))


def table(columns: Mapping[str, Iterable[Any]], *, sizes: Container[str] = ()) -> None:
    """A table, by its columns; those named in `sizes` hold bytes. A wide one scrolls by itself."""
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
    """Numbers under their names, in as many lines as they need."""
    with st.container(horizontal=True, gap="large"):
        for name, value in values.items():
            st.metric(name, value, width="content")


def heading(words: str) -> str:
    """The words with a capital letter first."""
    return words[:1].upper() + words[1:]


@st.cache_data(max_entries=200, show_spinner=False)
def _svg(plot: Plot, sides: Mapping[str, str]) -> str:
    return draw(plot, sides or None)


def charts(plots: Sequence[Plot], words: Words, sides: Mapping[str, str] | None = None) -> None:
    """The charts, two in a row, with their numbers below. As images, they cannot run a script."""
    for n, plot in enumerate(plots):
        if n % 2 == 0:  # a row for each two, so that a narrow screen keeps the order
            columns = st.columns(2)
        with columns[n % 2]:
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
    """A number with thousands separators; a dash for None."""
    return EMPTY if value is None else f"{value:,.{digits}f}"


def rounded(value: float | None, digits: int = 1) -> float | None:
    """A number for a table, rounded; None stays None."""
    return None if value is None else round(value, digits)


def duration(seconds: float | None, words: Words) -> str:
    """Seconds as `0.4 s` or, in their two largest units, `1 min 38 s`; a dash for None."""
    if seconds is None:
        return EMPTY
    if seconds < 10:
        return f"{seconds:.1f} {words('unit_s')}"
    return contract.duration(seconds, lambda name: words(f"unit_{name}"))


def status(state: str, words: Words) -> str:
    """The state of a migration in words."""
    return words.maybe(f"status_{state}", state) if state else words("status_unknown")


def file_status(state: str, words: Words) -> str:
    """The state of a file in words."""
    return words.maybe(f"file_{state}", state)


def target_and_setting(migration: SavedMigration, words: Words) -> str:
    """The target and setting of a migration: `GCP, copy, batch size 1,000, connections 4`."""
    facts = migration.facts
    parts = [facts.cloud_provider, facts.method]
    for name in ("batch_size", "num_connections"):
        value: int | None = getattr(facts, name)
        if value is not None:
            parts.append(f"{words(name)} {count(value)}")
    return ", ".join(filter(None, parts))
