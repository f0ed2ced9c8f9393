"""`compare`: what it prints, what it writes, its exit codes, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgload.errors import UsageError
from pgload.report.compare import CompareOptions, Output, compare, parse_formats
from pgload.report.gate import Gate, parse_percent
from tests.support.gold import check_gold
from tests.support.saved_runs import load, reading, save

ROOT = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / ".benchmarks"


def compared(storage: Path, *patterns: str, **options: Any) -> tuple[str, str]:
    """What goes to standard output and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    output = Output(storage.parent / "reports", formats=options.pop("formats", ("svg", "json")))
    compare(patterns, CompareOptions(storage=storage, output=output, **options), out=out, err=err)
    return out.getvalue(), err.getvalue()


def saved_json(storage: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((storage.parent / "reports/compare.json").read_text("utf-8"))
    return found


def known_speeds(storage: Path, **speeds: float) -> None:
    """A run for each cloud, of known speed, with 3% noise over five passes."""
    rng = random.Random(1)
    for number, (cloud, speed) in enumerate(speeds.items(), start=1):
        loads = []
        for size in (100, 500, 1000, 5000):
            best = 2 if size == 1000 else 1  # so that the best setting is known
            seconds = [rng.gauss(1, 0.03) / speed / best for _ in range(5)]
            loads.append(
                load(cloud, batch_size=size, seconds=seconds, passes=[[s] for s in seconds])
            )
        save(storage, f"{number:04}_{cloud}", loads)


def test_three_servers_of_known_speeds_come_out_in_order(storage: Path) -> None:
    """With their ratios inside the intervals, the best settings, and the verdicts."""
    known_speeds(storage, GCP=1.0, AWS=1.5, AZURE=0.7)

    out, _ = compared(storage, "0*")

    found = saved_json(storage)
    assert [each["side"] for each in found["best"]] == ["AWS", "GCP", "AZURE"]
    assert {each["batch_size"] for each in found["best"]} == {1000}
    assert len(found["settings"]) == 8
    for each in found["settings"]:
        assert each["baseline"] == "GCP"
        expected = {"AWS": 1.5, "AZURE": 0.7}[each["side"]]
        assert each["ratio"] == pytest.approx(expected, rel=0.08)
        assert each["low"] < each["ratio"] < each["high"]
        assert each["verdict"] == ("faster" if each["side"] == "AWS" else "slower")
    assert "fastest: AWS, values, batch size 1,000" in out
    overall = {each["side"]: each["verdict"] for each in found["overall"]}
    assert overall == {"AWS": "faster", "AZURE": "slower"}


def test_ratios_are_of_the_compared_side_to_the_baseline(storage: Path) -> None:
    """Also with another side as the baseline."""
    known_speeds(storage, GCP=1.0, AWS=2.0)

    compared(storage, "0*", baseline="aws")

    (only,) = {each["side"] for each in saved_json(storage)["settings"]}
    assert only == "GCP"
    assert all(each["verdict"] == "slower" for each in saved_json(storage)["settings"])
    assert all(0.4 < each["ratio"] < 0.6 for each in saved_json(storage)["settings"])


def test_the_newest_runs_are_read_compared_and_drawn(storage: Path) -> None:
    """Files first, then differences, then the table, then what was written."""
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
        servers={"AWS": {"version": "17.2"}},
    )

    out, err = compared(storage)

    lines = out.splitlines()
    assert lines[:6] == [
        "read:",
        f"  AWS: {aws} (2025-01-15 10:30 UTC, PostgreSQL 17.2, 2 settings, "
        "20,000 records, 48.0 MB)",
        f"  GCP: {gcp} (2025-01-15 10:30 UTC, PostgreSQL 18.1, db-custom-4-16384, "
        "2 settings, 20,000 records, 48.0 MB)",
        "",
        "the sides differ in:",
        "  server version: AWS 17.2, GCP 18.1",
    ]
    assert any(each.startswith("values  1,000      1  10,000  20,000   2.00  1.") for each in lines)
    reports = storage.parent / "reports"
    assert f"  {reports / 'throughput_by_batch_size.svg'}" in lines
    assert (reports / "throughput_by_batch_size.svg").exists()
    assert not (reports / "throughput_by_method.svg").exists()
    assert "  throughput_by_method: no two settings differ in method alone" in lines
    assert "not paired:" not in lines
    assert err == ""


def test_charts_of_an_earlier_comparison_are_removed(storage: Path) -> None:
    """The charts in the folder belong to this comparison; other files stay."""
    save(storage, "0001_GCP", [load(batch_size=500), load(batch_size=1000)])
    compared(storage)
    reports = storage.parent / "reports"
    (reports / "mine.svg").write_text("")
    save(storage, "0001_GCP", [load()])

    compared(storage)

    names = {path.name for path in reports.glob("*.svg")}
    assert "throughput_by_batch_size.svg" not in names
    assert {"mine.svg", "batch_latency.svg"} <= names


def test_settings_and_datasets_that_one_side_lacks_are_said(storage: Path) -> None:
    """Only the same setting on the same dataset is set side by side."""
    sizes = (100, 500, 1000, 2000, 5000)
    save(storage, "0001_GCP", [load("GCP", batch_size=size) for size in sizes])
    save(storage, "0002_AWS", [load("AWS"), load("AWS", records=500)])

    out, _ = compared(storage)

    assert (
        "  AWS: 4 of 5 settings with 20,000 records, 48.0 MB were not measured: "
        "values, batch size 100, 1 connection; values, batch size 500, 1 connection; "
        "values, batch size 2,000, 1 connection; and 1 more\n"
    ) in out
    assert "  GCP: loaded other data, not 500 records, 1.2 MB\n" in out


def test_two_runs_of_a_cloud_are_compared(storage: Path) -> None:
    """They are distinguished by number, in the order in which they were asked for."""
    rounds = [1.0, 1.01, 0.99]
    save(storage, "0001_EMBEDDED", [load("EMBEDDED", seconds=rounds)])
    save(storage, "0002_EMBEDDED", [load("EMBEDDED", seconds=[0.5 * s for s in rounds])])

    compared(storage, "0002", "0001")

    (only,) = saved_json(storage)["settings"]
    assert (only["baseline"], only["side"]) == ("EMBEDDED 0002", "EMBEDDED 0001")
    assert (only["ratio"], only["verdict"]) == (pytest.approx(0.5), "slower")


def test_what_is_left_out_is_named_on_standard_error(storage: Path) -> None:
    """Missing, broken, old or another project's; the rest is compared."""
    save(storage, "0001_GCP", [load(), load("GCP", "copy", verified=False)])
    save(storage, "0002_other", [reading()])
    folder = storage / "Linux-CPython-3.11-64bit"
    (folder / "0003_broken.json").write_text("{")
    foreign = {"benchmarks": [{"params": {"n": 1}}], "datetime": "2025-01-01T00:00:00"}
    (folder / "0004_foreign.json").write_text(json.dumps(foreign))
    old = load("AWS")
    del old["extra_info"]["batch_latency"]
    save(storage, "0005_old", [old])

    out, err = compared(storage)

    assert "copy" not in out
    assert "test_load[copy-1000-1]: its rows were not verified" in err
    assert "0002_other" not in err  # not asked for, and without loads
    assert "0003_broken.json: not JSON" in err
    assert "0004_foreign.json: not a run of pgload" in err
    assert "0005_old.json: benchmarks/test_load.py::test_load[values-1000-1]: Object missing" in err
    assert "0002_other.json: no load in it" in compared(storage, "0001", "0002")[1]
    assert "0009: no such file" in compared(storage, "0001", "0009")[1]
    assert len(saved_json(storage)["left_out"]) == 2


def test_nothing_to_compare_is_a_usage_error_that_names_the_command_to_run(storage: Path) -> None:
    """With the reason for each file that was there."""
    with pytest.raises(UsageError, match=r"no verified load .*; run `pytest benchmarks` first"):
        compared(storage)

    save(storage, "0001_GCP", [load(verified=False)])
    err = io.StringIO()
    with pytest.raises(UsageError, match="in 0001;"):
        compare(["0001"], CompareOptions(storage=storage), err=err)
    assert "not verified" in err.getvalue()


def test_a_folder_that_cannot_be_written_is_a_usage_error(storage: Path) -> None:
    """It names the folder and the reason."""
    save(storage, "0001_GCP", [load()])
    (storage.parent / "reports").write_text("a file")

    with pytest.raises(UsageError, match=r"cannot write to .*reports: File exists"):
        compared(storage)


def test_the_terminal_gets_ascii_only(storage: Path) -> None:
    """So that no locale of a terminal, a log or a pipe breaks the output."""
    save(storage, "0001_GCP", [load(advice="mehr Verbindungen für ×")])
    save(storage, "0002_AWS", [load("AWS")])

    assert compared(storage)[0].isascii()


def test_sides_that_differ_in_durability_are_compared_with_a_warning(storage: Path) -> None:
    """On the terminal, in the JSON and in the Markdown."""
    for number, (cloud, fsync) in enumerate({"GCP": "on", "AWS": "off"}.items(), start=1):
        servers = {cloud: {"settings": {"fsync": fsync}}}
        save(storage, f"{number:04}_{cloud}", [load(cloud)], servers=servers)

    out, _ = compared(storage, "0*", formats=("json", "md"))

    assert "  they also differ in durability: setting fsync on / off" in out
    warning = ["durability: setting fsync on / off"]
    assert [each["caveats"] for each in saved_json(storage)["settings"]] == [warning]
    assert warning[0] in (storage.parent / "reports/compare.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["compare.csv", "compare.json"])
def test_files_for_machines_are_as_expected(storage: Path, name: str) -> None:
    """Keys, columns and numbers of two clouds, one of which lacks a setting."""
    for number, (cloud, factor) in enumerate({"GCP": 1.0, "AWS": 0.5}.items(), start=1):
        passes = [[factor * second] for second in (1.0, 1.01, 0.99, 1.0, 1.005)]
        measured: dict[str, Any] = {
            "seconds": [second for each in passes for second in each],
            "passes": passes,
            "bottleneck": "wal",
            "bottleneck_shares": {"client": 0.25, "wal": 0.75},
        }
        loads = [load(cloud, batch_size=size, **measured) for size in (500, 1000)[:number]]
        servers = {cloud: {"version": f"1{number}.1", "price_per_hour": 0.36}}
        save(storage, f"{number:04}_{cloud}", loads, servers=servers)

    compared(storage, "0*", formats=parse_formats(name.removeprefix("compare.")))

    (path,) = (storage.parent / "reports").iterdir()
    assert path.name == name
    check_gold(name, path.read_text("utf-8"), storage.parent)


def test_csv_json_and_markdown_agree(storage: Path) -> None:
    """On every ratio and verdict."""
    known_speeds(storage, GCP=1.0, AWS=2.0)

    compared(storage, "0*", formats=parse_formats("csv,json,md"))

    folder = storage.parent / "reports"
    with (folder / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["baseline"] for row in rows if row["side"] == "AWS"} == {"GCP"}
    by_size = {row["batch_size"]: row for row in rows if row["side"] == "AWS"}
    for each in saved_json(storage)["settings"]:
        row = by_size[str(each["batch_size"])]
        assert float(row["ratio"]) == each["ratio"]
        assert row["verdict"] == each["verdict"] == "faster"
    assert (folder / "compare.md").read_text("utf-8").count("🟢 faster") == 4


@pytest.mark.parametrize("text", ["throughput:-10", "latency:-10%", "throughput:10%", "-10%", ""])
def test_a_gate_that_is_not_understood_is_a_usage_error(text: str) -> None:
    """It shows how to write one."""
    with pytest.raises(UsageError, match="write throughput:-10%"):
        Gate.parse(text)


def test_a_gate_with_nothing_to_check_does_not_pass(storage: Path) -> None:
    """One side only, or no setting in common: a build would otherwise always pass."""
    save(storage, "0001_GCP", [load("GCP")])

    with pytest.raises(UsageError, match="--fail throughput:-10% has nothing to check"):
        compared(storage, gate=Gate(10))


def test_options_that_are_not_understood_are_usage_errors() -> None:
    """They name the value and the choices."""
    with pytest.raises(UsageError, match="--format: pdf is not one of html, svg"):
        parse_formats("svg,pdf")
    with pytest.raises(UsageError, match="--threshold 'much' is not a percentage"):
        parse_percent("--threshold", "much")
    assert parse_percent("--threshold", "2.5%") == 0.025


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pgload", "compare", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_exit_codes(storage: Path) -> None:
    """0 for a comparison, 2 where there is nothing to compare, 3 where a setting is slower."""
    nothing = command(storage.parent)
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("pgload: no verified load to compare in .benchmarks; run `py")

    known_speeds(storage, GCP=1.0, AWS=0.8)
    plain = command(storage.parent, "0*", "--format", "json")
    assert (plain.returncode, plain.stderr) == (0, "")
    passed = command(storage.parent, "0*", "--fail", "throughput:-30%")
    assert passed.returncode == 0
    assert "--fail throughput:-30%: 4 settings checked" in passed.stdout
    failed = command(storage.parent, "0*", "--fail", "throughput:-10%")
    assert failed.returncode == 3
    assert "AWS against GCP: values, batch size 100, 1 connection: 0." in failed.stderr
    assert command(storage.parent, "0*", "--fail", "much").returncode == 2


def test_importing_the_report_is_cheap() -> None:
    """A run's table and the help need no driver, no charts, no pytest."""
    heavy = [
        "psycopg2",
        "pygal",
        "jinja2",
        "pytest",
        "pytest_benchmark",
        "streamlit",
        "distributed",
    ]
    code = (
        "import sys, pgload.report.compare, pgload.report.tables; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "[]"
