"""The summary of a migration's batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.contract import BATCHES, STATS
from pgload.report.migration_batches import DOTS, BatchLine, read_batch_summary, summarise
from tests.support.saved_migrations import batch, save_batches, save_ended


def test_totals_by_table_and_worker() -> None:
    """Records, batches, retries, seconds and the throughput from first to last batch."""
    lines = [
        BatchLine(records_count=100, worker=0, total_duration_seconds=1.0, table_name="a"),
        BatchLine(records_count=300, worker=1, total_duration_seconds=4.0, table_name="b"),
        BatchLine(records_count=0, worker=1, attempts=3, error="deadlock", table_name="b"),
    ]

    found = summarise(lines)

    assert found.whole.records == 400
    assert found.whole.rate == pytest.approx(100)
    assert {name: each.records for name, each in found.tables.items()} == {"a": 100, "b": 300}
    assert {worker: each.batches for worker, each in found.workers.items()} == {0: 1, 1: 2}
    assert found.tables["b"].retried == 1
    assert [each.error for each in found.retried] == ["deadlock"]
    assert found.failed == found.retried
    assert found.latency == {"p50": 1.0, "p95": 4.0, "p99": 4.0, "max": 4.0}
    assert sum((end - begin) * rate for begin, end, rate in found.throughput) == pytest.approx(400)


def test_many_batches_are_drawn_by_the_slowest() -> None:
    """An outlier is always among those that are drawn."""
    lines = [BatchLine(batch_number=n, total_duration_seconds=1.0) for n in range(3 * DOTS + 1)]
    lines[700] = BatchLine(batch_number=700, total_duration_seconds=9.0)

    found = summarise(lines)

    assert len(found.drawn) <= DOTS
    assert 700 in {line.batch_number for _, line in found.drawn}
    assert found.slowest[0].batch_number == 700


def test_batches_of_a_run_that_has_not_ended(tmp_path: Path) -> None:
    """`batches.jsonl` is read before the statistics; broken lines are counted."""
    folder = save_ended(tmp_path, batches=[batch(1)])
    assert read_batch_summary(folder)[0].whole.batches == 1
    path = save_batches(folder, [batch(1), batch(2)])
    with path.open("a") as lines:
        lines.write('[3]\n{"half": ')

    found, problem = read_batch_summary(folder)

    assert (found.whole.batches, found.broken, problem) == (2, 1, None)


def test_broken_statistics_are_a_problem(tmp_path: Path) -> None:
    """The line names the file; without files there are no batches and no problem."""
    (tmp_path / STATS).write_text('{"batches": [{"end_time": "yesterday"}]}')

    found, problem = read_batch_summary(tmp_path)

    assert found.whole.batches == 0
    assert problem is not None
    assert problem.startswith(f"{STATS}: Invalid RFC3339")
    (tmp_path / STATS).unlink()
    assert read_batch_summary(tmp_path) == (type(found)(), None)
    assert not (tmp_path / BATCHES).exists()
