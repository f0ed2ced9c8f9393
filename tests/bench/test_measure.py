"""What is saved of a setting's passes; loads of enough length; a setting's time is limited."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.bench.measure import Pass, Round, extra_info, unstable, variation
from pgload.bench.target import RoundTrip
from pgload.contract import PARTS
from pgload.load.bottleneck import Attribution
from tests.bench.conftest import Database
from tests.support.checkout import Run, saved
from tests.support.loading import write_json


def one_pass(number: int = 1, repeats: int = 1) -> Pass:
    """A pass of one round of 600 records."""
    made = Round(
        seconds=0.5,
        records=600,
        bytes=3_000_000,
        cpu_seconds=0.2,
        parts=dict.fromkeys((*PARTS, "encode_cpu", "write_cpu"), 0.1),
        batch_seconds=[0.1, 0.2],
        wal_bytes=6000,
        bottlenecks=Attribution({"client": 0.5}),
        wait_events={"CPU": 3},
        counters={},
        timeline={},
        checkpoints=[],
    )
    return Pass(number, [0.5], [made], RoundTrip(0.001, 0.002), True, repeats)


def test_unstable() -> None:
    """Passes that vary, and a single pass, are unstable; the rounds within a pass do not matter."""
    assert unstable([100, 102, 98, 101]) is None
    assert (
        unstable([100, 130, 80, 110]) == "the standard deviation of its passes is 20% of their mean"
    )
    assert variation([100, 130, 80, 110]) == pytest.approx(0.198, abs=0.001)
    assert unstable([100]) == "a single pass does not show how much passes vary"


def test_repeated_dataset() -> None:
    """`records` and `bytes` are those of a round, `dataset` has those of the dataset."""
    found = extra_info([one_pass(1, repeats=3), one_pass(4, repeats=3)])
    assert (found["records"], found["bytes"]) == (600, 3_000_000)
    assert found["dataset"] == {"records": 200, "bytes": 1_000_000}
    assert (found["records_per_second"], found["mb_per_second"]) == (1200, 6)
    assert found["passes"] == [{"number": 1, "seconds": [0.5]}, {"number": 4, "seconds": [0.5]}]
    assert found["idle"] == found["profile"]["idle"] == 0.1


def test_explanation_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What explains the numbers does not cost them when it cannot be computed."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("pgload.bench.measure.bottleneck_of", fail)
    found = extra_info([one_pass()])
    assert found["verified"] is True
    assert found["records_per_second"] == 1200
    assert found["incomplete"] == "could not be computed: ZeroDivisionError: division by zero"


def test_repeated_until_it_lasts(run: Run, checkout: Path, database: Database) -> None:
    """Given data is loaded often enough for a second, warmed up once, and verified all the same."""
    data = checkout / "few"
    data.mkdir()
    write_json(data / "a.json", [{"n": n} for n in range(400)])
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP", f"--data={data}",
               "--batch-size=10,40,41", "--passes=2")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "not measured: too few batches (9) for 10" in done.stdout
    benchmarks = saved(checkout)["benchmarks"]
    assert len(benchmarks) == 2
    for bench in benchmarks:
        extra = bench["extra_info"]
        assert extra["dataset"]["records"] == 400
        assert extra["records"] % 400 == 0
        assert extra["records"] > 400
        assert bench["stats"]["rounds"] == 2
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None


def test_max_time_per_setting(run: Run, checkout: Path, database: Database) -> None:
    """A setting that takes long gets fewer rounds, and never fewer than two."""
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP", "--batch-size=60",
               "--passes=1", "--records=600", "--rounds=50",
               "--max-time-per-setting=0.001")  # fmt: skip
    assert done.returncode == 0, done.stdout
    (bench,) = saved(checkout)["benchmarks"]
    assert bench["stats"]["rounds"] == 2
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None
