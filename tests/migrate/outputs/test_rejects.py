"""Rejected records come back as they were written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pgload.cli import main
from tests.support.migrating import MigrationSandbox


def test_records_as_written(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """`rejects` prints the text of each record, with all digits; only its line breaks are gone."""
    texts = ['{"n": "x", "a": 9007199254740993}', '{"n": 1.10, "a" :"가"}', '{"n": NaN}']
    (sandbox.data / "t.json").write_text(f'[{texts[0]},\n{texts[1]},{texts[2]},\n{{"n": 7}}]')
    assert sandbox.migrate() == 1
    capsys.readouterr()
    path = sandbox.outputs / "rejects.jsonl"
    assert main(["rejects", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == texts
    assert sandbox.sql("SELECT n FROM t") == [(7,)]


def test_for_this_user_only(sandbox: MigrationSandbox) -> None:
    """Rejects and log, which hold values of records, may be read by this user only."""
    sandbox.file("t.json", [{"n": "x"}, {"n": 1}])
    assert sandbox.migrate() == 1
    for name in ("rejects.jsonl", "migration.log"):
        assert stat.S_IMODE((sandbox.outputs / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [None, "{}", "[1]", "x"])
def test_wrong_file(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing or is something else is an error of one line."""
    path = tmp_path / "rejects.jsonl"
    if content is not None:
        path.write_text(content)
    assert main(["rejects", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"pgload: {path}")
    assert "name a rejects.jsonl" in error
    assert error.count("\n") == 1
