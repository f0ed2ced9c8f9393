"""The page as a whole: its tabs, its languages, and files in any state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgload.contract import BATCHES, OUTPUT_FILES
from pgload.report.i18n import LANGUAGES, Words
from tests.support.dashboard import HOSTILE, TABS, Show, checked, column, visible_text
from tests.support.saved_migrations import RUN, file_state, save_ended, save_running


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("tab", TABS)
def test_without_files_each_tab_shows_what_to_do(show: Show, tab: str, language: str) -> None:
    """One sentence, in the language of the user."""
    key = "no_benchmark" if tab == "comparison" else "no_run"
    expected = Words(language)(key, folder="").split(".")[-2]

    assert expected in visible_text(show(tab, language))


def test_the_language_changes_and_the_tab_stays(show: Show) -> None:
    """The labels of the tabs change, and the open tab is the same one."""
    app = show("detail")
    app.selectbox(key="language").set_value("ko")
    checked(app.run())

    assert [each.label for each in app.tabs] == ["마이그레이션", "비교", "상세"]
    assert app.session_state["tab"] == "상세"


def test_names_from_data_are_text(show: Show, tmp_path: Path) -> None:
    """The name of a file, a reason or a table is nowhere taken for Markdown or HTML."""
    changes = {"current_file": HOSTILE, "method": "[m](http://x)", "cloud_provider": "$a$"}
    save_running(tmp_path / "out", **changes)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / HOSTILE).write_text("[]")
    assert column(show(), "file") == [HOSTILE]
    (tmp_path / "out" / RUN / "migration_progress.json").unlink()
    save_ended(tmp_path / "out", files=[file_state(HOSTILE, error=HOSTILE)])

    for app in (show(), show("detail")):
        for kind in ("markdown", "caption", "info", "warning", "error", "subheader"):
            for each in getattr(app, kind):
                assert not re.search(r"(?<!\\)[<$]|(?<!\\)\](?<!\\)\(", each.value), each.value
        assert HOSTILE in column(app, "file")


BROKEN = {
    "empty": b"",
    "half": b'{"status": "running", "total_rec',
    "array": b"[1, 2]",
    "not UTF-8": b"\xff\xfe\x00",
    "wrong types": b'{"status": ["x"], "files": {}, "batches": [3], "percent": 1e999, '
    b'"total_records": "many", "start_time": 5, "last_update": {}, "connections": 7, "pid": -1}',
    "surrogates": b'{"status": "\\ud800", "files": [{"file": "\\udcff", "error": "\\ud800"}]}',
    "deep": b"[" * 100_000,
    "long number": b'{"total_records": ' + b"9" * 6000 + b"}",
    "of another tool": b'{"name": "x", "data": {"files": [1]}}',
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_files_are_reported(show: Show, tmp_path: Path, broken: str) -> None:
    """All files of a run and a saved benchmark with the same broken content: no tab fails."""
    folder = tmp_path / "out" / RUN
    folder.mkdir(parents=True)
    for name in (*OUTPUT_FILES, BATCHES):
        (folder / name).write_bytes(BROKEN[broken])
    saved = tmp_path / "saved/machine/0001_GCP.json"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(BROKEN[broken])

    shown = [visible_text(show(tab, "ko")) for tab in TABS]
    if broken != "of another tool":
        assert "migration_progress.json" in shown[0]
