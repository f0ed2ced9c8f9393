"""What a benchmark run shows on the terminal while it goes on and when it is done."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

CLEAR_LINE = "\r\x1b[2K"


class Lines:
    """Lines on the terminal past pytest's capturing; status ones are overwritten by the next."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")

    def status(self, text: str) -> None:
        """Show what is going on right now, where there is a terminal to show it on."""
        if self._reporter is not None and self._reporter.isatty:
            self._write(f"{CLEAR_LINE}{text} …")

    def line(self, text: str) -> None:
        """Show a line that stays."""
        if self._reporter is None:  # -p no:terminal
            return
        if self._reporter.verbosity > 0:  # after the test's name
            self._reporter.ensure_newline()
        self._write(f"{CLEAR_LINE if self._reporter.isatty else ''}{text}\n")

    def result(self, name: str, benchmark: Any, note: str) -> None:
        """Show the throughput of a finished benchmark: median, slowest and fastest round."""
        if benchmark.stats is not None:  # None when benchmarks are disabled
            records = benchmark.extra_info["records"]
            seconds = benchmark.stats.stats.data
            rates = [records / each for each in seconds]
            median = records / statistics.median(seconds)
            spread = f"({min(rates):,.0f}–{max(rates):,.0f})" if len(rates) > 1 else ""
            self.line(f"{name:<25} {median:>9,.0f} records/s  {spread:<19} {note}")

    def _write(self, text: str) -> None:
        with self._capture.global_and_fixture_disabled():
            self._reporter.write(text, flush=True)


def write_summary(
    reporter: Any,
    benchmarks: list[dict[str, Any]],
    drift: dict[str, dict[str, Any]],
    saved: Path | None,
) -> None:
    """The table after a run, what spoils it, where its JSON is, and how to draw it."""
    from pgload.report.saved import is_load, measurement
    from pgload.report.tables import profile_table, run_table

    loads = [measurement(bench, str(saved)) for bench in benchmarks if is_load(bench)]
    if loads:
        reporter.section("throughput")
        reporter.write_line(run_table(loads))
        reporter.write_line("")
        reporter.section("where a record's time went")
        reporter.write_line(profile_table(loads))
    for cloud, probe in drift.items():
        if probe["note"]:
            reporter.write_line(f"drift: {cloud}: {probe['note']}")
    if saved is not None:
        reporter.write_line(f"\nsaved: {saved}")
    if saved is not None and loads:
        reporter.write_line(f"draw it: {_python()} -m pgload compare")


def _python() -> str:
    """How to call this Python from a shell: by its path, unless `python` already means it."""
    found = shutil.which("python")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "python"
    here, path = Path.cwd(), Path(sys.executable)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
