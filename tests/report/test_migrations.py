"""The reader of the output files of migrations."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.contract import LOG, PROGRESS, REJECTS, RESULTS, STATS
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import FileFacts
from pgload.report import migrations
from pgload.report.migration_batches import BatchLine
from pgload.report.migrations import (
    QUIET,
    SILENT,
    MigrationOutput,
    SavedFile,
    last_lines,
    read_migration,
    read_migrations,
    read_rejects,
    run_folders,
)
from tests.support.running import content, facts, stat
from tests.support.running import reject as reject_of_migrate
from tests.support.saved_migrations import (
    RUN,
    TABLE,
    batch,
    ended_process,
    file_state,
    reject,
    save_batches,
    save_ended,
    save_running,
    write,
    write_lines,
)


def test_migrations_are_read_from_the_folder_and_its_runs(tmp_path: Path) -> None:
    """The newest first, each once; a folder with broken files is named."""
    failed = {"error": "too long"}
    save_ended(tmp_path, batches=[batch(1), batch(2, **failed)])
    save_ended(tmp_path, ".")  # a copy of the same run
    older = "runs/2025-01-14T09-00-00Z"
    write(tmp_path / older, RESULTS, {"status": "failed", "total_records": 0})
    broken = tmp_path / "runs/2025-01-13T09-00-00Z"
    broken.mkdir()
    (broken / STATS).write_text("{")

    found, problems = read_migrations(tmp_path)

    assert [each.state for each in found] == ["completed_with_errors", "failed"]
    total = found[0].batches.tables[TABLE]
    assert (total.records, total.batches, total.seconds) == (2000, 2, 5.0)
    assert [each.error for each in found[0].batches.failed] == ["too long"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{broken}: {STATS}: ")
    assert read_migrations(tmp_path / "none") == ([], [])
    assert len(read_migrations(tmp_path, limit=1)[0]) == 1


def test_runs_are_ordered_by_their_time(tmp_path: Path) -> None:
    """Also those of one second, which have a number; links are not runs."""
    names = ["2025-01-15T01-30-03Z-10", "2025-01-15T01-30-03Z-2", "2025-01-15T01-30-03Z"]
    for name in names[::-1]:
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/latest").symlink_to(names[0])
    (tmp_path / RESULTS).symlink_to(f"runs/latest/{RESULTS}")

    assert [each.name for each in run_folders(tmp_path)] == names


def test_files_of_a_running_migration(tmp_path: Path) -> None:
    """By the progress, which has the state of each file."""
    states = [
        file_state("a.json", "completed", records=400, records_before=100),
        file_state("b.json", "running", records=20),
        file_state("c.json", "pending", records=0, batches=0),
    ]
    found = read_migration(save_running(tmp_path, files=states))

    assert found.state == "running"
    assert [(each.file, each.status, each.committed) for each in found.files] == [
        ("a.json", "completed", 500),
        ("b.json", "running", 20),
        ("c.json", "pending", 0),
    ]


def test_a_killed_run_has_ended_with_what_is_committed(tmp_path: Path) -> None:
    """The file that was running is unfinished."""
    old = datetime.now().astimezone() - timedelta(seconds=QUIET + 1)
    folder = save_running(tmp_path, pid=ended_process(), last_update=old.isoformat())
    save_batches(folder, [batch(1), batch(2)])

    found = read_migration(folder)

    assert found.state == "ended"
    assert (found.records, found.all_records) == (1_234_000, 5_000_000)
    assert {each.file: each.status for each in found.files} == {
        "a.json": "unfinished",
        "b.json": "completed",
    }
    assert found.batches.whole.records == 2000


def test_a_run_without_updates_has_ended(tmp_path: Path) -> None:
    """Its process number may be that of another process, or of one on another machine."""
    now = datetime.now().astimezone()

    def state(seconds: float, pid: int | None) -> str:
        updated = (now - timedelta(seconds=seconds)).isoformat()
        changes = {"last_update": updated} | ({} if pid is None else {"pid": pid})
        return read_migration(save_running(tmp_path / str(seconds), **changes)).state

    assert state(QUIET + 1, None) == "running"  # of this process
    assert state(0, ended_process()) == "running"
    assert state(SILENT + 1, None) == "ended"
    assert state(QUIET + 2, -1) == "ended"


def test_results_win_over_the_progress(tmp_path: Path) -> None:
    """Except for the records, whose key in the results counts those of the last run only."""
    folder = save_running(tmp_path, total_records_processed=15_000, total_records=15_001)
    save_ended(tmp_path, total_records=5000, records_before=10_000)

    found = read_migration(folder)

    assert found.state == "completed_with_errors"
    assert (found.records, found.all_records, found.seconds) == (15_000, 15_001, 25.0)
    assert (found.files_completed, found.files_failed) == (1, 1)
    assert found.started == "2025-01-15 10:30:03"
    assert found.ended == "2025-01-15 10:30:28"


def test_the_files_that_migrate_writes_are_read(tmp_path: Path) -> None:
    """Every key that is read is written, and the numbers are the same ones."""
    with Outputs(tmp_path, facts(total_files=2)) as out:
        for name in ("a.json", "b.json"):
            out.file_started(FileFacts(name, TABLE))
            out.batch(stat(1, file=name))
        out.reject([reject_of_migrate(7, file="b.json")])
        out.file_finished("a.json")
        out.file_finished("b.json")

    (found,), problems = read_migrations(tmp_path)
    assert problems == []
    assert found.state == "completed_with_errors"
    assert found.records == found.batches.whole.records == 2000
    assert [(each.file, each.status, each.committed, each.rejects) for each in found.files] == [
        ("a.json", "completed", 1000, 0),
        ("b.json", "completed_with_errors", 1000, 1),
    ]
    assert [each.record for each in read_rejects(found.folder, 9)] == [7]
    progress, results = (content(found.folder, name) for name in (PROGRESS, RESULTS))
    assert set(MigrationOutput.__struct_fields__) <= {*progress, *results}
    assert set(SavedFile.__struct_fields__) <= set(results["files"][0])
    line = content(found.folder, STATS)["batches"][0]
    assert set(BatchLine.__struct_fields__) <= set(line)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """And an unchanged one is not."""
    folder = save_running(tmp_path, current_file="a.json")
    assert read_migration(folder).facts.current_file == "a.json"
    before = migrations._decoded.cache_info().misses
    assert read_migration(folder).facts.current_file == "a.json"
    assert migrations._decoded.cache_info().misses == before

    save_running(tmp_path, current_file="another.json")
    assert read_migration(folder).facts.current_file == "another.json"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"total_rec', f"{RESULTS}: Input data was truncated"),
        ("[1]", f"{RESULTS}: Expected `object`, got `array`"),
        ('{"files": [{"records": "many"}]}', f"{RESULTS}: Expected `int`, got `str`"),
    ],
)
def test_a_broken_file_is_one_problem(tmp_path: Path, content: str, problem: str) -> None:
    """With the file's name and where it is broken; the other file is still read."""
    folder = save_running(tmp_path)
    (folder / RESULTS).write_text(content)

    found = read_migration(folder)

    assert len(found.problems) == 1
    assert found.problems[0].startswith(problem)
    assert found.records == 1_234_000


def test_rejects_and_the_end_of_the_log(tmp_path: Path) -> None:
    """At most as many as asked for; a line that is being written is skipped."""
    path = write_lines(tmp_path, REJECTS, [reject(1), reject(2), reject(3)])
    with path.open("a") as lines:
        lines.write('{"half": ')
    (tmp_path / LOG).write_bytes(b"first\nsecond \xff\nthird\n")

    assert [each.record for each in read_rejects(tmp_path, 2)] == [1, 2]
    assert len(list(read_rejects(tmp_path, 9))) == 3
    assert last_lines(tmp_path, 2) == "second \\xff\nthird"
    assert list(read_rejects(tmp_path / "none", 9)) == []
    assert last_lines(tmp_path / "none") == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("status", "files", "batches", "start_time", "last_update", "pid", "connections", "records")
BATCH_KEYS = ("end_time", "total_duration_seconds", "records_count", "table_name", "worker")


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.lists(st.dictionaries(st.sampled_from(BATCH_KEYS), JSON), max_size=3),
)
def test_any_json_is_read(
    tmp_path_factory: pytest.TempPathFactory, run: dict[str, Any], batches: list[dict[str, Any]]
) -> None:
    """Any value for any key gives facts or a problem, and no exception."""
    folder = tmp_path_factory.mktemp("run") / RUN
    write(folder, PROGRESS, run)
    write(folder, RESULTS, run)
    write(folder, STATS, {"batches": batches})
    lines = "".join(json.dumps(each) + "\n" for each in batches)
    (folder / REJECTS).write_text(lines + '{"half": ')

    found = read_migration(folder)

    assert isinstance(found.state, str)
    assert isinstance(found.files, tuple)
    assert found.batches.whole.batches in (0, len(batches))
    assert len(list(read_rejects(folder, 2))) <= 2
    read_migrations(folder.parents[1])
