"""Output files of migrations as `python -m pgload migrate` writes them, made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pgload.contract import BATCHES, PROGRESS, REJECTS, RESULTS, STATS

RUN = "runs/2025-01-15T01-30-03Z"
TABLE = "bid_pblanclistinfo_cnstwk"
SETTING = {
    "batch_size": 2000,
    "num_connections": 2,
    "method": "copy",
    "cloud_provider": "GCP",
    "instance_type": "db-custom-4-15360",
}


def write(folder: Path, name: str, value: Any) -> Path:
    """A JSON file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(value), "utf-8")
    return path


def write_lines(folder: Path, name: str, values: Iterable[Any]) -> Path:
    """A file with a JSON object in each line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path


def file_state(name: str = "a.json", status: str = "completed", **changes: Any) -> dict[str, Any]:
    """The state of a file, as in `files` of the progress and the results."""
    return {
        "file": name,
        "table": TABLE,
        "status": status,
        "records": 5000,
        "records_before": 0,
        "rejects": 0,
        "batches": 5,
        "bytes": 500_000,
        "error": None,
    } | changes


def batch(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A batch of 1,000 records that took 2.5 seconds and ended that many seconds after 1:30."""
    return {
        "batch_number": number,
        "table_name": TABLE,
        "records_count": 1000,
        "start_time": f"2025-01-15T01:29:57.{number:06}+00:00",
        "end_time": f"2025-01-15T01:30:{number % 60:02}+00:00",
        "total_duration_seconds": 2.5,
        "records_per_second": 400.0,
        "cumulative_records": 1000 * number,
        "file": "a.json",
        "first_record": 1,
        "worker": number % 2,
        "method": "copy",
        "encode_seconds": 0.5,
        "write_seconds": 1.75,
        "commit_seconds": 0.25,
        "waited_seconds": 2.0,
        "attempts": 1,
        "error": None,
    } | changes


def reject(record: int = 7, **changes: Any) -> dict[str, Any]:
    """A line of `rejects.jsonl`."""
    return {
        "file": "b.json",
        "record": record,
        "offset": 8,
        "table": TABLE,
        "column": "n",
        "sqlstate": "22P02",
        "message": "not a number",
        "data": {"n": "오류"},
    } | changes


def save_running(outputs: Path, **changes: Any) -> Path:
    """A migration of this process, updated just now. Returns its folder."""
    now = datetime.now().astimezone().isoformat()
    progress = {
        "status": "running",
        "current_file": "a.json",
        "current_batch": 617,
        "files_completed": 1,
        "files_failed": 0,
        "total_files": 5,
        "total_records_processed": 1_234_000,
        "records_before": 0,
        "total_records": 5_000_000,
        "rejects": 2,
        "retries": 3,
        "percent": 24.68,
        "records_per_second": 41_000.4,
        "average_records_per_second": 39_500.0,
        "eta_seconds": 97.6,
        "elapsed_seconds": 31.2,
        "connections": [
            {"worker": 0, "state": "writing", "seconds": 0.1},
            {"worker": 1, "state": "lost", "seconds": 12.2},
        ],
        **SETTING,
        "resumed": False,
        "start_time": now,
        "last_update": now,
        "pid": os.getpid(),
        "files": [file_state("b.json"), file_state("a.json", "running", records=2000, batches=1)],
    }
    write(outputs / RUN, PROGRESS, progress | changes)
    return outputs / RUN


def save_ended(
    outputs: Path,
    run: str = RUN,
    *,
    files: Iterable[Mapping[str, Any]] | None = None,
    batches: Iterable[Mapping[str, Any]] = (),
    rejects: Iterable[Mapping[str, Any]] = (),
    **changes: Any,
) -> Path:
    """A migration of 10,000 records in 25 seconds, with one reject. Returns its folder."""
    states = (
        list(files)
        if files is not None
        else [
            file_state("a.json"),
            file_state("b.json", "completed_with_errors", records=4999, rejects=1),
        ]
    )
    results = {
        "status": "completed_with_errors",
        **SETTING,
        "total_files": 2,
        "successful": 1,
        "failed": 1,
        "total_records": 9999,
        "total_duration_seconds": 25.0,
        "average_records_per_second": 399.96,
        "start_time": "2025-01-15T10:30:03+09:00",
        "completion_time": "2025-01-15T10:30:28+09:00",
        "resumed": False,
        "records_before": 0,
        "rejects": 1,
        "retries": 0,
        "batches": 10,
        "error": None,
        "files": states,
        "tables": [],
    } | changes
    folder = outputs / run
    write(folder, RESULTS, results)
    write(folder, STATS, {**SETTING, "batches": list(batches)})
    write_lines(folder, REJECTS, rejects)
    return folder


def save_batches(folder: Path, batches: Iterable[Mapping[str, Any]]) -> Path:
    """The batches of a migration that has not ended."""
    return write_lines(folder, BATCHES, batches)


def ended_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
