"""The page: its answer, its completeness and safety, and how a browser shows it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pgload.report.compare import CompareOptions, Output, compare
from pgload.report.i18n import LANGUAGES, Words, _texts
from pgload.report.stats import FALSE_DISCOVERY_RATE
from tests.support.browser import needs_browser, open_browser
from tests.support.saved_migrations import batch, file_state, save_ended
from tests.support.saved_runs import load, save

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
    save_ended(
        folder,
        files=[file_state("<img src=x onerror=alert(1)>.json", records=5)],
        batches=[batch(1), batch(2, error="too long")],
        total_records=95_000,
    )


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Two clouds in a grid, with everything that a saved run can contain."""
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
    assert "faster — 2.00 times as fast as GCP, both with copy 100 × 4. 95% interval 1." in first
    assert "Cheapest AWS $0.0006" in first
    parts = [text.index(part) for part in ("Differences between the sides", "Charts", "Raw files")]
    assert parts == sorted(parts)
    assert "completed with errors" in text
    assert "too long" in text


def test_the_page_is_complete_and_loads_nothing(storage: Path) -> None:
    """Its only URLs are the names of XML vocabularies; its links lead to the raw files."""
    html = page(storage)

    assert set(re.findall(r"https?://[^\s\"'<>)]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\(|<link rel=.stylesheet|<script src", html)
    targets = [each for each in Text(html).targets if not each.startswith(("#", "data:"))]
    assert targets
    assert all((storage.parent / "reports" / each).is_file() for each in targets)


def test_text_from_files_is_escaped(storage: Path) -> None:
    """A file name or a sentence with tags in it is shown as it is."""
    html = page(storage)

    assert "<img src=x" not in html
    assert "<b>commits</b>" not in html
    assert "group <b>commits</b>." in Text(html).text


def test_every_chart_has_a_table_of_its_numbers(storage: Path) -> None:
    """Who cannot see the picture has a description and a table."""
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
    """Every text of pgload; names and sentences from files stay."""
    text = Text(page(storage, "ko")).text

    assert "어느 PostgreSQL이 이 JSON을 가장 빨리 적재하는가?" in text
    for english in ("records/s", "faster", "batch size", "Throughput", "Detail", "rounds"):
        assert english not in text.replace("--batch-size", ""), english


def test_every_text_exists_in_every_language() -> None:
    """With the same values to fill in."""
    for key, texts in _texts().items():
        assert set(texts) == set(LANGUAGES), key
        blanks = {language: set(re.findall(r"{(\w+)}", text)) for language, text in texts.items()}
        assert len({frozenset(each) for each in blanks.values()}) == 1, key
    assert Words("ko").maybe("no such key", "as it is") == "as it is"


def test_runs_of_one_cloud_ask_another_question(storage: Path) -> None:
    """Which run was faster; and for a single run, which setting."""
    save(storage, "0003_GCP", [load("GCP")])

    assert "Which run was faster?" in page(storage, "en", "0001", "0003")
    assert "Which setting loads this JSON fastest?" in page(storage, "en", "0001")


@needs_browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_browser_shows_every_chart_without_errors(
    storage: Path, language: str, tmp_path: Path
) -> None:
    """Its console stays empty, every chart has a size, tables sort on a click."""
    html = page(storage, language)
    path = tmp_path / "page.html"
    path.write_text(html, "utf-8")
    charts = html.count("<figure")
    sizes = "[...document.querySelectorAll('figure svg')].map(each => each.getBoundingClientRect())"

    with open_browser(1280) as browser:
        browser.page.goto(path.as_uri())
        shown = f"{sizes}.filter(each => each.width > 300 && each.height > 150).length"
        assert browser.page.evaluate(shown) == charts >= 9
        head = browser.page.locator("table.verdicts th.num").first
        for _ in range(2):
            head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert browser.page.evaluate("performance.getEntriesByType('resource').length") == 0
        assert browser.errors == []


@needs_browser
@pytest.mark.parametrize("language", LANGUAGES)
def test_fits_a_phone(tmp_path: Path, language: str) -> None:
    """The page is no wider than a phone's screen, with fresh passes in its first lines too."""
    loads = [
        load(cloud, batch_size=size, finals=[{"number": n, "seconds": [1.1]} for n in (6, 7)])
        for cloud in ("GCP", "AWS")
        for size in (100, 200)
    ]
    save(tmp_path / ".benchmarks", "0001_GCP+AWS", loads)
    page(tmp_path / ".benchmarks", language)
    with open_browser(390) as browser:
        browser.page.goto((tmp_path / "reports/index.html").as_uri())
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_names_the_false_discovery_rate(storage: Path) -> None:
    """The rate that decides is the one that the page explains."""
    for language in LANGUAGES:
        assert f" {100 * FALSE_DISCOVERY_RATE:g}%)" in page(storage, language)


@needs_browser
def test_a_chart_alone_is_shown_with_its_tooltip(storage: Path) -> None:
    """A file from the folder works without the page."""
    folder = storage.parent / "svg"
    options = CompareOptions(storage=storage, output=Output(folder, ("svg",)))
    with (storage.parent / "out.txt").open("w") as out:
        compare((), options, out=out)

    for chart in folder.glob("*.svg"):
        ElementTree.parse(chart)
    with open_browser(1280) as browser:
        browser.page.goto((folder / "throughput_by_batch_size.svg").as_uri())
        assert "tooltip" in browser.page.content()
        assert browser.errors == []
