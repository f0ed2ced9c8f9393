"""What a benchmark run writes to the terminal: status, results, and the summary at the end."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

CLEAR_LINE = "\r\x1b[2K"


class BenchConsole:
    """Writes to the terminal past pytest's capturing; a status is overwritten by the next line."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    @property
    def _reporter(self) -> Any:  # None under -p no:terminal; registered after our plugin
        return self._plugins.get_plugin("terminalreporter")

    def status(self, text: str) -> None:
        """Show what is being done, if the output is a terminal."""
        if self._reporter is not None and self._reporter.isatty:
            self._write(f"{CLEAR_LINE}{text} …")

    def line(self, text: str) -> None:
        """Write a line."""
        reporter = self._reporter
        if reporter is None:
            return
        if reporter.verbosity > 0:  # after the test's name
            reporter.ensure_newline()
        self._write(f"{CLEAR_LINE if reporter.isatty else ''}{text}\n")

    def result(self, name: str, benchmark: Any, note: str) -> None:
        """Write the throughput of a finished benchmark: median, slowest and fastest round."""
        if benchmark.stats is not None:  # None when benchmarks are disabled
            records = benchmark.extra_info["records"]
            seconds = benchmark.stats.stats.data
            rates = [records / each for each in seconds]
            median = records / statistics.median(seconds)
            spread = f"({min(rates):,.0f}–{max(rates):,.0f})"
            spread = f"{spread:<17}  " if len(rates) > 1 else ""
            self.line(f"{name:<25} {median:>9,.0f} records/s  {spread}{note}")

    def _write(self, text: str) -> None:
        capture: Any = self._plugins.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled():
            self._reporter.write(text, flush=True)


def write_summary(
    reporter: Any,
    benchmarks: list[dict[str, Any]],
    drift: dict[str, dict[str, Any]],
    saved: Path | None,
) -> None:
    """Write the tables of the run's loads, notes on drift, the saved file and how to chart it.

    `benchmarks` is as in the saved JSON, `drift` the reports of the probes by cloud.
    """
    from pgload.report.measurement import is_load, measurement
    from pgload.report.tables import profile_table, run_table

    loads = [measurement(bench, str(saved)) for bench in benchmarks if is_load(bench)]
    if loads:
        reporter.section("throughput")
        reporter.write_line(run_table(loads))
        reporter.write_line("")
        reporter.section("where a record's time went")
        reporter.write_line(profile_table(loads))
    for cloud, report in drift.items():
        if report["note"]:
            reporter.write_line(f"drift: {cloud}: {report['note']}")
    if saved is not None:
        reporter.write_line(f"\nsaved: {saved}")
    if saved is not None and loads:
        reporter.write_line(f"draw it: {_python()} -m pgload compare")


def _python() -> str:
    """How to run this Python from a shell: `python` if that is it, otherwise its path."""
    found = shutil.which("python")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "python"
    here, path = Path.cwd(), Path(sys.executable)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
