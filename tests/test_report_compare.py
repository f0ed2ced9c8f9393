"""`compare`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pgload.errors import UsageError
from pgload.report.compare import compare
from tests.saved_runs import load, reading, save


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / ".benchmarks"


def compared(storage: Path, *patterns: str) -> str:
    out = io.StringIO()
    compare(patterns, storage=storage, output=storage.parent / "reports", out=out)
    return out.getvalue()


def test_the_newest_runs_are_read_compared_and_drawn(storage: Path) -> None:
    """Files first, then the table, then the charts; the first cloud is the baseline."""
    gcp = save(
        storage,
        "0001_GCP",
        [load("GCP", batch_size=size, seconds=[1.0]) for size in (500, 1000)] + [reading()],
        servers={"GCP": {"version": "18.1", "instance_type": "db-custom-4-16384"}},
    )
    aws = save(
        storage,
        "0002_AWS",
        [load("AWS", batch_size=size, seconds=[2.0]) for size in (500, 1000)],
    )

    lines = compared(storage).splitlines()

    assert lines[:3] == [
        "read:",
        f"  AWS: {aws} (2025-01-15 10:30 UTC, 2 settings, 20,000 records, 48.0 MB)",
        f"  GCP: {gcp} (2025-01-15 10:30 UTC, PostgreSQL 18.1, db-custom-4-16384, "
        "2 settings, 20,000 records, 48.0 MB)",
    ]
    assert "values  1,000      1  10,000  20,000   2.00" in lines
    reports = storage.parent / "reports"
    assert lines[lines.index("charts of 20,000 records, 48.0 MB:") + 1] == (
        f"  {reports / 'throughput_by_batch_size.svg'}"
    )
    assert [path.name for path in reports.iterdir()] == ["throughput_by_batch_size.svg"]
    assert "left out:" not in lines
    assert "not paired:" not in lines


def test_settings_and_datasets_that_one_side_lacks_are_said(storage: Path) -> None:
    """Only the same setting on the same dataset is set side by side."""
    sizes = (100, 500, 1000, 2000, 5000)
    save(storage, "0001_GCP", [load("GCP", batch_size=size) for size in sizes])
    save(storage, "0002_AWS", [load("AWS"), load("AWS", records=500)])

    printed = compared(storage)

    assert (
        "  AWS: 4 of 5 settings with 20,000 records, 48.0 MB were not measured: "
        "values, batch size 100, 1 connection; values, batch size 500, 1 connection; "
        "values, batch size 2,000, 1 connection; and 1 more\n"
    ) in printed
    assert "  GCP: loaded other data, not 500 records, 1.2 MB\n" in printed
    assert "charts of 20,000 records" in printed


def test_several_runs_of_a_cloud_are_told_apart(storage: Path) -> None:
    """By the number of the file, in the order in which they were asked for."""
    save(storage, "0001_GCP", [load(seconds=[1.0])])
    save(storage, "0002_GCP", [load(seconds=[0.5])])

    printed = compared(storage, "0002", "0001")

    assert "ratio to GCP 0002" in printed
    assert "values  1,000      1    40,000    20,000   0.50" in printed


def test_what_is_left_out_is_named_after_the_table(storage: Path) -> None:
    """The rest is compared."""
    save(storage, "0001_GCP", [load(), load("GCP", "copy", verified=False)])
    save(storage, "0002_other", [reading()])

    table, left_out = compared(storage).split("left out:\n")

    assert "copy" not in table
    assert "test_load[copy-1000-1]: its rows were not verified" in left_out
    assert "0002_other" not in left_out  # a run without loads is none of those that were meant
    assert "0002_other.json: no load in it" in compared(storage, "0001", "0002")


def test_nothing_to_compare_is_a_usage_error_that_says_what_to_run(storage: Path) -> None:
    """With the reason for each file that was there."""
    with pytest.raises(UsageError, match=r"no verified load .*; run `pytest benchmarks` first"):
        compared(storage)

    save(storage, "0001_GCP", [load(verified=False)])
    out = io.StringIO()
    with pytest.raises(UsageError, match="in 0001;"):
        compare(["0001"], storage=storage, out=out)
    assert "not verified" in out.getvalue()


def test_a_folder_that_cannot_be_written_is_a_usage_error(storage: Path) -> None:
    """It names the folder and the reason."""
    save(storage, "0001_GCP", [load()])
    (storage.parent / "reports").write_text("a file")

    with pytest.raises(UsageError, match=r"cannot write charts to .*reports: File exists"):
        compared(storage)


def test_the_terminal_gets_ascii_only(storage: Path) -> None:
    """So that no locale of a terminal, a log or a pipe breaks the output."""
    save(storage, "0001_GCP", [load()])

    assert compared(storage).isascii()


def test_importing_the_report_costs_nothing() -> None:
    """Neither a driver nor a chart library nor pytest is needed to show the command's help."""
    heavy = ["psycopg2", "pygal", "pytest", "pytest_benchmark", "streamlit", "msgspec"]
    code = (
        "import sys, pgload.report.compare; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "[]"
