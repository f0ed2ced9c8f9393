"""The files of a run: complete, and valid whenever they are read."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from pgload.contract import BATCHES, PROGRESS, REJECTS, RESULTS, STATS
from pgload.load.loader import Loader
from pgload.migrate.outputs.files import AppendFile
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import FileFacts
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import make_table, write_json
from tests.support.running import (
    answer,
    content,
    facts,
    file_size_limit,
    reject,
    send,
    start_run,
    stat,
)
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def test_contract(tmp_path: Path) -> None:
    """Every file has the keys of the contract, with their meaning."""
    started = datetime.now(UTC) - timedelta(seconds=60)
    with Outputs(tmp_path, facts(), keep_runs=5) as out:
        out.file_started(FileFacts("a.json", "bid_pblanclistinfo_cnstwk"))
        out.load_started(started)
        out.connection_state(1, "writing")
        out.batch(stat(1))
        out.reject([reject(record=1001), reject(record=1002)])
        out.batch(stat(2, records=998, attempts=2, rejected=2, error="deadlock detected"))
        out.batch(stat(3))
        out.retry(1, "deadlock detected")
        out.file_finished("a.json")
        returned = out.finish("completed_with_errors")

    progress = content(tmp_path, PROGRESS)
    files = progress.pop("files")
    assert progress == json.loads(json.dumps(asdict(out.snapshot)))
    expected = {
        "status": "completed_with_errors",
        "current_file": "a.json",
        "current_batch": 3,
        "files_completed": 0,
        "files_failed": 1,
        "total_files": 1,
        "total_records_processed": 2998,
        "rejects": 2,
        "retries": 1,
        "total_records": 5000,
        "percent": 60.0,
        "batch_size": 1000,
        "num_connections": 2,
        "pid": os.getpid(),
        "run": str(out.run_dir),
    }
    assert expected.items() <= progress.items()
    assert [each["state"] for each in progress["connections"]] == ["waiting", "writing"]
    begin, update = (datetime.fromisoformat(progress[k]) for k in ("start_time", "last_update"))
    assert begin.tzinfo is not None
    assert begin <= update <= datetime.now(UTC)

    stats = content(tmp_path, STATS)
    assert list(stats)[:4] == ["batch_size", "num_connections", "cloud_provider", "instance_type"]
    assert [batch["batch_number"] for batch in stats["batches"]] == [1, 2, 3]
    assert [batch["records_count"] for batch in stats["batches"]] == [1000, 998, 1000]
    assert [batch["rejects"] for batch in stats["batches"]] == [0, 2, 0]
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

    results = content(tmp_path, RESULTS)
    assert results == json.loads(json.dumps(returned))
    assert (results["successful"], results["failed"], results["total_records"]) == (0, 1, 2998)
    speed = results["total_records"] / results["total_duration_seconds"]
    assert results["average_records_per_second"] == pytest.approx(speed, rel=1e-3)
    assert datetime.fromisoformat(results["completion_time"]) <= datetime.now(UTC)
    assert results["files"] == files
    assert files == [
        {
            "file": "a.json",
            "table": "bid_pblanclistinfo_cnstwk",
            "status": "completed_with_errors",
            "records": 2998,
            "records_before": 0,
            "records_by_others": 0,
            "skipped": 0,
            "updated": 0,
            "suppressed": 0,
            "rejects": 2,
            "batches": 3,
            "bytes": 299800,
            "error": None,
        }
    ]
    assert results["tables"] == [
        {
            "table_name": "bid_pblanclistinfo_cnstwk",
            "records": 2998,
            "skipped": 0,
            "updated": 0,
            "suppressed": 0,
            "rejects": 2,
            "batches": 3,
            "bytes": 299800,
        }
    ]

    log = (tmp_path / "migration.log").read_text("utf-8").splitlines()
    line = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (INFO|WARNING|ERROR) - \S.*")
    assert all(line.fullmatch(each) for each in log)
    local = end.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = "Batch 1 for bid_pblanclistinfo_cnstwk: 1000 records in 2.5s (400.0 rec/s)"
    assert f"{local} - INFO - {text}" in log


def read_until(folder: Path, stopped: Event, seen: list[dict[str, Any]]) -> None:
    """Read the JSON files in a loop; `seen` gets every content of the progress file."""
    while not stopped.wait(0.001):
        content(folder, STATS)
        seen.append(content(folder, PROGRESS))


def test_files_are_valid_at_any_moment(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """A reader in a loop beside a load finds complete files, and progress never decreases."""
    path = write_json(tmp_path / "a.json", [{"n": str(n)} for n in range(3000)])
    table = make_table(path, schema, connection)
    stopped, seen = Event(), list[dict[str, Any]]()
    outputs = tmp_path / "outputs"
    with (
        Loader(server.connect, "values", connections=2) as loader,
        Outputs(outputs, facts(total_records=30_000)) as out,
        ThreadPoolExecutor(1) as readers,
    ):
        reading = readers.submit(read_until, outputs, stopped, seen)
        try:
            for _ in range(10):
                out.load_started()
                for batch in loader.run((table, b) for b in read_batches(path, 50)).batches:
                    out.batch(batch)
            out.finish("completed")
        finally:
            stopped.set()
        reading.result()
    records = [each["total_records_processed"] for each in seen]
    assert len(records) > 2
    assert records == sorted(records)
    final = content(outputs, PROGRESS)
    assert (final["status"], final["total_records_processed"]) == ("completed", 30_000)
    assert content(outputs, STATS)["batches"][-1]["batch_number"] == 600


def test_progress_goes_on_without_batches(tmp_path: Path) -> None:
    """The progress file is replaced even while no batch is committed."""
    with Outputs(tmp_path, facts()) as out:
        first = content(tmp_path, PROGRESS)
        wait_until(lambda: content(tmp_path, PROGRESS) != first)
        now = content(tmp_path, PROGRESS)
        assert out.snapshot.status == "running"
        assert now["last_update"] > first["last_update"]
        assert now["connections"][0]["seconds"] > first["connections"][0]["seconds"]


def test_killed(tmp_path: Path) -> None:
    """After kill -9 all files are valid, and the progress names a process that has ended."""
    for _ in range(2):
        with start_run(tmp_path) as process:
            answer(process)
            assert send(process, "batches") == "done"
            assert send(process, "wait") == "done"
            assert process.stdin is not None
            process.stdin.write("flood\n")
            process.stdin.flush()
            wait_until(lambda: content(tmp_path, PROGRESS)["current_batch"] > 1000)
            process.kill()
        progress = content(tmp_path, PROGRESS)
        assert (progress["status"], progress["pid"]) == ("running", process.pid)
        with pytest.raises(ProcessLookupError):
            os.kill(progress["pid"], 0)
        content(tmp_path, STATS)
        assert not (tmp_path / RESULTS).exists()
        batches = (tmp_path / "runs/latest/batches.jsonl").read_bytes()
        assert batches.count(b"\n") >= 100  # more than the statistics may have had time for
    assert len(list((tmp_path / "runs").glob("2*"))) == 2


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")]
)
def test_exception(tmp_path: Path, error: type[BaseException], status: str) -> None:
    """A run that ends by an exception has complete files, with its status in them."""
    with pytest.raises(error), Outputs(tmp_path, facts()) as out:  # noqa: PT012
        out.file_started(FileFacts("a.json", "t"))
        out.batch(stat())
        raise error
    for name in (PROGRESS, RESULTS):
        assert content(tmp_path, name)["status"] == status
    assert content(tmp_path, RESULTS)["files"][0]["status"] == "unfinished"
    assert len(content(tmp_path, STATS)["batches"]) == 1


def test_many_threads(tmp_path: Path) -> None:
    """Of the events of many threads none is lost, in statistics larger than a piece of the copy."""

    def work(worker: int) -> None:
        for n in range(500):
            out.connection_state(worker, "writing")
            if n % 100 == 0:
                out.reject([reject(record=worker * 1000 + n)])
            out.batch(stat(worker * 500 + n, records=n))

    with Outputs(tmp_path, facts(num_connections=8)) as out, ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(work, worker) for worker in range(8)]:
            each.result()
    batches = content(tmp_path, STATS)["batches"]
    assert (tmp_path / STATS).stat().st_size > 1 << 20
    assert [batch["batch_number"] for batch in batches] == list(range(1, 4001))
    assert {batch["first_record"] for batch in batches} == {1 + 1000 * n for n in range(4000)}
    total = 8 * sum(range(500))
    assert batches[-1]["cumulative_records"] == total
    results = content(tmp_path, RESULTS)
    assert (results["total_records"], results["rejects"]) == (total, 40)
    assert results["status"] == "completed_with_errors"
    assert len((tmp_path / REJECTS).read_bytes().splitlines()) == 40
    assert not (out.run_dir / BATCHES).exists()


def test_full_disk_at_the_start(tmp_path: Path) -> None:
    """If there is no space even for the first lines, the run does not begin."""
    with start_run(tmp_path, **file_size_limit(10)) as process:
        assert answer(process).startswith(f"error cannot write {tmp_path}")


def test_full_disk_at_the_end(tmp_path: Path) -> None:
    """A full disk is reported even when no batch comes any more."""
    with start_run(tmp_path, **file_size_limit(10_000)) as process:
        answer(process)
        assert send(process, "batches") == "done"
        output, _ = process.communicate("", timeout=60)
        assert output.startswith(f"error cannot write {tmp_path}")
    assert content(tmp_path, PROGRESS)["status"] == "completed"


def test_full_disk_in_the_middle(tmp_path: Path) -> None:
    """A full disk stops the run with one line; its files stay valid, with whole lines."""
    with start_run(tmp_path, **file_size_limit(100_000)) as process:
        name = answer(process)
        assert send(process, "flood").startswith(f"error cannot write {tmp_path}")
    assert content(tmp_path, PROGRESS)["status"] == "failed"
    assert content(tmp_path, RESULTS)["status"] == "failed"
    content(tmp_path, STATS)
    run = tmp_path / "runs" / name
    for each in (run / "migration.log", run / BATCHES):
        assert each.stat().st_size < 100_000
        assert each.read_bytes()[-1:] in (b"\n", b"")
    assert not list(run.glob(".*"))


def test_hanging_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While writing hangs, the workers wait, and no event is lost."""
    monkeypatch.setattr("pgload.migrate.outputs.outputs.MAX_EVENTS", 100)
    hangs, goes_on, append = Event(), Event(), AppendFile.append

    def slow_append(file: AppendFile, data: bytes, **options: Any) -> None:
        hangs.set()
        goes_on.wait()
        append(file, data, **options)

    def work() -> None:
        for n in range(300):
            out.batch(stat(n))

    with Outputs(tmp_path, facts()) as out, ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(AppendFile, "append", slow_append)
        out.log.info("a line")
        hangs.wait()
        worker = threads.submit(work)
        with pytest.raises(TimeoutError):
            worker.result(timeout=0.5)
        goes_on.set()
        worker.result()
    assert content(tmp_path, RESULTS)["batches"] == 300


def test_cost_of_a_batch(tmp_path: Path) -> None:
    """Reporting a batch costs its worker a few microseconds."""
    batches = [stat(n) for n in range(5000)]
    with Outputs(tmp_path, facts()) as out:
        start = time.thread_time()
        for each in batches:
            out.batch(each)
        seconds = time.thread_time() - start
    assert seconds / len(batches) < 50e-6


def test_many_files(tmp_path: Path) -> None:
    """With 15,000 files the state of each is in the progress, which takes little of the run."""
    files = [FileFacts(f"bid_pblanclistinfo_cnstwk_{n:05}.json", "t") for n in range(15_000)]
    with Outputs(tmp_path, facts(total_files=len(files))) as out:
        out.files_planned(files)
        out.file_started(files[0])
        out.file_finished(files[0].name)
        out.file_started(files[1])
        wait_until(lambda: out.snapshot.files_completed == 1)
        wait_until(lambda: len(content(tmp_path, PROGRESS)["files"]) == 15_000)
        wait_until(lambda: content(tmp_path, PROGRESS)["files"][0]["status"] == "completed")
        states = [each["status"] for each in content(tmp_path, PROGRESS)["files"]]
        assert states == ["completed", "running", *["pending"] * 14_998]
    states = [each["status"] for each in content(tmp_path, RESULTS)["files"]]
    assert states == ["completed", "unfinished", *["pending"] * 14_998]
