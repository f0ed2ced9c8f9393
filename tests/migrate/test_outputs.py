"""The files of a migration: complete, valid whenever they are read, and none of another run's."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.contract import REJECTS
from pgload.errors import OutputError
from pgload.load.loader import Loader
from pgload.migrate.outputs import Outputs
from pgload.migrate.progress import FileFacts
from pgload.migrate.run_dir import FAMILIAR
from pgload.migrate.run_files import Reject, RejectFile
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import make_table, write_json
from tests.support.running import content, facts, reject, stat

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

JSON_FILES = ("migration_progress.json", "migration_stats.json", "migration_results.json")
ROOT = Path(__file__).parents[2]


def other(folder: Path, *, keep_runs: int = 20, **options: Any) -> subprocess.Popen[str]:
    """A run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.running", str(folder), str(keep_runs)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def tell(process: subprocess.Popen[str], word: str) -> str:
    """Let the other run do something and wait until it is done."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def name_of(process: subprocess.Popen[str]) -> str:
    """The other run's folder, once it has begun."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_contract(tmp_path: Path) -> None:
    """Every file has the promised keys, and they mean what they say."""
    started = datetime.now(UTC) - timedelta(seconds=60)
    with Outputs(tmp_path, facts(), keep_runs=5) as out:
        out.file_started(FileFacts("a.json", "bid_pblanclistinfo_cnstwk", records=5000))
        out.load_started(started)
        out.connection_state(1, "writing")
        out.batch(stat(1))
        out.reject([reject(record=1001), reject(record=1002)])
        out.batch(stat(2, records=998, attempts=2, rejected=2, error="deadlock detected"))
        out.batch(stat(3))
        out.retry(1, "deadlock detected")
        out.file_finished("a.json")
        returned = out.finish("completed_with_errors")

    progress = content(tmp_path, "migration_progress.json")
    assert progress == json.loads(json.dumps(asdict(out.snapshot)))
    expected = {
        "status": "completed_with_errors",
        "current_file": "a.json",
        "current_batch": 3,
        "files_completed": 0,
        "files_failed": 1,
        "total_files": 1,
        "total_records_processed": 2998,
        "records_failed": 2,
        "rejects": 2,
        "retries": 1,
        "total_records": 5000,
        "percent": 60.0,
        "batch_size": 1000,
        "num_connections": 2,
        "pid": os.getpid(),
        "run": str(out.folder),
    }
    assert expected.items() <= progress.items()
    assert [each["state"] for each in progress["connections"]] == ["waiting", "writing"]
    begin, update = (datetime.fromisoformat(progress[k]) for k in ("start_time", "last_update"))
    assert begin.tzinfo is not None
    assert begin <= update <= datetime.now(UTC)

    stats = content(tmp_path, "migration_stats.json")
    assert list(stats)[:4] == ["batch_size", "num_connections", "cloud_provider", "instance_type"]
    assert [batch["batch_number"] for batch in stats["batches"]] == [1, 2, 3]
    assert [batch["records_count"] for batch in stats["batches"]] == [1000, 998, 1000]
    assert [batch["records_failed"] for batch in stats["batches"]] == [0, 2, 0]
    assert [batch["cumulative_records"] for batch in stats["batches"]] == [1000, 1998, 2998]
    assert [batch["attempts"] for batch in stats["batches"]] == [1, 2, 1]
    assert [batch["error"] for batch in stats["batches"]] == [None, "deadlock detected", None]
    first = stats["batches"][0]
    assert (first["total_duration_seconds"], first["records_per_second"]) == (2.5, 400.0)
    assert first["waited_seconds"] == 2.0
    assert (first["table_name"], first["file"]) == ("bid_pblanclistinfo_cnstwk", "a.json")
    end = datetime.fromisoformat(first["end_time"])
    assert abs(end - (started + timedelta(seconds=5.5))) < timedelta(milliseconds=1)
    assert end - datetime.fromisoformat(first["start_time"]) == timedelta(seconds=2.5)

    results = content(tmp_path, "migration_results.json")
    assert results == json.loads(json.dumps(returned))
    assert (results["successful"], results["failed"], results["total_records"]) == (0, 1, 2998)
    speed = results["total_records"] / results["total_duration_seconds"]
    assert results["average_records_per_second"] == pytest.approx(speed, rel=1e-3)
    assert datetime.fromisoformat(results["completion_time"]) <= datetime.now(UTC)
    assert [file["status"] for file in results["files"]] == ["completed_with_errors"]
    assert results["tables"] == [
        {
            "table_name": "bid_pblanclistinfo_cnstwk",
            "records": 2998,
            "rejects": 2,
            "batches": 3,
            "bytes": 299800,
        }
    ]

    log = (tmp_path / "migration.log").read_text("utf-8").splitlines()
    line = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (INFO|WARNING|ERROR) - \S.*")
    assert all(line.fullmatch(each) for each in log)
    local = end.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    told = "Batch 1 for bid_pblanclistinfo_cnstwk: 1000 records in 2.5s (400.0 rec/s)"
    assert f"{local} - INFO - {told}" in log


def read_until(folder: Path, over: Event, seen: list[dict[str, Any]]) -> None:
    """Read the three files again and again; gives every progress file that was there."""
    while not over.is_set():
        for name in JSON_FILES:
            if name != "migration_results.json" or (folder / name).exists():
                found = content(folder, name)
                if name == "migration_progress.json":
                    seen.append(found)


def test_files_are_valid_at_any_moment(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """A reader in a loop beside a load never finds half a file, nor a step back."""
    path = write_json(tmp_path / "a.json", [{"n": str(n)} for n in range(3000)])
    table = make_table(path, schema, connection)
    over, seen = Event(), list[dict[str, Any]]()
    outputs = tmp_path / "outputs"
    with (
        Loader(server.connect, "values", connections=2) as loader,
        Outputs(outputs, facts(total_records=30_000)) as out,
        ThreadPoolExecutor(2) as readers,
    ):
        reading = [readers.submit(read_until, outputs, over, seen) for _ in range(2)]
        try:
            for _ in range(10):
                out.load_started()
                for batch in loader.run((table, b) for b in read_batches(path, 50)).batches:
                    out.batch(batch)
            out.finish("completed")
        finally:
            over.set()
        for each in reading:
            each.result()
    assert len(seen) > 2
    final = content(outputs, "migration_progress.json")
    assert (final["status"], final["total_records_processed"]) == ("completed", 30_000)
    assert content(outputs, "migration_stats.json")["batches"][-1]["batch_number"] == 600


def test_progress_goes_on_without_batches(tmp_path: Path) -> None:
    """The progress file is renewed while no batch comes to its end."""
    with Outputs(tmp_path, facts()) as out:
        first = content(tmp_path, "migration_progress.json")
        while (now := content(tmp_path, "migration_progress.json")) == first:
            assert out.snapshot.status == "running"
        assert now["last_update"] > first["last_update"]
        assert now["connections"][0]["seconds"] > first["connections"][0]["seconds"]


def test_killed(tmp_path: Path) -> None:
    """After kill -9 all files are valid, and the progress names a process that is not there."""
    for _ in range(2):
        with other(tmp_path) as process:
            name_of(process)
            assert tell(process, "batches") == "done"
            assert tell(process, "wait") == "done"
            assert process.stdin is not None
            process.stdin.write("flood\n")
            process.stdin.flush()
            while content(tmp_path, "migration_progress.json")["current_batch"] <= 1000:
                pass
            process.kill()
        progress = content(tmp_path, "migration_progress.json")
        assert (progress["status"], progress["pid"]) == ("running", process.pid)
        with pytest.raises(ProcessLookupError):
            os.kill(progress["pid"], 0)
        content(tmp_path, "migration_stats.json")
        assert not (tmp_path / "migration_results.json").exists()
        batches = (tmp_path / "runs/latest/batches.jsonl").read_bytes()
        assert batches.count(b"\n") >= 100  # more than the statistics may have had time for
    assert len(list((tmp_path / "runs").glob("2*"))) == 2


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")]
)
def test_cut_off(tmp_path: Path, error: type[BaseException], status: str) -> None:
    """A run that an exception ends has complete files, and they say how it ended."""
    with pytest.raises(error), Outputs(tmp_path, facts()) as out:  # noqa: PT012
        out.file_started(FileFacts("a.json", "t"))
        out.batch(stat())
        raise error
    for name in ("migration_progress.json", "migration_results.json"):
        assert content(tmp_path, name)["status"] == status
    assert content(tmp_path, "migration_results.json")["files"][0]["status"] == "unfinished"
    assert len(content(tmp_path, "migration_stats.json")["batches"]) == 1


def test_many_threads(tmp_path: Path) -> None:
    """Told by many threads at once, in any order, nothing is lost; there is more than one piece."""

    def work(worker: int) -> None:
        for n in range(500):
            out.connection_state(worker, "writing")
            if n % 100 == 0:
                out.reject([reject(record=worker * 1000 + n)])
            out.batch(stat(worker * 500 + n, records=n))

    with Outputs(tmp_path, facts(num_connections=8)) as out, ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(work, worker) for worker in range(8)]:
            each.result()
    batches = content(tmp_path, "migration_stats.json")["batches"]
    assert (tmp_path / "migration_stats.json").stat().st_size > 1 << 20
    assert [batch["batch_number"] for batch in batches] == list(range(1, 4001))
    assert {batch["first_record"] for batch in batches} == {1 + 1000 * n for n in range(4000)}
    total = 8 * sum(range(500))
    assert batches[-1]["cumulative_records"] == total
    results = content(tmp_path, "migration_results.json")
    assert (results["total_records"], results["rejects"]) == (total, 40)
    assert results["status"] == "completed_with_errors"
    assert len((tmp_path / REJECTS).read_bytes().splitlines()) == 40
    assert not (out.folder / "batches.jsonl").exists()


def test_resumed(tmp_path: Path) -> None:
    """The progress counts what an earlier run has done; the results are those of this one."""
    known = facts(total_files=2, total_records=None, total_bytes=400_000, resumed=True)
    with Outputs(tmp_path, known) as out:
        done = FileFacts("a.json", "t", 2000, 200_000, records_before=2000, bytes_before=200_000)
        out.file_started(done)
        out.file_finished("a.json")
        out.file_started(FileFacts("b.json", "t", bytes=200_000))
        out.batch(stat(1, file="b.json", bytes=99_000))
        out.finish("interrupted")
    progress = content(tmp_path, "migration_progress.json")
    assert progress["total_records_processed"] == 3000
    assert progress["files_completed"] == 1
    assert (progress["percent"], progress["total_records"]) == (74.75, None)
    results = content(tmp_path, "migration_results.json")
    assert (results["total_records"], results["records_before"]) == (1000, 2000)


@settings(max_examples=30)  # each waits for the disk
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    indent=st.sampled_from([None, 2]),
)
def test_rejected_record_is_kept(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: int | None
) -> None:
    """Whatever record is rejected, pretty-printed or not, its line holds the same record."""
    data = json.dumps({"value": value}, indent=indent).encode()
    (line,) = written_rejects(tmp_path_factory.mktemp("rejects"), [reject(7, data)])
    found = json.loads(line)
    kept = found.pop("data") if "data" in found else json.loads(found.pop("text"))
    assert kept == {"value": value}
    assert found == {
        "file": "a.json",
        "record": 7,
        "offset": 8,
        "table": "bid_pblanclistinfo_cnstwk",
        "column": "n",
        "sqlstate": "22P02",
        "message": "no number",
    }


@settings(max_examples=30)
@given(data=st.binary())
def test_rejected_bytes_are_kept(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A record that is no JSON is still told of, in a line that is."""
    (line,) = written_rejects(tmp_path_factory.mktemp("rejects"), [reject(data=data)])
    assert {"data", "text"} & set(msgspec.json.decode(line))


def written_rejects(folder: Path, rejects: Sequence[Reject]) -> list[bytes]:
    """The lines of a file of rejects."""
    file = RejectFile(folder / REJECTS)
    file.write(rejects)
    file.close()
    return (folder / REJECTS).read_bytes().splitlines()


def test_hostile_names(tmp_path: Path) -> None:
    """A file name makes neither a line of the log, nor a terminal's command, nor broken JSON."""
    name = "a\n2025-01-15 10:30:03 - INFO - Batch 9\x1b[2J\u202e\udcff입찰.json"
    with Outputs(tmp_path, facts()) as out:
        out.file_started(FileFacts(name, "t"))
        out.reject([reject(file=name)])
        out.batch(stat(file=name))
        out.file_finished(name, f"{name}: gone")
        out.finish("failed")
    for each in JSON_FILES:
        content(tmp_path, each)
    assert content(tmp_path, "migration_progress.json")["current_file"].endswith("\\udcff입찰.json")
    log = (tmp_path / "migration.log").read_text("utf-8")
    assert len(log.splitlines()) == 6
    assert not set(log) & {"\x1b", "\u202e"}
    assert "입찰.json" in log


def test_newest_run_is_shown(tmp_path: Path) -> None:
    """The familiar names mean the newest run; earlier ones, and files of others, are kept."""
    (tmp_path / "migration_results.json").write_text('{"old": true}', "utf-8")
    folders = []
    for n in range(3):
        with Outputs(tmp_path, facts(batch_size=n + 1)) as out:
            assert not (tmp_path / "migration_results.json").exists()
            assert content(tmp_path, "migration_progress.json")["batch_size"] == n + 1
            folders.append(out.folder)
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
    """The newest runs stay, and so does a folder that is no run, in use, or holds other files."""
    old = [f"2020-01-0{n}T00-00-00Z" for n in (1, 2, 3)] + ["2020-01-03T00-00-00Z-2", "notes"]
    for name in old:
        (tmp_path / "runs" / name).mkdir(parents=True)
        for each in (*FAMILIAR, ".migration_stats.json.tmp"):
            (tmp_path / "runs" / name / each).touch()
    (tmp_path / "runs" / old[1] / "why.txt").touch()
    with other(tmp_path) as process:
        running = name_of(process)
        with Outputs(tmp_path, facts(), keep_runs=1) as out:
            left = {path.name for path in (tmp_path / "runs").iterdir()}
            assert left == {old[1], "notes", "latest", running, out.folder.name}
            assert [path.name for path in (tmp_path / "runs" / old[1]).iterdir()] == ["why.txt"]
            assert tell(process, "batches") == "done"
            assert tell(process, "wait") == "done"
        process.communicate("", timeout=60)
    assert content(tmp_path / "runs" / running, "migration_results.json")["batches"] == 100
    assert content(tmp_path, "migration_results.json")["run"] == str(out.folder)


def test_two_runs_at_once(tmp_path: Path) -> None:
    """Each has its own files, complete, and the familiar names show the one begun last."""
    with other(tmp_path) as first, other(tmp_path) as second:
        names = {name_of(first), name_of(second)}
        assert len(names) == 2
        for _ in range(5):
            for process in (first, second):
                assert tell(process, "batches") == "done"
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
    """It is said before anything else happens, in one line with the folder's name."""
    in_the_way = tmp_path / "outputs"
    in_the_way.touch()
    for folder in (in_the_way, in_the_way / "below", Path("/proc/outputs")):
        with pytest.raises(OutputError, match=rf"^cannot write {folder}: .*--output-dir$"):
            Outputs(folder, facts()).__enter__()


def limited(size: int) -> Any:
    """Options for a process whose files can have so many bytes, like a disk that is full."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return {"preexec_fn": limit}


def test_full_disk_at_the_start(tmp_path: Path) -> None:
    """Where not even the first lines find room, the run does not begin."""
    with other(tmp_path, **limited(10)) as process:
        assert name_of(process).startswith(f"error cannot write {tmp_path}")


def test_full_disk_at_the_end(tmp_path: Path) -> None:
    """It is said, too, when no batch comes any more."""
    with other(tmp_path, **limited(10_000)) as process:
        name_of(process)
        assert tell(process, "batches") == "done"
        said, _ = process.communicate("", timeout=60)
        assert said.startswith(f"error cannot write {tmp_path}")
    assert content(tmp_path, "migration_progress.json")["status"] == "completed"


def test_full_disk_in_the_middle(tmp_path: Path) -> None:
    """The run is stopped with one line; its files stay valid, and no line in them is cut."""
    with other(tmp_path, **limited(100_000)) as process:
        name = name_of(process)
        assert tell(process, "flood").startswith(f"error cannot write {tmp_path}")
    assert content(tmp_path, "migration_progress.json")["status"] == "failed"
    assert content(tmp_path, "migration_results.json")["status"] == "failed"
    content(tmp_path, "migration_stats.json")
    run = tmp_path / "runs" / name
    for each in (run / "migration.log", run / "batches.jsonl"):
        assert each.stat().st_size < 100_000
        assert each.read_bytes()[-1:] in (b"\n", b"")
    assert not list(run.glob(".*"))


def test_reject_without_room(tmp_path: Path) -> None:
    """A reject that finds no room is refused as a whole and at once; those before it stay."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.running import *\n"
        "file = RejectFile(Path(sys.argv[1]))\n"
        "file.write([reject(1)])\n"
        "try: file.write([reject(2), reject(3, b'[' + b'1,' * 10_000 + b'1]')])\n"
        "except OutputError: file.write([reject(4)])\n"
    )
    path = tmp_path / REJECTS
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, **limited(10_000))
    assert [json.loads(line)["record"] for line in path.read_bytes().splitlines()] == [1, 4]


def test_a_hanging_disk_holds_the_migration_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the files do not keep up, the workers wait, instead of filling the memory."""
    monkeypatch.setattr("pgload.migrate.outputs.MOST_EVENTS", 100)
    moves = Event()

    class Hanging:
        def __str__(self) -> str:
            moves.wait()
            return "it moves"

    def work() -> None:
        for n in range(300):
            out.batch(stat(n))

    with Outputs(tmp_path, facts()) as out, ThreadPoolExecutor(1) as threads:
        out.log.info("%s", Hanging())
        worker = threads.submit(work)
        with pytest.raises(TimeoutError):
            worker.result(timeout=0.5)
        moves.set()
        worker.result()
    assert content(tmp_path, "migration_results.json")["batches"] == 300
