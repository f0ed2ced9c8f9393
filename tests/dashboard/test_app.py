"""The dashboard without a browser: what its tabs say, of files in whatever state."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("streamlit", reason="the dashboard is optional: pip install streamlit")

from streamlit.testing.v1 import AppTest

from pgload import cli
from pgload.dashboard import migration as tab_migration
from pgload.dashboard import serve
from pgload.dashboard.details import _content
from pgload.dashboard.widgets import heading
from pgload.migrate.outputs import Outputs
from pgload.migrate.progress import FileFacts
from pgload.report import watch, watch_batches
from pgload.report.i18n import LANGUAGES, Words
from pgload.report.watch_files import file_states
from tests.support.running import content, facts, reject, stat
from tests.support.saved_runs import load, save

SCRIPT = Path(serve.__file__).with_name("app.py")
TABS = ("migration", "comparison", "detail")
HOSTILE = "![x](http:127.0.0.1)<img src=x onerror=alert(1)> :red[y] $z$ **b**.json"
RUN = "runs/2025-01-15T01-30-03Z"

Show = Callable[..., AppTest]


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """A function that opens a tab over the folders `out`, `data` and `saved` of the test's own."""
    places = ["--output-dir", tmp_path / "out", "--data", tmp_path / "data"]
    places += ["--storage", tmp_path / "saved"]

    def open_tab(tab: str = "migration", language: str = "en") -> AppTest:
        arguments = ["dashboard.py", *map(str, places), "--lang", language]
        monkeypatch.setattr(sys, "argv", arguments)
        app = AppTest.from_file(SCRIPT, default_timeout=60)
        app.session_state["tab"] = Words(language)(tab)
        return checked(app.run())

    return open_tab


def checked(app: AppTest) -> AppTest:
    """The page, once it is known that no exception is shown on it."""
    assert not app.exception, [each.value for each in app.exception]
    return app


def said(app: AppTest) -> str:
    """All sentences of a page."""
    kinds = ("info", "warning", "error", "success", "markdown", "caption", "text")
    lines = [each.value for kind in kinds for each in getattr(app, kind)]
    return "\n".join(lines).replace("\\", "")


def metrics(app: AppTest) -> dict[str, str]:
    return {each.label: each.value for each in app.metric}


def column(app: AppTest, name: str, table: int = 0) -> list[Any]:
    """A column of one of the tables that have it."""
    found = [each.value for each in app.dataframe if name in each.value]
    return list(found[table][name])


def migrated(folder: Path, files: int = 3) -> Outputs:
    """A finished migration: 5 batches of each file, a reject, a batch given up."""
    outputs = Outputs(folder, facts(total_files=files, total_records=5000 * files))
    with outputs as out:
        for name in (HOSTILE, "b.json", "c.json")[:files]:
            out.file_started(FileFacts(name, "bid_pblanclistinfo_cnstwk"))
            for n in range(5):
                out.batch(stat(n, file=name, end=1.0 + n))
        out.reject([reject(7, b'{"n": "\xec\x98\xa4\xeb\xa5\x98"}', file="b.json")])
        out.batch(stat(5, file="b.json", attempts=3, error="deadlock detected"))
        for name in (HOSTILE, "b.json", "c.json")[:files]:
            out.file_finished(name)
    return outputs


def write(folder: Path, name: str, value: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value), "utf-8")


def a_pid_that_is_gone() -> int:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def running(folder: Path, **changes: Any) -> None:
    """The progress of a run of this very process, that said so just now."""
    usual = {
        "status": "running",
        "current_file": "a.json",
        "files_completed": 1,
        "files_failed": 0,
        "total_files": 5,
        "total_records_processed": 1_234_000,
        "total_records": 5_000_000,
        "records_failed": 12,
        "rejects": 2,
        "retries": 3,
        "percent": 24.68,
        "records_per_second": 41_000.4,
        "average_records_per_second": 39_500.0,
        "eta_seconds": 97.6,
        "elapsed_seconds": 31.2,
        "batch_size": 2000,
        "num_connections": 2,
        "connections": [
            {"worker": 0, "state": "writing", "seconds": 0.1},
            {"worker": 1, "state": "lost", "seconds": 12.2},
        ],
        "method": "copy",
        "cloud_provider": "GCP",
        "start_time": datetime.now().astimezone().isoformat(),
        "last_update": datetime.now().astimezone().isoformat(),
        "pid": os.getpid(),
    }
    write(folder / RUN, watch.PROGRESS, usual | changes)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("tab", TABS)
def test_with_nothing_there_each_tab_says_so(show: Show, tab: str, language: str) -> None:
    """A sentence about what to do, in the reader's language."""
    key = "no_benchmark" if tab == "comparison" else "no_run"
    expected = Words(language)(key, folder="").split(".")[-2]

    assert expected in said(show(tab, language))


def test_a_running_migration_is_shown_as_its_file_says(show: Show, tmp_path: Path) -> None:
    """Progress, speeds, what is left, connections, failures."""
    running(tmp_path / "out")

    app = show()

    assert metrics(app) == {
        "Records": "1,234,000 / 5,000,000",
        "Records/s now": "41,000",
        "Records/s on average": "39,500",
        "Time left": "1 min 38 s",
        "Files": "1 / 5",
        "Rejects": "2",
        "Records not written": "12",
        "Retries": "3",
    }
    assert "running · GCP, copy, batch size 2,000, connections 2" in said(app).replace("*", "")
    assert any("writing 1, lost 1" in each.label for each in app.expander)
    assert column(app, "for, s") == [0.1, 12.2]


def test_a_run_that_dies_while_it_is_watched_has_ended(show: Show, tmp_path: Path) -> None:
    """Without its process, and without a word for a while; the page says how to go on."""
    running(tmp_path / "out")
    app = show()
    assert "ended without finishing" not in said(app)

    old = datetime.now().astimezone() - timedelta(seconds=watch.QUIET + 1)
    running(tmp_path / "out", pid=a_pid_that_is_gone(), last_update=old.isoformat())
    checked(app.run())

    assert "ended without finishing" in said(app)
    command = shlex.split(app.code[0].value)
    assert command[:6] == ["python", "-m", "pgload", "migrate", "--cloud", "GCP"]
    assert command[-1] == "--resume"
    for option, value in {"--method": "copy", "--batch-size": "2000", "--connections": "2"}.items():
        assert command[command.index(option) + 1] == value


def test_a_silent_run_has_ended_whoever_has_its_number_now(tmp_path: Path) -> None:
    """A number is given to other processes later; and one of another machine says nothing here."""
    now = datetime.now().astimezone()

    def state(seconds: float, pid: Any) -> str:
        running(tmp_path, pid=pid, last_update=(now - timedelta(seconds=seconds)).isoformat())
        return watch.read_run(tmp_path / RUN).state()

    assert state(watch.QUIET + 1, os.getpid()) == "running"
    assert state(0, a_pid_that_is_gone()) == "running"
    assert state(watch.SILENT + 1, os.getpid()) == "ended"
    assert state(watch.QUIET + 1, "none") == "ended"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_finished_run_has_the_numbers_of_its_files(
    show: Show, tmp_path: Path, language: str
) -> None:
    """In the tab that tells of it, in the history, in the details."""
    folder = migrated(tmp_path / "out").folder
    results = content(folder, watch.RESULTS)
    words = Words(language)

    app = show("migration", language)
    shown = metrics(app)
    assert shown[heading(words("records"))] == "16,000 / 15,000"
    assert column(app, words("records_failed")) == [results["records_failed"]] == [1]
    assert column(app, words("rate_average")) == [results["average_records_per_second"]]
    assert column(app, words("state")) == [words("status_completed_with_errors")]

    app = show("detail", language)
    files = {each["file"]: each for each in results["files"]}
    for name, key in {"records": "records", "rejects": "rejects", "batches": "batches"}.items():
        by_file = dict(zip(column(app, words("file")), column(app, words(name)), strict=True))
        assert by_file == {file: each[key] for file, each in files.items()}
    batches = content(folder, watch.STATS)["batches"]
    assert metrics(app)["p50"] == "2,500.0 ms"
    assert sum(column(app, words("records"), -2)) == sum(b["records_count"] for b in batches)
    assert len(app.image) == 4
    assert "deadlock detected" in {each for d in app.dataframe for each in d.value.to_numpy().flat}
    assert app.code[-1].value == '{\n  "n": "오류"\n}'


def test_names_from_data_are_text(show: Show, tmp_path: Path) -> None:
    """Nowhere is a file's name, a reason or a table taken for Markdown or HTML."""
    running(tmp_path / "out", current_file=HOSTILE, method="[m](http://x)", cloud_provider="$a$")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / HOSTILE).write_text("[]")
    assert column(show(), "file") == [HOSTILE]
    migrated(tmp_path / "out")

    for app in (show(), show("detail")):
        for kind in ("markdown", "caption", "info", "warning", "error", "subheader"):
            for each in getattr(app, kind):
                assert not re.search(r"(?<!\\)[<$]|(?<!\\)\](?<!\\)\(", each.value), each.value
        assert HOSTILE in column(app, "file")


def test_files_of_the_data_folder(show: Show, tmp_path: Path) -> None:
    """Each with what the newest run that knows it says, unless it was changed since."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("b.json", "c.json", "d.jsonl", "notes.txt"):
        (data / name).write_text("[]")
    for each in data.iterdir():
        os.utime(each, (0, 0))
    migrated(tmp_path / "out")

    app = show()
    assert column(app, "file") == ["b.json", "c.json", "d.jsonl"]
    assert column(app, "state", 0) == ["done, with errors", "done", "not begun"]
    assert column(app, "size") == [2, 2, 2]

    (data / "c.json").write_text("[1]")
    checked(app.run())
    assert column(app, "state") == [
        "done, with errors",
        "changed since",
        "not begun",
    ]

    running(tmp_path / "new")
    (tmp_path / "new" / RUN).rename(tmp_path / "out/runs/2999-01-01T00-00-00Z")
    checked(app.run())
    assert column(app, "state", 1) == ["not begun"] * 3


def test_files_of_a_run_that_goes_on(tmp_path: Path) -> None:
    """By its log and batches, which are read as they grow."""
    outputs = Outputs(tmp_path, facts(total_files=2))
    with outputs as out:

        def states() -> dict[str, tuple[str, int | None]]:
            seen = out.snapshot
            while out.snapshot is seen:  # all that was told of stands in the files
                pass
            found = file_states([watch.read_run(out.run_dir)])
            return {name: (each.status, each.records) for name, each in found.items()}

        out.file_started(FileFacts("a.json", "a", records_before=100))
        out.batch(stat(1))
        assert states() == {"a.json": ("in_work", 1100)}
        out.batch(stat(2))
        out.file_finished("a.json")
        out.file_started(FileFacts("b.json", "b"))
        out.file_finished("b.json", "it vanished")
        assert states() == {"a.json": ("completed", 2100), "b.json": ("failed", 0)}
    found = file_states([watch.read_run(outputs.run_dir)])
    assert found["a.json"].records == 2100
    assert found["b.json"].error == "it vanished"


BROKEN = {
    "empty": b"",
    "half": b'{"status": "running", "total_rec',
    "another kind": b"[1, 2]",
    "no text": b"\xff\xfe\x00",
    "strange values": b'{"status": ["x"], "files": {}, "batches": [3], "percent": 1e999, '
    b'"total_records": "many", "start_time": 5, "last_update": {}, "connections": 7, "pid": -1}',
    "no characters": b'{"status": "\\ud800", "files": [{"file": "\\udcff", "error": "\\ud800"}]}',
    "deep": b"[" * 100_000,
    "long number": b'{"total_records": ' + b"9" * 6000 + b"}",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_files_are_a_sentence(show: Show, tmp_path: Path, broken: str) -> None:
    """All of a run's files, and a saved benchmark, in the same bad state."""
    folder = tmp_path / "out" / RUN
    folder.mkdir(parents=True)
    for name in watch.RAW:
        (folder / name).write_bytes(BROKEN[broken])
    saved = tmp_path / "saved/machine/0001_GCP.json"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(BROKEN[broken])

    for tab in TABS:
        show(tab, "ko")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("status", "files", "batches", "start_time", "last_update", "pid", "connections", "records")
BATCH = ("end_time", "total_duration_seconds", "records_count", "table_name", "worker", "error")


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.lists(st.dictionaries(st.sampled_from(BATCH), JSON), max_size=3),
)
def test_whatever_stands_in_a_file_is_read(
    tmp_path: Path, run: dict[str, Any], batches: list[dict[str, Any]]
) -> None:
    """Any JSON in any place gives facts or a line about it, and no exception."""
    folder = tmp_path / "run"
    for name in (watch.PROGRESS, watch.RESULTS):
        write(folder, name, run)
    write(folder, watch.STATS, {"batches": batches})
    lines = "".join(json.dumps(each) + "\n" for each in batches)
    (folder / watch.REJECTS).write_text(lines + '{"half": ')
    try:
        found = watch.read_run(folder)
        assert isinstance(found.state(), str)
        file_states([found])
        summary, trouble = watch_batches.read_summary(folder)
        assert summary.whole.batches == (0 if trouble else len(batches))
        assert len(list(watch.rejects(folder, 2))) == min(len(batches), 2)
    finally:
        watch._object.cache_clear()  # the next example may come within the clock's resolution
        watch_batches._summary.cache_clear()


def test_a_large_run_is_read_once_and_drawn_thinly(show: Show, tmp_path: Path) -> None:
    """Of 100,000 batches all are counted, and few are sent to the browser."""
    line = (
        '{{"batch_number": {n}, "table_name": "t{t}", "records_count": 1000, "worker": {t}, '
        '"end_time": "2025-01-15T01:{m:02}:{s:02}+00:00", "total_duration_seconds": 0.{n:05}}}'
    )
    lines = [line.format(n=n, t=n % 4, m=n // 2000, s=n // 40 % 60) for n in range(100_000)]
    folder = tmp_path / "out" / RUN
    write(folder, watch.RESULTS, {"status": "completed", "total_records": 100_000_000})
    (folder / watch.STATS).write_text('{"batches": [' + ",".join(lines) + "]}")
    watch_batches._summary.cache_clear()

    app = show("detail")
    assert metrics(app)["Batches"] == "100,000"
    assert metrics(app)["Records"] == "100,000,000"
    assert column(app, "#")[0] == 99_999  # the slowest
    assert max(len(each.value) for each in app.dataframe) <= watch_batches.DOTS
    checked(app.run())
    assert watch_batches._summary.cache_info().misses == 1


def test_the_command_is_the_setting_that_was_chosen(show: Show, tmp_path: Path) -> None:
    """Quoted for a shell; with the same methods that the command line knows."""
    assert tab_migration.METHODS == cli.METHODS
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
    places = tab_migration.Places(Path("out"), Path("my data's"), Path("s"), Words())
    command = tab_migration.migrate_command(places, "a; rm -rf /", "copy", 1, 1)
    assert shlex.split(command)[5:8] == ["a; rm -rf /", "--data", "my data's"]


def test_a_comparison_has_the_numbers_of_the_page(show: Show, tmp_path: Path) -> None:
    """For the runs, clouds and methods that are chosen; a broken file is named."""
    storage = tmp_path / "saved"
    for number, (cloud, speed) in enumerate({"GCP": 1.0, "AWS": 2.0}.items(), start=1):
        loads = [
            load(cloud, method, size, c, seconds=[1 / speed / c, 1.01 / speed / c] * 2)
            for method in ("copy", "values")
            for size in (100, 1000)
            for c in (1, 4)
        ]
        servers = {cloud: {"price_per_hour": 0.36}}
        save(storage, f"{number:04}_{cloud}", loads, servers=servers)
    (storage / "broken.json").write_text("{")

    app = show("comparison")
    assert metrics(app) == {"Records/s": "159,204"}
    assert "AWS with copy, batch size 100, connections 4" in said(app)
    assert "2.00 times as fast as GCP at its best" in said(app)
    assert "Cheapest: AWS $0.0006" in said(app)
    assert "broken.json" in said(app)
    assert column(app, "verdict") == ["slower"] * 8
    assert len(app.image) >= 7
    titles = [each.label.replace("\\", "") for each in app.expander]
    for title in ("batch size", "connections", "method", "batch size and connections: AWS"):
        assert any(each.endswith(f"Throughput by {title}") for each in titles), title

    def choose(label: str, *values: str) -> AppTest:
        next(each for each in app.multiselect if each.label == label).set_value([*values])
        return checked(app.run())

    choose("Methods", "values")
    choose("Clouds", "GCP")
    assert metrics(app) == {"Records/s": "79,602"}
    assert set(column(app, "method")) == {"values"}
    assert "Choose at least one" in said(choose("Clouds"))


def test_the_language_changes_and_the_tab_stays(show: Show) -> None:
    """The reader goes on where he was."""
    app = show("detail")
    app.selectbox(key="language").set_value("ko")
    checked(app.run())

    assert [each.label for each in app.tabs] == ["마이그레이션", "비교", "상세"]
    assert app.session_state["tab"] == "상세"


def test_raw_files_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """As they are then; one that is gone is empty."""
    assert _content(tmp_path / "none") == b""
    (tmp_path / "a").write_bytes(b"{\xff")
    assert _content(tmp_path / "a") == b"{\xff"


def test_without_streamlit_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the exit code is that of a wrong usage."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(serve, "version", missing)
    assert cli.main(["dashboard"]) == 2
    assert capsys.readouterr().err == (
        "pgload: the dashboard needs Streamlit: pip install streamlit\n"
    )
    monkeypatch.setattr(serve, "version", lambda _: "1.9.0")
    assert cli.main(["dashboard"]) == 2
    assert "too old" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Before Streamlit is started."""
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["dashboard", "--port", str(port)]) == 2
    assert "choose another with --port" in capsys.readouterr().err
