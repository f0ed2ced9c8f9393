"""A server that changes during a run is noticed, unless its noise explains the change."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from pgload.bench import drift
from pgload.bench.drift import MOMENTS, DriftProbe, drift_note
from pgload.contract import Setting
from pgload.errors import LoadError
from tests.bench.conftest import Database
from tests.support.checkout import Run, saved

TRIALS = 1000


def reports(variation: float, change: float, moments: int = MOMENTS) -> list[str]:
    """The notes of many runs with this variation of a load and this change until the end."""
    noise = random.Random(7)
    notes = [
        drift_note(
            [
                noise.lognormvariate(math.log1p(change) * at / (moments - 1), variation)
                for at in range(moments)
            ]
        )
        for _ in range(TRIALS)
    ]
    return [note for note in notes if note]


def test_note() -> None:
    """A trend beyond the noise has a note with its size, as a factor, and its direction."""
    assert drift_note([1.0, 1.01, 0.99, 1.0, 1.01, 1.0, 1.01, 1.0]) is None
    slower = drift_note([1.0, 1.04, 1.07, 1.11, 1.14, 1.18, 1.21, 1.25])
    assert slower is not None
    assert slower.startswith("the same setting was 1.25 times slower at the end of this run")
    faster = drift_note([1.25, 1.2, 1.15, 1.1, 1.05, 1.0])
    assert faster is not None
    assert "times faster at the end" in faster
    assert drift_note([1, 1.01, 1.02, 1.03, 1.02, 1.01, 1.0, 1.0]) is None


@pytest.mark.parametrize("moments", range(5, MOMENTS + 1))
def test_false_reports(moments: int) -> None:
    """Loads that vary by 5% without a trend are called drift in at most 5% of runs."""
    assert len(reports(variation=0.05, change=0, moments=moments)) <= 0.05 * TRIALS


@pytest.mark.parametrize("change", [0.2, -1 / 6])
def test_trends_found(change: float) -> None:
    """A server that becomes 1.2 times slower or faster, where loads vary by 3%, is found."""
    found = reports(variation=0.03, change=change)
    assert len(found) >= 0.9 * TRIALS
    assert all(("slower" if change > 0 else "faster") in note for note in found)


@pytest.mark.parametrize(
    "odd",
    [
        [],
        [1.0],
        [1.0] * 4,
        [1.0] * MOMENTS,
        [0.0] * MOMENTS,
        [math.nan] * MOMENTS,
        [math.inf, 1.0, 1.0, 1.0, 1.0, 1.0],
        [-1.0, *[1.0] * 30],
    ],
)
def test_odd_input(odd: list[float]) -> None:
    """Whatever the loads were, there is no exception, and nothing is claimed."""
    assert drift_note(odd) is None


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The results of the probe's loads to come: seconds, or an error."""
    results: list[Any] = []

    def load_once(*_: Any) -> float:
        result = results.pop(0) if results else 1.0
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(drift, "load_once", load_once)
    return results


def probed(probe: DriftProbe, *, settings: int) -> DriftProbe:
    """The probe after a run of settings that were all measured."""
    target: Any = None
    dataset: Any = type("Dataset", (), {"records": 100})
    probe.measure_if_due(target, dataset)
    for _ in range(settings):
        probe.done += 1
        probe.measure_if_due(target, dataset)
    return probe


@pytest.mark.usefixtures("loads")
def test_moments() -> None:
    """The moments are spread over the run; a short run has fewer, and a very short one none."""
    setting = Setting("copy", 100, 1)
    assert probed(DriftProbe(setting, total=70), settings=70).after == list(range(0, 71, 10))
    assert probed(DriftProbe(setting, total=4), settings=4).after == [0, 1, 2, 3, 4]
    assert probed(DriftProbe(setting, total=3), settings=3).report() is None


def test_failed_load(loads: list[Any]) -> None:
    """A load of the probe that fails is noted, and costs neither a setting nor the report."""
    loads += [1.0, 1.0, LoadError("a row is missing"), 1.0]
    report = probed(DriftProbe(Setting("copy", 100, 1), total=5), settings=5).report()
    assert report is not None
    assert report["failures"] == ["a row is missing"]
    assert report["after_settings"] == [0, 2, 3, 4, 5]
    assert (report["start"], report["end"], report["note"]) == (100, 100, None)


def test_settings_without_a_result(run: Run, checkout: Path, database: Database) -> None:
    """Settings that cannot be measured, wherever they come, leave a start and an end."""
    done = run("pytest", "benchmarks/test_batch_size.py", f"--cloud={database.target.cloud}",
               "--batch-size=10,20,30,900,950,999", "--records=600", "--passes=2",
               "--warmup-rounds=0")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("not measured") == 3  # once, and not in every pass
    probe = saved(checkout)["machine_info"]["run"]["drift"]["GCP"]
    assert {"start", "end", "note"} <= probe.keys()
    assert (probe["after_settings"][0], probe["after_settings"][-1]) == (0, 6)
    assert len(probe["seconds"]) >= 4
