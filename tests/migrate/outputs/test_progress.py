"""The counts of a run, its speed, and the state of each file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import FileFacts, RunFacts, Tally
from tests.support.running import content, facts, stat


def test_resumed(tmp_path: Path) -> None:
    """The progress includes the records of earlier runs; the results are those of this one."""
    known = facts(total_files=2, total_records=4000, resumed=True)
    with Outputs(tmp_path, known) as out:
        out.file_started(FileFacts("a.json", "t", records_before=1900, rejected_before=100))
        out.file_finished("a.json")
        out.file_started(FileFacts("b.json", "t"))
        out.batch(stat(1, file="b.json"))
        out.finish("interrupted")
    progress = content(tmp_path, "migration_progress.json")
    assert progress["total_records_processed"] == 2900
    assert (progress["files_completed"], progress["files_failed"]) == (0, 1)
    assert (progress["percent"], progress["total_records"]) == (75.0, 4000)
    assert [file["records_before"] for file in progress["files"]] == [1900, 0]
    results = content(tmp_path, "migration_results.json")
    assert (results["total_records"], results["records_before"]) == (1000, 1900)


@given(ends=st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 5000)), min_size=1, max_size=20))
def test_speed_and_remaining_time(ends: list[tuple[float, int]]) -> None:
    """The current speed is that of the last seconds; the remaining time follows from it."""
    total = sum(records for _, records in ends) + 1000
    tally = Tally(RunFacts(**{**vars(facts()), "total_records": total}))
    now, moments = 0.0, [(0.0, 0)]
    for number, (seconds, records) in enumerate(ends):
        now += seconds
        tally.batch(stat(number, records=records))
        moments.append((now, tally.records))
        found = tally.snapshot(
            "running", begin=0.0, now=now, start_time="", last_update="", pid=1, run=""
        )
        assert found.average_records_per_second == pytest.approx(tally.records / now, abs=0.06)
        then, before = max(each for each in moments if each[0] <= max(now - 10, 0))
        speed = (tally.records - before) / (now - then)
        assert found.records_per_second == pytest.approx(speed, abs=0.06)
        if speed:
            left = (total - tally.records) / speed
            assert found.eta_seconds == pytest.approx(left, abs=0.06)
        else:
            assert found.eta_seconds is None
        assert found.percent < 100


def test_states_of_files() -> None:
    """A file is pending, then running, then completed, with errors, failed or unfinished."""
    names = ["good", "bad", "bad before", "broken", "begun", "left"]
    tally = Tally(facts(total_files=len(names)))
    tally.files_planned([FileFacts(name, "t") for name in names])
    assert {file.status for file in tally.files.values()} == {"pending"}
    for name in names[:-1]:
        tally.file_started(FileFacts(name, "t", rejected_before=name == "bad before"))
        assert tally.files[name].status == "running"
    tally.reject("bad", "t")
    for name in names[:3]:
        tally.batch(stat(file=name, table="t"))
        tally.file_finished(name, None)
    tally.file_finished("broken", "broken JSON at byte 7")
    tally.run_ended()
    assert [file.status for file in tally.files.values()] == [
        "completed",
        "completed_with_errors",
        "completed_with_errors",
        "failed",
        "unfinished",
        "pending",
    ]
    assert tally.files["broken"].error == "broken JSON at byte 7"
    assert (tally.completed, tally.failed, tally.tables["t"].batches) == (1, 3, 3)
