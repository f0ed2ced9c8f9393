"""Reading saved runs: what counts, what is left out, and the reason that is given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pgload.contract import Setting
from pgload.errors import SourceError
from pgload.report.saved import DatasetSize, is_load, load_runs, measurement
from tests.support.saved_runs import load, reading, save


def test_measurement_keeps_rounds_and_gives_throughput_in_records_per_second() -> None:
    """The median round gives the throughput, the slowest and the fastest its range."""
    measured = measurement(load(seconds=[1.0, 0.8, 1.25], records=20_000), "0001_GCP.json")

    assert measured.cloud == "GCP"
    assert measured.setting == Setting("values", 1000, 1)
    assert measured.dataset == DatasetSize(20_000, 48_000_000)
    assert measured.rounds == (1.0, 0.8, 1.25)
    assert measured.throughput == 20_000
    assert (measured.throughput_min, measured.throughput_max) == (16_000, 25_000)
    assert (measured.latency.p50, measured.latency.max) == (0.035, 0.1)
    assert measured.source == "0001_GCP.json"


def test_round_trip_time_and_wal_may_be_unknown() -> None:
    """A server that does not tell them still has a result."""
    measured = measurement(load(rtt_ms=None, wal_bytes_per_record=None), "x.json")

    assert measured.rtt_ms is None
    assert measured.wal_bytes_per_record is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verified": False}, "not verified"),
        ({"verified": "true"}, "not verified"),
        ({"records": 0}, "records is 0, not a whole number of 1 or more"),
        ({"records": True}, "records is True"),
        ({"bytes": None}, "bytes is None"),
        ({"client": {}}, "it lacks client.cpu_share"),
        ({"client": None}, "it lacks client.cpu_share"),
        ({"batch_latency": {"p50": 1, "p95": 1, "max": 1}}, "it lacks batch_latency.p99"),
        ({"encode": float("nan")}, "encode is nan, not a number"),
        ({"commit": -1}, "commit is -1, not a number of 0 or more"),
    ],
)
def test_a_benchmark_without_a_usable_result_is_refused(
    changes: dict[str, Any], reason: str
) -> None:
    """Nothing unverified, missing or impossible becomes a measurement; the reason names it."""
    with pytest.raises(SourceError, match=reason):
        measurement(load(**changes), "x.json")


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [([], "--benchmark-save-data"), (["1"], "a round is '1'"), ([0.5, 0], "0 s")],
)
def test_a_benchmark_without_its_rounds_is_refused(rounds: list[object], reason: str) -> None:
    """Each round must have been saved, with a duration above zero."""
    benchmark = load()
    benchmark["stats"]["data"] = rounds

    with pytest.raises(SourceError, match=reason):
        measurement(benchmark, "x.json")


def test_only_a_benchmark_with_cloud_and_setting_is_a_load() -> None:
    """Reading or encoding alone is not one, nor are other projects' parameters."""
    assert is_load(load())
    assert not is_load(reading())
    assert not is_load({**load(), "params": {"cloud": "GCP"}})


def test_without_patterns_the_newest_run_of_each_cloud_is_read(tmp_path: Path) -> None:
    """Newest by the file's own datetime, whatever its number, its name or its mtime."""
    newest = save(tmp_path, "0001_A", [load("GCP")], datetime="2025-03-01T00:00:00+00:00")
    older = save(tmp_path, "0002_B", [load("GCP"), load("AWS")], datetime="2025-02-01T00:00:00")
    os.utime(newest, (0, 0))

    runs, problems = load_runs(storage=tmp_path)

    assert [(run.cloud, run.path) for run in runs] == [("AWS", older), ("GCP", newest)]
    assert problems == []


def test_a_newest_run_without_a_result_gives_way_and_is_named(tmp_path: Path) -> None:
    """The run before it is compared, and the reader learns that it is not the last one."""
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


def test_rounds_of_a_setting_under_several_tests_are_pooled(tmp_path: Path) -> None:
    """Rounds add up; what is saved per test is averaged by rounds, the worst batch stays."""
    alike = {"p50": 0.03, "p95": 0.04, "p99": 0.05}
    path = save(
        tmp_path,
        "0001_GCP",
        [
            load(seconds=[1.0, 2.0, 3.0], encode=0.2, batch_latency={**alike, "max": 0.1}),
            load(seconds=[4.0], encode=0.6, batch_latency={**alike, "max": 0.7}, rtt_ms=None),
        ],
    )

    runs, _ = load_runs([str(path)])

    (measured,) = runs[0].measurements
    assert measured.rounds == (1.0, 2.0, 3.0, 4.0)
    assert measured.throughput == 8_000
    assert measured.encode == pytest.approx(0.3)
    assert measured.latency.max == 0.7
    assert measured.rtt_ms is None


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
        ("\ufffd\xff", "not JSON"),
        ("[1]", "not saved by pytest-benchmark"),
        ('{"benchmarks": []}', "its list of benchmarks is empty"),
        ('{"benchmarks": [{"params": {"n": 1}}, 7]}', "not a run of pgload: no load in it"),
        ('{"benchmarks": [], "machine_info": {"servers": {}}}', "its list of benchmarks is empty"),
    ],
)
def test_a_file_that_is_no_saved_run_is_named_and_left_out(
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
    """Which run is newest cannot be told without it."""
    save(tmp_path, "0001_GCP", [load()], datetime="yesterday")

    runs, problems = load_runs(storage=tmp_path)

    assert runs == []
    assert "its datetime is 'yesterday'" in problems[0]


def test_a_pattern_without_a_file_is_named(tmp_path: Path) -> None:
    """So is one that no glob can follow."""
    save(tmp_path, "0001_GCP", [load()])

    runs, problems = load_runs(["0007", "0001", "**x", ""], tmp_path)

    assert [run.cloud for run in runs] == ["GCP"]
    assert [problem.split(":")[0] for problem in problems] == ["0007", "**x", ""]


def test_what_newer_files_hold_beside_the_numbers_is_kept(tmp_path: Path) -> None:
    """Passes, what held it back, client, drift; older files lack them, broken ones do no harm."""
    shares = {"client": 0.2, "network": 0.8}
    path = save(
        tmp_path,
        "0001_GCP",
        [
            load(
                seconds=[1.0, 2.0, 3.0, 4.0],
                passes=[[1.0, 2.0], [3.0, 4.0]],
                bottleneck="network",
                bottleneck_shares=shares,
                advice="use larger batches.",
                unstable="the second pass was slower.",
                profile={"read": 0.1, "wait": 0.2},
            ),
            load(batch_size=1, seconds=[1.0, 2.0], passes=[[1.0], [7.0]], bottleneck_shares=3),
        ],
        client={"cpu": "M1", "cores": 8},
        run={"drift": {"GCP": {"start": 1.0, "note": "slower at the end"}}},
        not_measured=[{"cloud": "AWS", "reason": "x"}, {"cloud": "GCP", "reason": "y"}, 7],
    )

    (run,), problems = load_runs([str(path)])

    first, second = run.measurements
    assert [each.seconds for each in first.passes] == [(1.0, 2.0), (3.0, 4.0)]
    assert (first.bottleneck, first.bottleneck_shares) == ("network", shares)
    assert (first.advice, first.unstable) == ("use larger batches.", "the second pass was slower.")
    assert first.profile == {"wait": 0.2}  # "read" is not a part
    assert second.passes == ((1.0, 2.0),)  # not those of these rounds
    assert second.bottleneck_shares == {}
    assert run.client == {"cpu": "M1", "cores": 8}
    assert run.drift["note"] == "slower at the end"
    assert run.not_measured == ({"cloud": "GCP", "reason": "y"},)
    assert problems == []


def test_rounds_under_several_tests_are_as_many_passes(tmp_path: Path) -> None:
    """They were measured at different times, which is what a pass is."""
    path = save(tmp_path, "0001_GCP", [load(seconds=[1.0, 2.0]), load(seconds=[3.0])])

    (run,), _ = load_runs([str(path)])

    assert run.measurements[0].passes == ((1.0, 2.0), (3.0,))
