"""A benchmark of the saved JSON as a measurement: what is read, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pgload.contract import Setting
from pgload.errors import SourceError
from pgload.report.measurement import (
    DatasetSize,
    RoundTimeline,
    SavedPass,
    is_load,
    measurement,
    pool,
    round_timeline,
)
from tests.support.saved_runs import load, reading


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
    """A server that does not report them has a result all the same."""
    measured = measurement(load(rtt_ms=None, wal_bytes_per_record=None), "x.json")

    assert measured.rtt_ms is None
    assert measured.wal_bytes_per_record is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verified": False}, "its rows were not verified"),
        ({"verified": "true", "records": 0}, "its rows were not verified"),
        ({"records": 0}, "Expected `int` >= 1 - at `$.extra_info.records`"),
        ({"records": True}, "Expected `int`, got `bool`"),
        ({"bytes": None}, "Expected `int`, got `null`"),
        ({"client": {}}, "missing required field `cpu_share` - at `$.extra_info.client`"),
        ({"client": None}, "Expected `object`, got `null` - at `$.extra_info.client`"),
        ({"batch_latency": {"p50": 1, "p95": 1, "max": 1}}, "missing required field `p99`"),
        ({"encode": float("nan")}, "Expected `float` >= 0.0 - at `$.extra_info.encode`"),
        ({"write": float("inf")}, "Expected `float` <= 1e+300 - at `$.extra_info.write`"),
        ({"commit": -1}, "Expected `float` >= 0.0 - at `$.extra_info.commit`"),
        ({"rtt_ms": 10**400}, "Number out of range - at `$.extra_info.rtt_ms`"),
        ({"bottleneck_shares": 3}, "Expected `object | null`, got `int`"),
        ({"profile": {"wait": "1"}}, "Expected `float`, got `str`"),
        ({"dataset": {"records": 1}}, "missing required field `bytes` - at `$.extra_info.dataset`"),
        ({"dataset": {"records": 30_000, "bytes": 1}}, "dataset has more records than a round"),
        ({"passes": [{"seconds": [1.0]}]}, "missing required field `number`"),
        ({"passes": [[1.0], [7.0]]}, "passes and stats.data do not hold the same rounds"),
    ],
)
def test_a_benchmark_without_a_usable_result_is_refused(
    changes: dict[str, Any], reason: str
) -> None:
    """An unverified load, or a missing or malformed value, raises an error that names it."""
    with pytest.raises(SourceError, match=re.escape(reason)):
        measurement(load(**changes), "x.json")


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ([], "run it again with --benchmark-save-data"),
        (["1"], "Expected `float`, got `str` - at `$.stats.data[0]`"),
        ([0.5, float("nan")], "Expected `float` >= 1e-09 - at `$.stats.data[1]`"),
        ([0.5, 1e10], "Expected `float` <= 1000000000.0 - at `$.stats.data[1]`"),
        ([0.5, 0], "Expected `float` >= 1e-09 - at `$.stats.data[1]`"),
    ],
)
def test_a_benchmark_without_its_rounds_is_refused(rounds: list[object], reason: str) -> None:
    """Each round must have been saved, with a duration above zero."""
    benchmark = load()
    benchmark["stats"]["data"] = rounds

    with pytest.raises(SourceError, match=re.escape(reason)):
        measurement(benchmark, "x.json")


@pytest.mark.parametrize(
    "passes",
    [
        [[1.0, 2.0], [], [3.0, 4.0]],
        [{"number": 1, "seconds": [1.0, 2.0]}, {"number": 3, "seconds": [3.0, 4.0]}],
    ],
)
def test_passes_are_read_in_the_old_form_and_with_their_numbers(passes: list[Any]) -> None:
    """An empty pass is omitted, and the others keep their numbers."""
    measured = measurement(load(seconds=[1.0, 2.0, 3.0, 4.0], passes=passes), "x.json")

    assert measured.passes == (
        SavedPass("x.json", 1, (1.0, 2.0)),
        SavedPass("x.json", 3, (3.0, 4.0)),
    )


def test_rounds_without_passes_are_one_pass() -> None:
    """A file of a single pass, or an older one."""
    assert measurement(load(seconds=[1.0, 2.0]), "x").passes == (SavedPass("x", 1, (1.0, 2.0)),)


def test_a_round_that_repeats_the_dataset_counts_once_for_each_repetition() -> None:
    """Seconds are those of loading it once, so that loads of the same dataset can be compared."""
    size = {"records": 5_000, "bytes": 12_000_000}
    measured = measurement(load(seconds=[1.0, 2.0], dataset=size, encode=0.4), "x")

    assert measured.dataset == DatasetSize(5_000, 12_000_000)
    assert measured.rounds == (0.25, 0.5)
    assert measured.profile["encode"] == pytest.approx(0.1)
    assert measured.throughput_max == 20_000
    assert measured.mb_per_second == pytest.approx(32)


def test_optional_values_are_kept() -> None:
    """Older files lack them; what is not a part or a bottleneck is ignored."""
    shares = {"client": 0.2, "network": 0.8}
    measured = measurement(
        load(
            bottleneck="network",
            bottleneck_shares=shares,
            advice="use larger batches.",
            unstable="the second pass was slower.",
            profile={"read": 0.1, "wait": 0.2},
        ),
        "x",
    )

    assert (measured.bottleneck, measured.bottleneck_shares) == ("network", shares)
    assert (measured.advice, measured.unstable) == (
        "use larger batches.",
        "the second pass was slower.",
    )
    assert measured.profile == {"wait": 0.2}


def test_parts_are_read_without_a_profile() -> None:
    """An older file has them beside the other values only."""
    measured = measurement(load(wait=0.3), "x")

    assert measured.profile == {"encode": 0.2, "write": 0.7, "commit": 0.1, "wait": 0.3}


def test_only_a_benchmark_with_cloud_and_setting_is_a_load() -> None:
    """A benchmark of reading or encoding alone is not one, nor are other projects' benchmarks."""
    assert is_load(load())
    assert not is_load(reading())
    assert not is_load({**load(), "params": {"cloud": "GCP"}})


def test_measurements_of_a_setting_are_pooled() -> None:
    """Passes add up; what is saved per test is averaged by rounds, the slowest batch stays."""
    alike = {"p50": 0.03, "p95": 0.04, "p99": 0.05}
    first = load(seconds=[1.0, 2.0, 3.0], encode=0.2, batch_latency={**alike, "max": 0.1})
    second = load(seconds=[4.0], encode=0.6, batch_latency={**alike, "max": 0.7}, rtt_ms=None)

    (pooled,) = pool([measurement(first, "1.json"), measurement(second, "2.json")])

    assert [each.run for each in pooled.passes] == ["1.json", "2.json"]
    assert pooled.rounds == (1.0, 2.0, 3.0, 4.0)
    assert pooled.throughput == 8_000
    assert pooled.profile["encode"] == pytest.approx(0.3)
    assert pooled.latency.max == 0.7
    assert pooled.rtt_ms is None


def test_a_timeline_holds_the_batches_and_the_checkpoints() -> None:
    """Without batches there is none."""
    batches = {"start": [0, 0.5], "seconds": [0.5, 0.4], "connection": [0, 0]}

    assert round_timeline(load(batches=batches, checkpoints=[0.3])) == RoundTimeline(
        (0.0, 0.5), (0.5, 0.4), (0.3,)
    )
    assert round_timeline(load()) is None
    assert round_timeline(load(batches={"start": [1], "seconds": ["x"]})) is None
