"""Made-up events of a migration for `Outputs`, and a run in a process of its own.

    python -m tests.support.running OUTPUT_DIR KEEP_RUNS

prints the name of its directory, then runs each command that it reads from standard input, and
prints `done` after each.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from pgload.errors import OutputError
from pgload.load.stats import BatchStat
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import RunFacts
from pgload.migrate.outputs.rejects import Reject
from tests.support.environment import ROOT
from tests.support.waiting import wait_until


def facts(**changes: Any) -> RunFacts:
    """A run of one file of 5,000 records, by two connections."""
    defaults: dict[str, Any] = {
        "cloud_provider": "GCP",
        "instance_type": "db-custom-4-15360",
        "method": "copy",
        "batch_size": 1000,
        "num_connections": 2,
        "total_files": 1,
        "total_records": 5000,
    }
    return RunFacts(**defaults | changes)


def stat(number: int = 1, records: int = 1000, file: str = "a.json", **changes: Any) -> BatchStat:
    """A batch that was encoded, waited for two seconds, and was written in 2.5 seconds in all."""
    defaults: dict[str, Any] = {
        "number": number,
        "file": file,
        "table": "bid_pblanclistinfo_cnstwk",
        "first_record": 1 + 1000 * number,
        "records": records,
        "bytes": records * 100,
        "worker": number % 2,
        "start": 1.0,
        "encode": 0.5,
        "write": 1.75,
        "commit": 0.25,
        "end": 5.5,
    }
    return BatchStat(**defaults | changes)


def reject(record: int = 1, data: bytes = b'{"n": 1}', file: str = "a.json") -> Reject:
    """A record that its table refused."""
    return Reject(
        file=file,
        record=record,
        offset=8,
        table="bid_pblanclistinfo_cnstwk",
        column="n",
        sqlstate="22P02",
        message="not a number",
        data=data,
    )


def content(folder: Path, name: str) -> Any:
    """The content of a JSON file, by a strict parser."""
    return msgspec.json.decode((folder / name).read_bytes())


def start_run(output_dir: Path, *, keep_runs: int = 20, **popen: Any) -> subprocess.Popen[str]:
    """A run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.running", str(output_dir), str(keep_runs)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **popen,
    )


def file_size_limit(size: int) -> dict[str, Any]:
    """Options of `Popen` for a process whose files hold at most `size` bytes: a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return {"preexec_fn": limit}


def send(process: subprocess.Popen[str], command: str) -> str:
    """Send a command to the process and wait for its answer."""
    assert process.stdin is not None
    process.stdin.write(f"{command}\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> str:
    """The next line that the process prints; the first is the name of its run."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def main(output_dir: Path, keep_runs: int) -> None:
    """Run the commands: 100 `batches`, `wait` for the next tick, `flood` with batches."""
    with Outputs(output_dir, facts(), keep_runs=keep_runs) as out:
        print(out.run_dir.name, flush=True)
        for command in map(str.strip, sys.stdin):
            if command == "batches":
                for n in range(100):
                    out.batch(stat(n))
            elif command == "wait":
                before = out.snapshot
                wait_until(lambda before=before: out.snapshot is not before)
            elif command == "flood":
                for n in count():
                    out.batch(stat(n))
            print("done", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except OutputError as error:
        print("error", error, flush=True)
