"""What a migration tells of itself, as tests make it up, and a run in a process of its own.

    python -m tests.support.running FOLDER KEEP_RUNS

says the name of its folder, then does what a word on its standard input asks for, and says `done`.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from pgload.errors import OutputError
from pgload.load.stats import BatchStat
from pgload.migrate.outputs import Outputs
from pgload.migrate.progress import RunFacts
from pgload.migrate.run_files import Reject, RejectFile

__all__ = ["OutputError", "RejectFile", "content", "facts", "reject", "stat"]


def facts(**changes: Any) -> RunFacts:
    """A run of one file of 5,000 records, by two connections."""
    usual: dict[str, Any] = {
        "cloud_provider": "GCP",
        "instance_type": "db-custom-4-15360",
        "method": "copy",
        "batch_size": 1000,
        "num_connections": 2,
        "total_files": 1,
        "total_records": 5000,
    }
    return RunFacts(**usual | changes)


def stat(number: int = 1, records: int = 1000, file: str = "a.json", **changes: Any) -> BatchStat:
    """A batch that was encoded, waited for two seconds, and was written in 2.5 seconds in all."""
    usual: dict[str, Any] = {
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
    return BatchStat(**usual | changes)


def reject(record: int = 1, data: bytes = b'{"n": 1}', file: str = "a.json") -> Reject:
    """A record that its table did not take."""
    return Reject(file, record, 8, "bid_pblanclistinfo_cnstwk", "n", "22P02", "no number", data)


def content(folder: Path, name: str) -> Any:
    """What a JSON file says, by a reader that takes nothing but JSON."""
    return msgspec.json.decode((folder / name).read_bytes())


def main(folder: Path, keep_runs: int) -> None:
    """A run that does what it is told."""
    with Outputs(folder, facts(), keep_runs=keep_runs) as out:
        print(out.folder.name, flush=True)
        for word in map(str.strip, sys.stdin):
            if word == "batches":
                for n in range(100):
                    out.batch(stat(n))
            elif word == "wait":
                before = out.snapshot
                while out.snapshot is before:
                    pass
            elif word == "flood":
                for n in count():
                    out.batch(stat(n))
            print("done", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except OutputError as error:
        print("error", error, flush=True)
