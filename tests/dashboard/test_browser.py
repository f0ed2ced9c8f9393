"""The dashboard in a browser, while a real migration runs beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, LONG, Page, browser
from tests.support.checkout import ROOT, environment
from tests.support.loading import write_json
from tests.support.saved_runs import load, save

pytest.importorskip("streamlit", reason="the dashboard is optional: pip install streamlit")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

FILES, RECORDS = 3, 6_000  # of each file
HOSTILE = "![x](http:x)<img src=x onerror=document.title='hit'>:red[y]$z$.json"
METRICS = """Object.fromEntries(
    [...document.querySelectorAll('[data-testid=stMetric]')].map(each => [
        each.querySelector('[data-testid=stMetricLabel]').innerText.trim(),
        each.querySelector('[data-testid=stMetricValue]').innerText.trim()]))"""
# Pictures that have been drawn, with a size.
CHARTS = """[...document.querySelectorAll('[data-testid=stImage] img')].filter(each =>
    each.complete && each.naturalWidth && each.clientWidth > 300 && each.clientHeight > 100).length
"""
TABLES = "document.querySelectorAll('[data-testid=stDataFrame] canvas').length"
WIDER = "document.documentElement.scrollWidth - innerWidth"
BUSY = (
    "document.querySelector('[data-testid=stStatusWidgetRunningIcon], [data-stale=true]') !== null"
)


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """The process, asked to end with the block, if it has not yet."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(LONG)
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
    with ended(start(tmp_path, "dashboard", "--port", str(port), "--lang", "en")) as process:
        end = time.monotonic() + LONG
        while True:
            try:
                socket.create_connection(("localhost", port)).close()
                break
            except OSError:
                out = (tmp_path / "dashboard.out").read_text()
                assert process.poll() is None, out
                assert time.monotonic() < end, out
        yield f"http://localhost:{port}/"


def progress(folder: Path) -> dict[str, Any]:
    """What the migration's file says now; nothing before it is there."""
    try:
        found: dict[str, Any] = json.loads(
            (folder / "migration_outputs/migration_progress.json").read_bytes()
        )
    except FileNotFoundError:
        return {}
    return found


def stopped_at(folder: Path, migration: subprocess.Popen[Any], more_than: int) -> dict[str, Any]:
    """The file's word of a migration that has committed more than that, and was halted there."""
    end = time.monotonic() + LONG
    while progress(folder).get("total_records_processed", 0) <= more_than:
        assert migration.poll() is None, (folder / "migrate.out").read_text()
        assert time.monotonic() < end, (folder / "migrate.out").read_text()
    migration.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, migration.pid, os.WSTOPPED)
    return progress(folder)


def open_tab(page: Page, number: int) -> None:
    # Again where the page was made anew in the moment of the click.
    page.until(
        f"(tab => tab.ariaSelected == 'true' || (tab.click(), false))"
        f"(document.querySelectorAll('[role=tab]')[{number}])"
    )


def test_a_migration_is_watched_from_begin_to_end(dashboard: str, tmp_path: Path) -> None:
    """Numbers grow and are those of the files, the run finishes, charts are drawn, no complaint."""
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

    with browser(tmp_path / "profile") as page:
        page.size(1400)
        page.open(dashboard)
        page.until_it_says("No migration has been run")
        page.until(f"{TABLES} > 0")  # the data

        command = ["migrate", "--cloud", "EMBEDDED", "--create-tables", "--method", "executemany"]
        command += ["--batch-size", "100", "--connections", "2"]
        with ended(start(tmp_path, *command)) as migration:
            seen = 0
            for _ in range(2):
                said = stopped_at(tmp_path, migration, seen)
                seen = said["total_records_processed"]
                expected = {
                    "Records": f"{seen:,} / {total:,}",
                    "Records/s on average": f"{said['average_records_per_second']:,.0f}",
                    "Files": f"{said['files_completed'] + said['files_failed']} / {FILES + 1}",
                }
                page.until(METRICS, lambda shown, now=expected: now.items() <= shown.items())
                assert "running · EMBEDDED, executemany, batch size 100" in page.text
                migration.send_signal(signal.SIGCONT)
            assert migration.wait(LONG) == 1, (tmp_path / "migrate.out").read_text()

        page.until_it_says("not everything was written")
        results = json.loads((tmp_path / "migration_outputs/migration_results.json").read_bytes())
        shown = page.evaluate(METRICS)
        assert shown["Records"] == f"{results['total_records']:,} / {total:,}"
        assert shown["Rejects"] == f"{results['rejects']:,}" == "1"

        open_tab(page, 1)
        page.until(CHARTS, lambda n: n >= 5)
        assert page.evaluate(METRICS)["Records/s"] == "160,000"
        assert re.search(r"GCP .*connections 4", page.text)

        open_tab(page, 2)
        page.until(CHARTS, lambda n: n == 4)
        shown = page.evaluate(METRICS)
        assert shown["Records"] == f"{results['total_records']:,}"
        assert shown["Batches"] == f"{results['batches']:,}"
        page.until_it_says('"no": "\\u0000"')  # the reject

        for width in (1400, 420):
            page.size(width)
            for tab in range(3):
                open_tab(page, tab)
                page.until(BUSY, lambda busy: not busy)
                assert page.evaluate(WIDER) <= 0
        assert page.evaluate("document.title") == "pgload"
        assert page.complaints == []
