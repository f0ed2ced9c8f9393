"""The tab on migrations."""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the dashboard is optional: pip install streamlit")

from pgload.contract import PROGRESS, RESULTS, Setting
from pgload.dashboard.migration import files_in, migrate_command
from pgload.dashboard.widgets import Sources, heading
from pgload.report.i18n import LANGUAGES, Words
from pgload.report.migrations import QUIET, read_migration
from tests.support.dashboard import Show, checked, column, metrics, visible_text
from tests.support.saved_migrations import (
    RUN,
    ended_process,
    file_state,
    save_ended,
    save_running,
)


def test_a_running_migration_is_shown_as_in_its_progress(show: Show, tmp_path: Path) -> None:
    """Records, speeds, remaining time, files, connections."""
    save_running(tmp_path / "out")

    app = show()

    assert metrics(app) == {
        "Records": "1,234,000 / 5,000,000",
        "Records/s now": "41,000",
        "Records/s on average": "39,500",
        "Time left": "1 min 38 s",
        "Files": "1 / 5",
        "Rejects": "2",
        "Retries": "3",
    }
    shown = visible_text(app).replace("*", "")
    assert "running · GCP, copy, batch size 2,000, connections 2" in shown
    assert any("writing 1, lost 1" in each.label for each in app.expander)
    assert column(app, "for, s") == [0.1, 12.2]


def test_a_killed_run_has_ended_and_can_be_resumed(show: Show, tmp_path: Path) -> None:
    """It is shown with what is committed and with the command that resumes it, as saved."""
    command = "pgload migrate --cloud GCP --data 'my data' --on-conflict skip --resume"
    save_running(tmp_path / "out", resume_command=command)
    app = show()
    assert "ended without finishing" not in visible_text(app)

    old = datetime.now().astimezone() - timedelta(seconds=QUIET + 1)
    ended = {"pid": ended_process(), "last_update": old.isoformat()}
    save_running(tmp_path / "out", resume_command=command, **ended)
    checked(app.run())

    assert "ended without finishing" in visible_text(app)
    assert metrics(app)["Records"] == "1,234,000 / 5,000,000"
    assert app.code[0].value == command


def test_a_run_that_cannot_be_resumed(show: Show, tmp_path: Path) -> None:
    """There is no command that resumes a run without a ledger, or on a server that is gone."""
    save_ended(tmp_path / "out", status="interrupted", resume_command=None)

    app = show()

    assert "--resume" not in visible_text(app) + app.code[0].value


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_ended_migration_and_the_history(show: Show, tmp_path: Path, language: str) -> None:
    """The same numbers as in the results."""
    save_ended(tmp_path / "out")
    words = Words(language)

    app = show("migration", language)

    assert metrics(app)[heading(words("records"))] == "9,999"
    assert metrics(app)[heading(words("files"))] == "2 / 2"
    assert column(app, words("rejects")) == [1]
    assert column(app, words("rate_average")) == [400.0]
    assert column(app, words("state")) == [words("status_completed_with_errors")]


def test_files_of_the_data_folder(show: Show, tmp_path: Path) -> None:
    """Each with its state in the newest migration that has begun it, unless it changed since."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("b.json", "c.json", "d.jsonl", "notes.txt"):
        (data / name).write_text("[]")
    for each in data.iterdir():
        os.utime(each, (0, 0))
    states = [file_state("b.json", "completed_with_errors"), file_state("c.json")]
    save_ended(tmp_path / "out", files=states)
    newer = "runs/2025-02-01T00-00-00Z"
    save_ended(tmp_path / "out", newer, files=[file_state("b.json", "pending")])

    app = show()
    assert column(app, "file") == ["b.json", "c.json", "d.jsonl"]
    assert column(app, "state", 0) == ["completed with errors", "completed", "not started"]
    assert column(app, "size") == [2, 2, 2]

    (data / "c.json").write_text("[1]")
    checked(app.run())
    assert column(app, "state") == ["completed with errors", "changed since", "not started"]

    save_running(tmp_path / "new", files=[file_state("b.json", "running")])
    (tmp_path / "new" / RUN).rename(tmp_path / "out/runs/2999-01-01T00-00-00Z")
    checked(app.run())
    assert column(app, "state", 1) == ["running", "not started", "not started"]


def test_a_file_name_that_is_not_utf_8(tmp_path: Path) -> None:
    """Its bytes are escaped."""
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("[]")

    assert [each.name for each in files_in(tmp_path, [])] == ["\\udcff.json"]


def test_the_command_has_the_chosen_setting(show: Show, tmp_path: Path) -> None:
    """Quoted for a shell."""
    app = show()
    chosen = {"method": "unnest", "batch size": 5000, "connections": 10, "cloud": "AWS"}
    for each in app.selectbox:
        if each.label in chosen:
            each.set_value(chosen[each.label])
    checked(app.run())

    assert shlex.split(app.code[0].value) == [
        *("python", "-m", "pgload", "migrate", "--cloud", "AWS"),
        *("--data", str(tmp_path / "data"), "--method", "unnest"),
        *("--batch-size", "5000", "--connections", "10", "--output-dir", str(tmp_path / "out")),
    ]
    sources = Sources(Path("out"), Path("my data's"), Path("s"), Words())
    command = migrate_command(sources, "a; rm -rf /", Setting("copy", 1, 1))
    assert shlex.split(command)[5:8] == ["a; rm -rf /", "--data", "my data's"]


def test_a_migration_with_one_broken_file(show: Show, tmp_path: Path) -> None:
    """The other file is shown, and the broken one is named."""
    folder = save_ended(tmp_path / "out")
    (folder / PROGRESS).write_text("{")
    app = show()
    assert PROGRESS in visible_text(app)
    assert metrics(app)["Records"] == "9,999"

    (folder / RESULTS).write_text("{")
    assert read_migration(folder).is_empty
    assert "holds nothing that can be read" in visible_text(checked(app.run()))
