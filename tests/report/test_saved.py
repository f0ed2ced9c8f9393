"""Reading saved runs: which files are read, what is left out, and the reason that is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgload.report.measurement import RoundTimeline
from pgload.report.saved import SkippedSetting, load_runs, read_timeline
from tests.support.saved_runs import load, save


def test_without_patterns_the_newest_run_of_each_cloud_is_read(tmp_path: Path) -> None:
    """Newest by the file's own datetime, whatever its number, its name or its mtime."""
    newest = save(tmp_path, "0001_A", [load("GCP")], datetime="2025-03-01T00:00:00+00:00")
    older = save(tmp_path, "0002_B", [load("GCP"), load("AWS")], datetime="2025-02-01T00:00:00")
    os.utime(newest, (0, 0))

    runs, problems = load_runs(storage=tmp_path)

    assert [(run.cloud, run.path) for run in runs] == [("AWS", older), ("GCP", newest)]
    assert problems == []


def test_a_newest_run_without_a_result_gives_way_and_is_named(
    tmp_path: Path,
) -> None:
    """The run before it is compared, and the newer one is reported."""
    good = save(tmp_path, "0001_GCP", [load()], datetime="2025-01-01T00:00:00+00:00")
    save(tmp_path, "0002_GCP", [load(verified=False)], datetime="2025-01-02T00:00:00+00:00")

    runs, problems = load_runs(storage=tmp_path)

    assert [run.path for run in runs] == [good]
    assert len(problems) == 1
    assert "0002_GCP.json: benchmarks/test_load.py::test_load[values-1000-1]" in problems[0]


def test_files_are_named_as_for_pytest_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By path, by glob, by number, with or without the machine's folder; each file once."""
    first = save(tmp_path / ".benchmarks", "0001_GCP", [load("GCP")])
    second = save(tmp_path / ".benchmarks", "0002_AWS", [load("AWS")])
    monkeypatch.chdir(tmp_path)

    def paths(*patterns: str) -> list[Path]:
        runs, problems = load_runs(patterns)
        assert problems == []
        return [run.path.resolve() for run in runs]

    assert paths("0001") == [first]
    assert paths("0002", "0001") == [second, first]
    assert paths("000*") == [first, second]
    assert paths("Linux*/0002") == [second]
    assert paths("0001_GCP.json") == [first]
    assert paths(".benchmarks/*/*.json") == [first, second]
    assert paths(str(tmp_path / ".benchmarks/*/*_AWS.json")) == [second]
    assert paths(".benchmarks/Linux-CPython-3.11-64bit/0001_GCP.json", "0001") == [first]


def test_a_setting_of_several_tests_is_one_measurement(tmp_path: Path) -> None:
    """They were measured at different times, which is what a pass is."""
    path = save(tmp_path, "0001_GCP", [load(seconds=[1.0, 2.0]), load(seconds=[3.0])])

    (run,), _ = load_runs([str(path)])

    (measured,) = run.measurements
    assert [each.seconds for each in measured.passes] == [(1.0, 2.0), (3.0,)]


def test_a_malformed_benchmark_does_not_cost_the_others(tmp_path: Path) -> None:
    """A NaN neither: it stands in a file that is not JSON to a strict reader."""
    loads = [load(method="copy", commit=float("nan")), load(method="json", advice=7), load()]
    path = save(tmp_path, "0001_GCP", loads)

    (run,), problems = load_runs([str(path)])

    assert [each.setting.method for each in run.measurements] == ["values"]
    test = f"{path}: benchmarks/test_load.py::test_load"
    assert problems == [
        f"{test}[copy-1000-1]: Expected `float` >= 0.0 - at `$.extra_info.commit`",
        f"{test}[json-1000-1]: Expected `str | null`, got `int` - at `$.extra_info.advice`",
    ]


def test_the_servers_facts_come_with_the_run_of_their_cloud(tmp_path: Path) -> None:
    """Each run carries its own cloud's facts, and none where none were saved."""
    servers = {"GCP": {"version": "18.1"}}
    path = save(tmp_path, "0001_both", [load("GCP"), load("AWS")], servers=servers)

    runs, _ = load_runs([str(path)])

    assert {run.cloud: dict(run.server) for run in runs} == {"GCP": {"version": "18.1"}, "AWS": {}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\ufffd\xff", "not JSON"),
        ("[1]", "not saved by pytest-benchmark"),
        ('{"benchmarks": []}', "its list of benchmarks is empty"),
        ('{"benchmarks": [{"params": {"n": 1}}, 7]}', "not a run of pgload: no load in it"),
        ('{"benchmarks": [], "machine_info": {"servers": {}}}', "its list of benchmarks is empty"),
    ],
)
def test_a_file_that_is_not_a_saved_run_is_named_and_left_out(
    tmp_path: Path, content: str, reason: str
) -> None:
    """The rest is read; the line says which file and why."""
    good = save(tmp_path, "0001_GCP", [load()])
    bad = good.with_name("0002_bad.json")
    bad.write_text(content, "latin-1" if "\xff" in content and "\ufffd" not in content else "utf-8")

    runs, problems = load_runs(storage=tmp_path)

    assert [run.path for run in runs] == [good]
    assert len(problems) == 1
    assert problems[0].startswith(f"{bad}: {reason}")


def test_a_run_without_a_date_is_named_and_left_out(tmp_path: Path) -> None:
    """Without it, it is unknown which run is newest."""
    save(tmp_path, "0001_GCP", [load()], datetime="yesterday")

    runs, problems = load_runs(storage=tmp_path)

    assert runs == []
    assert "its datetime is 'yesterday'" in problems[0]


def test_a_pattern_without_a_file_is_named(tmp_path: Path) -> None:
    """So is one that `glob` does not accept."""
    save(tmp_path, "0001_GCP", [load()])

    runs, problems = load_runs(["0007", "0001", "**x", ""], tmp_path)

    assert [run.cloud for run in runs] == ["GCP"]
    assert [problem.split(":")[0] for problem in problems] == ["0007", "**x", ""]


def test_a_run_holds_its_client_its_drift_and_the_settings_that_it_skipped(tmp_path: Path) -> None:
    """Those of its cloud; what is malformed is ignored, and does not cost the measurements."""
    skipped = {"method": "copy", "batch_size": 5000, "connections": 1, "reason": "too few records"}
    path = save(
        tmp_path,
        "0001_GCP",
        [load()],
        client={"cpu": "M1", "cores": 8},
        run={"drift": {"GCP": {"start": 1.0, "note": "slower at the end"}}},
        not_measured=[{"cloud": "AWS", **skipped}, {"cloud": "GCP", **skipped}, 7],
    )

    (run,), problems = load_runs([str(path)])

    assert run.client == {"cpu": "M1", "cores": 8}
    assert run.drift["note"] == "slower at the end"
    assert run.not_measured == (SkippedSetting("GCP", **skipped),)
    assert problems == []


def test_a_timeline_is_read_from_the_file_of_its_measurement(tmp_path: Path) -> None:
    """Another setting's is not taken, and a file that has gone has none."""
    batches = {"start": [0.0], "seconds": [0.5]}
    path = save(tmp_path, "0001_GCP", [load(batch_size=5), load(batches=batches)])
    (run,), _ = load_runs([str(path)])

    without, measured = run.measurements
    assert read_timeline(without) is None
    assert read_timeline(measured) == RoundTimeline((0.0,), (0.5,), ())
    path.unlink()
    assert read_timeline(measured) is None
