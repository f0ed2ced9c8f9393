"""The one page: what it says first, that it is whole and safe, and that a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pgload.report.compare import CompareOptions, Output, compare
from pgload.report.i18n import LANGUAGES, Words, _texts
from pgload.report.migrations import read_migrations
from tests.support.saved_runs import load, save

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SHARES = {"client": 0.25, "wal": 0.75}
BATCHES = {"start": [0.0, 0.5], "seconds": [0.5, 0.4], "connection": [0, 0], "records": [1, 1]}


class Text(HTMLParser):
    """The visible text of a page, and where its links and sources point."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.targets: list[str] = []
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "svg")
        self.targets += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "svg")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def migrated(folder: Path) -> None:
    """The outputs of a migration that failed in part."""
    folder.mkdir(parents=True)
    (folder / "migration_results.json").write_text(
        json.dumps(
            {
                "status": "completed_with_errors",
                "total_records": 95_000,
                "cloud_provider": "GCP",
                "completion_time": "2025-01-15T10:30:03+09:00",
                "files": [{"file": "<img src=x onerror=alert(1)>.json", "records": 5}],
            }
        )
    )
    batch = {"table_name": "bid", "records_count": 1000, "total_duration_seconds": 2.5}
    (folder / "migration_stats.json").write_text(
        json.dumps({"batches": [{**batch, "batch_number": 1}, {**batch, "error": "too long"}]})
    )


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Two clouds in a grid, with everything that a file can hold."""
    folder = tmp_path / ".benchmarks"
    for number, (cloud, speed) in enumerate({"GCP": 1.0, "AWS": 2.0}.items(), start=1):
        save(
            folder,
            f"{number:04}_{cloud}",
            [
                load(
                    cloud,
                    method,
                    size,
                    connections,
                    seconds=[1 / speed / connections, 1.01 / speed / connections] * 2,
                    bottleneck="wal",
                    bottleneck_shares=SHARES,
                    advice="group <b>commits</b>.",
                    batches=BATCHES,
                    checkpoints=[0.3],
                )
                for method in ("copy", "values")
                for size in (100, 1000)
                for connections in (1, 4)
            ],
            servers={
                cloud: {
                    "price_per_hour": 0.36,
                    "price_date": "2025-01-10",
                    "settings": {"fsync": "on", "shared_buffers": f"{number}GB"},
                }
            },
        )
    migrated(tmp_path / "migration_outputs")
    return folder


def page(storage: Path, language: str = "en", *patterns: str) -> str:
    folder = storage.parent
    output = Output(folder / "reports", ("html",), language, folder / "migration_outputs")
    with (folder / "out.txt").open("w") as out:
        compare(patterns, CompareOptions(storage=storage, output=output, baseline=None), out=out)
    return (folder / "reports/index.html").read_text("utf-8")


def test_the_first_lines_answer_the_question(storage: Path) -> None:
    """Which cloud, which setting, how fast, how sure; then the three parts."""
    text = Text(page(storage)).text

    assert text.startswith(
        "pgload: Which PostgreSQL loads this JSON fastest? Which PostgreSQL loads this JSON "
        "fastest? AWS with copy, batch size 100, connections 4 159,204 records/s"
    )
    first = text[: text.index("Migration")]
    assert "faster — 2.00 times as fast as GCP at its best. 95% interval 1.9" in first
    assert "Cheapest AWS $0.0006" in first
    assert "2025-01-10" in first
    parts = [text.index(part) for part in ("How the sides differ", "Charts", "Raw files")]
    assert parts == sorted(parts)
    assert "completed with errors" in text
    assert "too long" in text


def test_it_is_whole_and_loads_nothing(storage: Path) -> None:
    """No address of the web but the names of XML vocabularies; links lead to the raw files."""
    html = page(storage)

    assert set(re.findall(r"https?://[^\s\"'<>)]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\(|<link rel=.stylesheet|<script src", html)
    targets = [each for each in Text(html).targets if not each.startswith(("#", "data:"))]
    assert targets
    assert all((storage.parent / "reports" / each).is_file() for each in targets)


def test_what_comes_from_files_is_text(storage: Path) -> None:
    """A file name or a sentence with tags in it is shown as it is."""
    html = page(storage)

    assert "<img src=x" not in html
    assert "<b>commits</b>" not in html
    assert "group <b>commits</b>." in Text(html).text


def test_every_chart_has_its_numbers_beside_it(storage: Path) -> None:
    """A reader who does not see the picture has a description and a table."""
    html = page(storage)

    figures = re.findall(r'<figure id="([^"]+)">(.*?)</figure>', html, re.S)
    assert {name for name, _ in figures} >= {
        "throughput_by_batch_size",
        "batches_over_load",
        "cost",
    }
    for _, figure in figures:
        assert 'role="img"' in figure
        assert "<table" in figure


def test_korean_is_korean_throughout(storage: Path) -> None:
    """Every text of ours; names and sentences from files stay."""
    text = Text(page(storage, "ko")).text

    assert "어느 PostgreSQL이 이 JSON을 가장 빨리 적재하는가?" in text
    for english in ("records/s", "faster", "batch size", "Throughput", "Detail", "rounds"):
        assert english not in text.replace("--batch-size", ""), english


def test_every_text_is_there_in_every_language() -> None:
    """With the same values to fill in."""
    for key, texts in _texts().items():
        assert set(texts) == set(LANGUAGES), key
        blanks = {language: set(re.findall(r"{(\w+)}", text)) for language, text in texts.items()}
        assert len({frozenset(each) for each in blanks.values()}) == 1, key
    assert Words("ko").maybe("no such key", "as it is") == "as it is"


def test_runs_of_one_cloud_ask_another_question(storage: Path) -> None:
    """What changed; and with a single run, which setting."""
    save(storage, "0003_GCP", [load("GCP")])

    assert "Which run was faster?" in page(storage, "en", "0001", "0003")
    assert "Which setting loads this JSON fastest?" in page(storage, "en", "0001")


def test_migrations_are_read_from_the_folder_and_its_runs(tmp_path: Path) -> None:
    """The newest first, each once; a folder that holds something else is named."""
    tmp_path = tmp_path / "migration_outputs"
    migrated(tmp_path)
    migrated(tmp_path / "runs/2025-01-15T10-30-03")  # the same once more
    older = tmp_path / "runs/2025-01-14T09-00-00"
    older.mkdir()
    (older / "migration_results.json").write_text('{"status": "failed", "total_records": 0}')
    broken = tmp_path / "runs/2025-01-13T09-00-00"
    broken.mkdir()
    (broken / "migration_stats.json").write_text("{")

    found, problems = read_migrations(tmp_path)

    assert [each.results["status"] for each in found] == ["completed_with_errors", "failed"]
    (table,) = found[0].tables
    assert (table.name, table.records, table.batches, table.seconds) == ("bid", 2000, 2, 5.0)
    assert [each["error"] for each in found[0].failures] == ["too long"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{broken}: not the files of a migration")
    assert read_migrations(tmp_path / "none") == ([], [])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_browser_shows_every_chart_and_complains_of_nothing(
    storage: Path, language: str, tmp_path: Path
) -> None:
    """Its console stays empty, every chart has a size, tables sort on a click."""
    html = page(storage, language)
    probe = """<script>addEventListener("load", () => {
      const sizes = [...document.querySelectorAll("figure svg")]
        .map(each => each.getBoundingClientRect());
      const head = document.querySelector("table.verdicts th.num button");
      head.click(); head.click();
      document.body.dataset.shown = sizes.filter(e => e.width > 300 && e.height > 150).length;
      document.body.dataset.sort = head.parentElement.getAttribute("aria-sort");
      document.body.dataset.loaded = performance.getEntriesByType("resource").length;
    });</script></body>"""
    probed = tmp_path / "probed.html"
    probed.write_text(html.replace("</body>", probe), "utf-8")

    shown = browse("--dump-dom", probed)

    found: dict[str, Any] = dict(re.findall(r'data-(shown|sort|loaded)="([^"]*)"', shown.stdout))
    charts = html.count("<figure")
    assert found == {"shown": f"{charts}", "sort": "descending", "loaded": "0"}
    assert charts >= 9
    assert "CONSOLE" not in shown.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_chart_alone_is_shown_with_its_tooltip(storage: Path) -> None:
    """A file from the folder works without the page."""
    folder = storage.parent / "svg"
    options = CompareOptions(storage=storage, output=Output(folder, ("svg",)))
    with (storage.parent / "out.txt").open("w") as out:
        compare((), options, out=out)

    for chart in folder.glob("*.svg"):
        ElementTree.parse(chart)
    shown = browse("--dump-dom", folder / "throughput_by_batch_size.svg")

    assert "CONSOLE" not in shown.stderr
    assert "tooltip" in shown.stdout


def browse(task: str, file: Path) -> subprocess.CompletedProcess[str]:
    """What headless Chromium makes of a file, with its console on standard error."""
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--v=0",
            f"--user-data-dir={file.parent / 'profile'}",
            "--window-size=1280,900",
            task,
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
