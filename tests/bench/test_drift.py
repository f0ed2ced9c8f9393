"""A server that changes during a run is noticed, unless its noise explains the change."""

from __future__ import annotations

import random
from pathlib import Path

from pgload.bench.drift import drift_note
from tests.bench.conftest import Database
from tests.support.checkout import Run, saved


def test_drift_note() -> None:
    """A change beyond the noise has a note with its size and direction."""
    assert drift_note([[1.0, 1.01, 0.99], [1.0, 1.01, 1.0], [1.01, 1.0, 0.99]]) is None
    assert drift_note([[1.0, 1.01, 0.99]]) is None
    slower = drift_note([[1.0, 1.01, 0.99], [1.1, 1.11, 1.12], [1.3, 1.31, 1.29]])
    assert slower is not None
    assert slower.startswith("the same setting became 30% slower within this run")
    faster = drift_note([[1.2, 1.21, 1.19], [1.0, 1.01, 1.0]])
    assert faster is not None
    assert "20% faster" in faster


def test_false_alarms() -> None:
    """Noise alone is called drift in less than 5% of runs."""
    noise = random.Random(7)
    alarms = sum(
        drift_note([[noise.lognormvariate(0, 0.05) for _ in range(3)] for _ in range(3)])
        is not None
        for _ in range(400)
    )
    assert alarms < 400 * 0.05


def test_settings_without_a_result(run: Run, checkout: Path, database: Database) -> None:
    """Settings that cannot be measured, wherever they come, leave start, middle and end."""
    done = run("pytest", "benchmarks/test_batch_size.py", f"--cloud={database.target.cloud}",
               "--batch-size=100,200,300,900,950,999", "--records=600", "--rounds=1",
               "--warmup-rounds=0")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("not measured") == 3
    probe = saved(checkout)["machine_info"]["run"]["drift"]["GCP"]
    assert {"start", "middle", "end"} <= probe.keys()
    assert [len(seconds) for seconds in probe["rounds"].values()] == [3, 3, 3]
