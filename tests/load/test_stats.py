"""Statistics of batches and loads; no server is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgload.contract import PARTS
from pgload.load.stats import latency, profile, timeline
from tests.support.loading import make_result


def test_totals() -> None:
    """Records, bytes, throughput and CPU share are over the whole load."""
    result = make_result(batches=20, wait=3.0, cpu=5.0)
    assert (result.records, result.bytes, result.end) == (200, 2000, 110.0)
    assert (result.records_per_second, result.cpu_share) == (20.0, 0.5)
    assert result.total("wait") == 60.0


def test_latency_of_a_batch() -> None:
    """A batch's latency is encoding, writing and committing, without its worker's wait."""
    (batch,) = make_result(batches=1, encode=0.5, write=1.0, commit=0.25).batches
    assert batch.seconds == 1.75


def test_percentiles() -> None:
    """Percentiles interpolate between batches; of a single batch all are its latency."""
    assert latency([2.0]) == {"p50": 2.0, "p95": 2.0, "p99": 2.0, "max": 2.0}
    found = latency([float(n) for n in range(100, -1, -1)])
    assert found == pytest.approx({"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0})


def test_profile() -> None:
    """All parts but encode add up to the seconds of all connections."""
    result = make_result(batches=10, encode=0.1, write=1.0, commit=0.5, wait=0.2)
    assert profile(result) == pytest.approx(
        {"encode": 1.0, "write": 10.0, "commit": 5.0, "wait": 2.0, "idle": 3.0}
    )
    assert tuple(profile(result)) == PARTS


@pytest.mark.parametrize(("batches", "kept"), [(20, 20), (21, 11), (1, 1)])
def test_timeline(batches: int, kept: int) -> None:
    """The batches of a load are columns; more than the limit are put into buckets of equal size."""
    columns = timeline(make_result(batches=batches, encode=0.05, write=0.2), limit=20)
    assert {len(column) for column in columns.values()} == {kept}
    assert columns["seconds"] == [0.25] * kept
    if batches <= 20:
        assert columns["start"][0] == 0.25  # 0.5 − 0.25
        assert columns["connection"] == [n % 2 for n in range(1, batches + 1)]
        assert columns["records"] == [10] * batches


def test_timeline_keeps_the_slowest() -> None:
    """Of each bucket the slowest batch is kept."""
    result = make_result(batches=40, write=0.25)
    stalled = replace(result.batches[30], write=9.0)
    result = replace(result, batches=[*result.batches[:30], stalled, *result.batches[31:]])
    columns = timeline(result, limit=4)
    assert columns["seconds"] == [0.25, 0.25, 0.25, 9.0]
    assert columns["start"][-1] == stalled.end - 9.0
