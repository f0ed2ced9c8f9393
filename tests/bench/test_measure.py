"""Rounds that scatter too much are reported; a setting's time is limited."""

from __future__ import annotations

from pathlib import Path

from pgload.bench.measure import unstable
from tests.bench.conftest import Database
from tests.support.checkout import Run, saved


def test_unstable() -> None:
    """Rounds that scatter, an outlier and a single round are unstable."""
    assert unstable([1.0, 1.02, 0.98, 1.01]) is None
    assert unstable([1.0, 1.3, 0.8, 1.1]) == "the rounds' standard deviation is 20% of their mean"
    assert unstable([1.0] * 20 + [1.7]) == "one round is 65% away from the mean"
    assert unstable([1.0]) == "a single round has no spread"


def test_max_time_per_setting(run: Run, checkout: Path, database: Database) -> None:
    """A setting that takes long gets fewer rounds, and never fewer than two."""
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP", "--batch-size=300",
               "--records=600", "--rounds=50", "--max-time-per-setting=0.001")  # fmt: skip
    assert done.returncode == 0, done.stdout
    (bench,) = saved(checkout)["benchmarks"]
    assert bench["stats"]["rounds"] == 2
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None
