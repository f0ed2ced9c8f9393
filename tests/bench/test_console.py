"""What a run writes to the terminal."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from pgload.bench.console import CLEAR_LINE, BenchConsole, write_summary
from tests.support.saved_runs import load


class Reporter:
    """A terminal reporter that keeps what is written."""

    def __init__(self, isatty: bool = False, verbosity: int = 0) -> None:
        self.isatty, self.verbosity, self.text = isatty, verbosity, ""

    def write(self, text: str, flush: bool = False) -> None:
        assert flush
        self.text += text

    def write_line(self, text: str) -> None:
        self.text += f"{text}\n"

    section = write_line

    def ensure_newline(self) -> None:
        self.text += "\n"


def console(reporter: Reporter | None) -> BenchConsole:
    """A console over a reporter."""
    capture = SimpleNamespace(global_and_fixture_disabled=nullcontext)
    plugins = {"terminalreporter": reporter, "capturemanager": capture}
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=plugins.get))
    return BenchConsole(config)


@pytest.mark.parametrize(
    ("reporter", "written"),
    [
        (Reporter(), "data\n"),
        (Reporter(isatty=True), f"{CLEAR_LINE}loading …{CLEAR_LINE}data\n"),
        (Reporter(verbosity=1), "\ndata\n"),
    ],
)
def test_lines(reporter: Reporter, written: str) -> None:
    """A status is for terminals only, and overwritten by the next line."""
    lines = console(reporter)
    lines.status("loading")
    lines.line("data")
    assert reporter.text == written


def test_no_terminal() -> None:
    """Under -p no:terminal nothing is written."""
    lines = console(None)
    lines.status("loading")
    lines.line("data")


def test_result() -> None:
    """Throughput of the median round, and of the slowest and the fastest."""
    reporter = Reporter()
    stats = SimpleNamespace(stats=SimpleNamespace(data=[1.0, 2.0, 4.0]))
    benchmark = SimpleNamespace(stats=stats, extra_info={"records": 8000})
    console(reporter).result("copy", benchmark, note="rows verified")
    assert reporter.text.split() == ["copy", "4,000", "records/s", "(2,000–8,000)", "rows",
                                     "verified"]  # fmt: skip


def test_summary() -> None:
    """A table of the loads, notes on drift, and nothing to draw if nothing was saved."""
    reporter = Reporter()
    drift = {"GCP": {"note": "it became slower"}, "AWS": {"note": None}}
    write_summary(reporter, [load("GCP"), load("AWS")], drift, saved=None)
    assert "throughput" in reporter.text
    assert reporter.text.count("drift: ") == 1
    assert "drift: GCP: it became slower" in reporter.text
    assert "draw it" not in reporter.text
