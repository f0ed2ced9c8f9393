"""The dashboard in a browser while a migration runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import LIMIT, BrowserPage, needs_browser, open_browser
from tests.support.environment import ROOT, environment
from tests.support.loading import write_json
from tests.support.saved_runs import load, save
from tests.support.waiting import wait_until

pytest.importorskip("streamlit", reason="the dashboard is optional: pip install streamlit")
pytestmark = needs_browser

FILES, RECORDS = 3, 20_000  # of each file
HOSTILE = "![x](http:x)<img src=x onerror=document.title='hit'>:red[y]$z$.json"
METRICS = """Object.fromEntries(
    [...document.querySelectorAll('[data-testid=stMetric]')].map(each => [
        each.querySelector('[data-testid=stMetricLabel]').innerText.trim(),
        each.querySelector('[data-testid=stMetricValue]').innerText.trim()]))"""
# Images that are drawn.
CHARTS = """[...document.querySelectorAll('[data-testid=stImage] img')].filter(each =>
    each.complete && each.naturalWidth && each.clientWidth > 300 && each.clientHeight > 100).length
"""
TABLES = "document.querySelectorAll('[data-testid=stDataFrame] canvas').length"
WIDER = "document.documentElement.scrollWidth - innerWidth"
BUSY = (
    "document.querySelector('[data-testid=stStatusWidgetRunningIcon], [data-stale=true]') !== null"
)


@contextmanager
def terminated(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """The process, which is terminated at the end of the block."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(folder: Path, *arguments: str) -> subprocess.Popen[Any]:
    """`python -m pgload …` in that folder."""
    with (folder / f"{arguments[0]}.out").open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "pgload", *arguments],
            cwd=folder,
            env=environment() | {"PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[str]:
    """The address of a dashboard over the test's folder."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    with terminated(start(tmp_path, "dashboard", "--port", str(port), "--lang", "en")) as process:

        def is_served() -> bool:
            assert process.poll() is None, (tmp_path / "dashboard.out").read_text()
            with suppress(OSError), socket.create_connection(("localhost", port)):
                return True
            return False

        wait_until(is_served, LIMIT)
        yield f"http://localhost:{port}/"


def progress(folder: Path) -> dict[str, Any]:
    """The content of the migration's progress; empty before it is written."""
    try:
        found: dict[str, Any] = json.loads(
            (folder / "migration_outputs/migration_progress.json").read_bytes()
        )
    except FileNotFoundError:
        return {}
    return found


def stop_after(folder: Path, migration: subprocess.Popen[Any], records: int) -> dict[str, Any]:
    """Stop a migration when it has committed more records than that. Returns its progress."""

    def has_more() -> bool:
        assert migration.poll() is None, (folder / "migrate.out").read_text()
        return bool(progress(folder).get("total_records_processed", 0) > records)

    wait_until(has_more, LIMIT)
    migration.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, migration.pid, os.WSTOPPED)
    return progress(folder)


def contains(expected: dict[str, str], shown: dict[str, str]) -> bool:
    """Whether all of the expected numbers are shown."""
    return expected.items() <= shown.items()


def open_tab(browser: BrowserPage, number: int) -> None:
    """Open a tab by its number, again if the page was replaced at the moment of the click."""
    browser.wait_for(
        f"(tab => tab.ariaSelected == 'true' || (tab.click(), false))"
        f"(document.querySelectorAll('[role=tab]')[{number}])"
    )


def test_a_migration_is_shown_from_begin_to_end(dashboard: str, tmp_path: Path) -> None:
    """With the numbers of its files, charts that are drawn, and no error in the console."""
    data = tmp_path / "data"
    data.mkdir()
    for n in range(FILES):
        records = [{"no": f"{n}-{i}", "title": f"공고 {i}"} for i in range(RECORDS)]
        write_json(data / f"notices_{n}.json", records)
    write_json(data / HOSTILE, [{"no": "a"}, {"no": "\0"}])
    total = FILES * RECORDS + 2
    for number, cloud in enumerate(("AWS", "GCP"), start=1):
        loads = [
            load(cloud, batch_size=size, connections=n, seconds=[1 / n / number] * 3)
            for size in (100, 1000)
            for n in (1, 4)
        ]
        save(tmp_path / ".benchmarks", f"{number:04}_{cloud}", loads)

    with open_browser() as browser:
        browser.page.goto(dashboard)
        browser.wait_for_text("No migration has been run")
        browser.wait_for(f"{TABLES} > 0")  # the data

        command = ["migrate", "--cloud", "EMBEDDED", "--create-tables", "--method", "executemany"]
        command += ["--batch-size", "100", "--connections", "2"]
        with terminated(start(tmp_path, *command)) as migration:
            seen = 0
            for _ in range(2):
                state = stop_after(tmp_path, migration, seen)
                seen = state["total_records_processed"]
                expected = {
                    "Records": f"{seen:,} / {total:,}",
                    "Records/s on average": f"{state['average_records_per_second']:,.0f}",
                    "Files": f"{state['files_completed'] + state['files_failed']} / {FILES + 1}",
                }
                browser.wait_for(METRICS, partial(contains, expected))
                assert "running · EMBEDDED, executemany, batch size 100" in browser.text
                migration.send_signal(signal.SIGCONT)
            assert migration.wait(LIMIT) == 1, (tmp_path / "migrate.out").read_text()

        browser.wait_for_text("some records were not written")
        results = json.loads((tmp_path / "migration_outputs/migration_results.json").read_bytes())
        shown = browser.page.evaluate(METRICS)
        assert shown["Records"] == f"{results['total_records']:,} / {total:,}"
        assert shown["Rejects"] == f"{results['rejects']:,}" == "1"

        open_tab(browser, 1)
        browser.wait_for(CHARTS, lambda n: n >= 5)
        assert browser.page.evaluate(METRICS)["Records/s"] == "160,000"
        assert re.search(r"GCP .*connections 4", browser.text)

        open_tab(browser, 2)
        browser.wait_for(CHARTS, lambda n: n == 4)
        shown = browser.page.evaluate(METRICS)
        assert shown["Records"] == f"{results['total_records']:,}"
        assert shown["Batches"] == f"{results['batches']:,}"
        browser.wait_for_text('"no": "\\u0000"')  # the reject

        for width in (1400, 420):
            browser.resize(width)
            for tab in range(3):
                open_tab(browser, tab)
                browser.wait_for(BUSY, lambda busy: not busy)
                assert browser.page.evaluate(WIDER) <= 0
        assert browser.page.evaluate("document.title") == "pgload"
        assert browser.errors == []
