"""One saved run gives the same numbers on the terminal, in the files, on the page and in charts."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pgload.report.compare import CompareOptions, Output, compare
from pgload.report.saved import load_runs
from pgload.report.tables import profile_table, run_table
from tests.support.saved_runs import load, save

BATCHES = {  # a sample, whose percentiles are not those of all batches
    "start": [0.0, 0.5],
    "seconds": [0.5, 0.4],
    "connection": [0, 0],
    "records": [1000, 1000],
}


@dataclass(frozen=True)
class Numbers:
    """What is shown of a setting, as text."""

    throughput: str  # records/s
    p50: str  # ms, as are the next two
    p95: str
    p99: str
    cpu: str  # % of one core
    bottleneck: str
    share: str  # %, of the workers' time


EXPECTED = Numbers(
    throughput="21,889",
    p50="12.3",
    p95="45.7",
    p99="78.9",
    cpu="38",
    bottleneck="wal",
    share="62",
)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A run of two settings; the faster one, with batches of 1000, has the expected numbers."""
    expected = load(
        batch_size=1000,
        seconds=[1.1, 0.9137, 0.8],
        batch_latency={"p50": 0.01234, "p95": 0.04567, "p99": 0.07891, "max": 0.123},
        client={"cpu_seconds": 0.3, "cpu_share": 0.377},
        bottleneck="wal",
        bottleneck_shares={"client": 0.2, "network": 0.1766, "wal": 0.6234},
        batches=BATCHES,
    )
    save(tmp_path / ".benchmarks", "0001_GCP", [load(batch_size=500), expected])
    return tmp_path / ".benchmarks"


@pytest.fixture
def folder(storage: Path) -> Path:
    """The files of a comparison, with what it printed in `terminal.txt`."""
    folder = storage.parent / "reports"
    out = io.StringIO()
    compare((), CompareOptions(storage=storage, output=Output(folder)), out=out)
    (folder / "terminal.txt").write_text(out.getvalue(), "utf-8")
    return folder


def test_the_terminal_after_a_run(storage: Path) -> None:
    """The table of throughput and latency, and the one of the time."""
    (run,), _ = load_runs((), storage)

    def row(table: str) -> list[str]:
        (found,) = (line for line in table.splitlines() if line.startswith("values  1,000"))
        return found.split()

    *_, throughput, _, _, p50, p95, p99, cpu = row(run_table(run.measurements))
    *_, bottleneck, share = row(profile_table(run.measurements))
    shown = Numbers(throughput, p50, p95, p99, cpu, bottleneck, share.removesuffix("%"))
    assert shown == EXPECTED


def test_the_terminal_of_a_comparison(folder: Path) -> None:
    """Its table, and the decision with throughput, bottleneck and share."""
    text = (folder / "terminal.txt").read_text("utf-8")

    assert re.search(r"^values +1,000 +1 +21,889$", text, re.M)
    assert "fastest: GCP, values, batch size 1,000, 1 connection: 21,889 records/s" in text
    assert "  bottleneck: wal 62%" in text


def test_csv_and_json(folder: Path) -> None:
    """With all digits, which round to what is shown elsewhere."""
    with (folder / "compare.csv").open(newline="") as file:
        in_csv = [row for row in csv.DictReader(file) if row["batch_size"] == "1000"]
    measurements = json.loads((folder / "compare.json").read_text("utf-8"))["measurements"]
    in_json = [row for row in measurements if row["batch_size"] == 1000]

    assert [_rounded(row) for row in (*in_csv, *in_json)] == [EXPECTED, EXPECTED]
    assert (folder / "compare.md").read_text("utf-8").count(f"**{EXPECTED.throughput} records/s**")


def _rounded(row: Mapping[str, Any]) -> Numbers:
    return Numbers(
        throughput=f"{float(row['records_per_second']):,.0f}",
        p50=f"{float(row['latency_p50_ms']):.1f}",
        p95=f"{float(row['latency_p95_ms']):.1f}",
        p99=f"{float(row['latency_p99_ms']):.1f}",
        cpu=f"{100 * float(row['client_cpu_share']):.0f}",
        bottleneck=row["bottleneck"],
        share=f"{100 * float(row['bottleneck_share']):.0f}",
    )


class Tables(HTMLParser):
    """The rows of a page's tables, by the id of the section or figure they are in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._place = ""
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("section", "figure"):
            self._place = dict(attrs)["id"] or ""
        elif tag == "tr":
            self.rows.setdefault(self._place, []).append([])
        elif tag in ("td", "th"):
            self.rows[self._place][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[self._place][-1][-1] += data


def test_the_page(folder: Path) -> None:
    """Its table of settings, the tables beside the charts, and its first lines."""
    html = (folder / "index.html").read_text("utf-8")
    tables = Tables(html).rows

    (row,) = (row for row in tables["detail"] if row[1:2] == ["1,000"])
    shown = dict(zip(tables["detail"][0], row, strict=True))
    bottleneck, share = shown["Bottleneck"].removesuffix(" %").split()
    assert (
        Numbers(
            throughput=shown["records/s"],
            p50=shown["p50 ms"],
            p95=shown["p95 ms"],
            p99=shown["p99 ms"],
            cpu=shown["client CPU %"],
            bottleneck=bottleneck.lower(),
            share=share,
        )
        == EXPECTED
    )
    assert ["1,000", "21,889 records/s"] in tables["throughput_by_batch_size"]
    assert tables["batch_latency"][1:4] == [
        ["p50", "12.3 ms"],
        ["p95", "45.7 ms"],
        ["p99", "78.9 ms"],
    ]
    assert dict(zip(*tables["bottleneck"], strict=True))["WAL"] == "62 %"
    assert "<strong>21,889</strong> records/s" in html
    assert "<strong>WAL</strong> 62 %" in html


@pytest.mark.parametrize(
    ("chart", "tooltips"),
    [
        ("throughput_by_batch_size", {"{throughput} records/s"}),
        ("batch_latency", {"{p50} ms", "{p95} ms", "{p99} ms"}),
        ("bottleneck", {"{share} %"}),
    ],
)
def test_the_charts(folder: Path, chart: str, tooltips: set[str]) -> None:
    """In the tooltip of each value."""
    svg = ElementTree.parse(folder / f"{chart}.svg")
    shown = {node.text for node in svg.iter("{http://www.w3.org/2000/svg}desc")}

    assert {text.format(**asdict(EXPECTED)) for text in tooltips} <= shown
