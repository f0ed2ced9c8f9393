"""Earlier saved runs of a server tell how much its runs vary."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from pgload.report.compare import CompareOptions, Output, compare
from pgload.report.history import beside, read_history
from tests.support.saved_runs import load, save

SETTINGS = (100, 200, 500, 1000, 2000, 5000)


def save_run(
    storage: Path, number: int, rng: random.Random, level: float, cloud: str = "GCP", **facts: Any
) -> Path:
    """A run of five passes that vary by 1%, `level` times as fast as others."""
    loads = []
    for size in SETTINGS:
        seconds = [rng.gauss(1, 0.01) / level for _ in range(5)]
        loads.append(load(cloud, batch_size=size, seconds=seconds, passes=[[s] for s in seconds]))
    return save(storage, f"{number:04}_{cloud}", loads, servers={cloud: facts})


def history(storage: Path, runs: int, variation: float, **facts: Any) -> None:
    """Runs from 0010 on, whose speeds vary by so much."""
    rng = random.Random(5)
    for n in range(runs):
        save_run(storage, 10 + n, rng, rng.gauss(1, variation), **facts)


def two_runs(storage: Path) -> None:
    """0001 and 0002, the second 6% faster."""
    for n in (1, 2):
        save_run(storage, n, random.Random(n), (1.0, 1.06)[n - 1])


def compared(folder: Path, *patterns: str) -> tuple[dict[str, Any], str]:
    """The JSON of a comparison, and what it prints."""
    out = io.StringIO()
    output = Output(folder / "reports", formats=("json",))
    compare(patterns, CompareOptions(storage=folder / ".benchmarks", output=output), out=out)
    return json.loads((folder / "reports/compare.json").read_text("utf-8")), out.getvalue()


def width(found: dict[str, Any]) -> float:
    """Of the intervals, on average."""
    widths = [each["high"] - each["low"] for each in found["settings"]]
    assert len(widths) == len(SETTINGS)
    return sum(widths) / len(widths)


@pytest.mark.parametrize(
    ("variation", "runs", "least", "most"), [(0.05, 6, 1.2, 3.0), (0.005, 15, 0.1, 0.6)]
)
def test_the_interval_is_as_wide_as_earlier_runs_vary(
    tmp_path: Path, variation: float, runs: int, least: float, most: float
) -> None:
    """Runs that vary by 5% make it wider than the assumed 2%; many that vary by 0.5%, narrower."""
    storage = tmp_path / ".benchmarks"
    two_runs(storage)
    assumed, _ = compared(tmp_path, "0001", "0002")
    history(storage, runs, variation)

    known, text = compared(tmp_path, "0001", "0002")

    assert least < width(known) / width(assumed) < most
    assert {each["verdict"] for each in assumed["settings"]} <= {
        "no difference shown",
        "too noisy to say",
    }
    expected = {0.05: {"too noisy to say"}, 0.005: {"faster"}}[variation]
    assert {each["verdict"] for each in known["settings"]} == expected
    assert f"(2% assumed, corrected by {runs} saved runs)" in text


def test_the_report_says_what_was_assumed_and_what_a_second_run_buys(tmp_path: Path) -> None:
    """Also in the JSON; the interval with a second run is narrower."""
    two_runs(tmp_path / ".benchmarks")

    found, text = compared(tmp_path, "0001", "0002")

    assert (
        "one run a side: the intervals include how much runs of one server vary: "
        "GCP 0001 2.0% (assumed), GCP 0002 2.0% (assumed)\n"
    ) in text
    assert "a second run of each would narrow the lead's interval from 0." in text
    assert found["run_variation"] == [
        {"records": 20_000, "side": f"GCP {n}", "variation": 0.02, "saved_runs": 0}
        for n in ("0001", "0002")
    ]
    assert "--cloud" not in text.partition("a second run")[2].partition("written:")[0]


def test_earlier_runs_of_other_servers_do_not_count(tmp_path: Path) -> None:
    """Of another cloud, another version, other data or in another folder."""
    storage = tmp_path / ".benchmarks"
    two_runs(storage)
    alone, _ = compared(tmp_path, "0001", "0002")
    history(storage, 3, 0.05, cloud="AWS")
    history(storage, 3, 0.05, version="17.1")
    save(storage, "0050_GCP", [load(records=500, batch_size=size) for size in SETTINGS])
    history(tmp_path / "elsewhere", 3, 0.05)
    (storage / "Linux-CPython-3.11-64bit" / "0060_GCP.json").write_text("{")

    found, _ = compared(tmp_path, "0001", "0002")

    assert found["settings"] == alone["settings"]


def test_a_run_counts_for_its_own_side_where_the_other_is_another_cloud(tmp_path: Path) -> None:
    """One earlier run of a cloud and the compared one are two."""
    storage = tmp_path / ".benchmarks"
    save_run(storage, 1, random.Random(1), 1.0)
    save_run(storage, 2, random.Random(2), 1.04)
    save_run(storage, 3, random.Random(3), 1.0, cloud="AWS")

    found, text = compared(tmp_path, "0002", "0003")

    saved = {each["side"]: each["saved_runs"] for each in found["run_variation"]}
    assert saved == {"GCP": 2, "AWS": 0}
    assert "(--cloud AWS,GCP)" in text or "(--cloud GCP,AWS)" in text


def test_the_newest_files_beside_the_compared_ones_are_read(tmp_path: Path) -> None:
    """A storage of thousands of runs does not take minutes."""
    compared_file = tmp_path / "0001_GCP.json"
    candidates = [tmp_path / f"{n:04}_GCP.json" for n in range(1, 100)]
    found = beside([compared_file], [*candidates, tmp_path / "other" / "0500_GCP.json"])
    assert [path.name for path in found] == [f"{n:04}_GCP.json" for n in range(99, 49, -1)]
    assert read_history([compared_file]) == []
