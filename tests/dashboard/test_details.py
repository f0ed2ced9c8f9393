"""The tab on one migration in detail."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the dashboard is optional: pip install streamlit")

from pgload.contract import BATCHES, RESULTS, STATS
from pgload.dashboard.details import _content
from pgload.report import migration_batches
from pgload.report.i18n import LANGUAGES, Words
from tests.support.dashboard import Show, checked, column, metrics, visible_text
from tests.support.saved_migrations import (
    RUN,
    batch,
    reject,
    save_batches,
    save_ended,
    save_running,
    write,
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_files_batches_and_rejects(show: Show, tmp_path: Path, language: str) -> None:
    """The same numbers as in the output files, in both languages."""
    batches = [batch(n) for n in range(10)]
    batches[5] |= {"attempts": 3, "error": "deadlock detected"}
    save_ended(tmp_path / "out", batches=batches, rejects=[reject()])
    words = Words(language)

    app = show("detail", language)

    assert column(app, words("file")) == ["a.json", "b.json"]
    assert column(app, words("records")) == [5000, 4999]
    assert column(app, words("rejects")) == [0, 1]
    assert column(app, words("batches")) == [5, 5]
    assert metrics(app)["p50"] == "2,500.0 ms"
    assert sum(column(app, words("records"), -2)) == 10_000  # by connection
    assert len(app.image) == 4
    assert f"{words('write')} 70%" in visible_text(app)
    assert "deadlock detected" in {each for d in app.dataframe for each in d.value.to_numpy().flat}
    assert app.code[-1].value == '{\n  "n": "오류"\n}'


def test_a_running_migration_has_files_and_batches(show: Show, tmp_path: Path) -> None:
    """The files by the progress, the batches by `batches.jsonl` with its half written last line."""
    folder = save_running(tmp_path / "out")
    path = save_batches(folder, [batch(n) for n in range(4)])
    with path.open("a") as lines:
        lines.write('broken\n{"batch_number": 5, "rec')

    app = show("detail")

    assert column(app, "state") == ["running", "completed"]
    assert column(app, "records") == [2000, 5000]
    assert metrics(app)["Batches"] == "4"
    assert "1 lines about batches cannot be read" in visible_text(app)


def test_a_reject_that_is_not_json(show: Show, tmp_path: Path) -> None:
    """Its text is shown as it is."""
    line = reject(text="{'n': 1}")
    del line["data"]
    save_ended(tmp_path / "out", rejects=[line])

    assert show("detail").code[-1].value == "{'n': 1}"


def test_a_large_run_is_read_once_and_drawn_in_part(show: Show, tmp_path: Path) -> None:
    """Of 100,000 batches all are counted, and few are sent to the browser."""
    line = (
        '{{"batch_number": {n}, "table_name": "t{t}", "records_count": 1000, "worker": {t}, '
        '"end_time": "2025-01-15T01:{m:02}:{s:02}+00:00", "total_duration_seconds": 0.{n:05}}}'
    )
    lines = [line.format(n=n, t=n % 4, m=n // 2000, s=n // 40 % 60) for n in range(100_000)]
    folder = tmp_path / "out" / RUN
    write(folder, RESULTS, {"status": "completed", "total_records": 100_000_000})
    (folder / STATS).write_text('{"batches": [' + ",".join(lines) + "]}")
    migration_batches._read.cache_clear()

    app = show("detail")
    assert metrics(app)["Batches"] == "100,000"
    assert metrics(app)["Records"] == "100,000,000"
    assert column(app, "#")[0] == 99_999  # the slowest
    assert max(len(each.value) for each in app.dataframe) <= migration_batches.DOTS
    checked(app.run())
    assert migration_batches._read.cache_info().misses == 1


def test_raw_files_are_read_when_they_are_downloaded(tmp_path: Path) -> None:
    """With their content at that time; a file that is gone is empty."""
    assert _content(tmp_path / BATCHES) == b""
    (tmp_path / "a").write_bytes(b"{\xff")
    assert _content(tmp_path / "a") == b"{\xff"
