"""The directory of a run: the newest one is shown, old ones are removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgload.contract import OUTPUT_FILES
from pgload.errors import OutputError
from pgload.migrate.outputs.outputs import Outputs
from tests.support.running import answer, content, facts, send, start_run


def test_newest_run_is_shown(tmp_path: Path) -> None:
    """The output directory shows the newest run; earlier runs, and other files, are kept."""
    (tmp_path / "migration_results.json").write_text('{"old": true}', "utf-8")
    folders = []
    for n in range(3):
        with Outputs(tmp_path, facts(batch_size=n + 1)) as out:
            assert not (tmp_path / "migration_results.json").exists()
            assert content(tmp_path, "migration_progress.json")["batch_size"] == n + 1
            folders.append(out.run_dir)
        assert content(tmp_path, "migration_results.json")["batch_size"] == n + 1
    assert len(set(folders)) == 3
    for n, folder in enumerate(folders):
        assert content(folder, "migration_results.json")["batch_size"] == n + 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?", folder.name)
    (kept,) = (tmp_path / "runs").glob("before-*")
    assert content(kept.parent, kept.name) == {"old": True}
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert content(moved, "migration_results.json")["batch_size"] == 3


def test_old_runs_are_pruned(tmp_path: Path) -> None:
    """The newest runs stay, and so do running ones, and directories that are not only a run's."""
    old = [f"2020-01-0{n}T00-00-00Z" for n in (1, 2, 3)] + ["2020-01-03T00-00-00Z-2", "notes"]
    for name in old:
        (tmp_path / "runs" / name).mkdir(parents=True)
        for each in (*OUTPUT_FILES, ".migration_stats.json.tmp"):
            (tmp_path / "runs" / name / each).touch()
    (tmp_path / "runs" / old[1] / "why.txt").touch()
    with start_run(tmp_path) as process:
        running = answer(process)
        with Outputs(tmp_path, facts(), keep_runs=1) as out:
            left = {path.name for path in (tmp_path / "runs").iterdir()}
            assert left == {old[1], "notes", "latest", running, out.run_dir.name}
            assert [path.name for path in (tmp_path / "runs" / old[1]).iterdir()] == ["why.txt"]
            assert send(process, "batches") == "done"
            assert send(process, "wait") == "done"
        process.communicate("", timeout=60)
    assert content(tmp_path / "runs" / running, "migration_results.json")["batches"] == 100
    assert content(tmp_path, "migration_results.json")["run"] == str(out.run_dir)


def test_two_runs_at_once(tmp_path: Path) -> None:
    """Each run has its own files, and the output directory shows the one begun last."""
    with start_run(tmp_path) as first, start_run(tmp_path) as second:
        names = {answer(first), answer(second)}
        assert len(names) == 2
        for _ in range(5):
            for process in (first, second):
                assert send(process, "batches") == "done"
        shown = content(tmp_path, "migration_progress.json")["pid"]
        for process in (first, second):
            process.communicate("", timeout=60)
    for name in names:
        stats = content(tmp_path / "runs" / name, "migration_stats.json")
        assert [batch["batch_number"] for batch in stats["batches"]] == list(range(1, 501))
        log = (tmp_path / "runs" / name / "migration.log").read_text("utf-8")
        assert log.count(" - Batch ") == 500
    assert content(tmp_path, "migration_progress.json")["pid"] == shown
    assert content(tmp_path, "migration_results.json")["batches"] == 500


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be written is an error of one line at the start."""
    in_the_way = tmp_path / "outputs"
    in_the_way.touch()
    for folder in (in_the_way, in_the_way / "below", Path("/proc/outputs")):
        with pytest.raises(OutputError, match=rf"^cannot write {folder}: .*--output-dir$"):
            Outputs(folder, facts()).__enter__()
