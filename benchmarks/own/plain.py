"""Loads in a Python process of their own, without pytest.

`PlainPython` is the parent's side; `python -m benchmarks.own.plain` is the process. The two talk
over pipes, a line of JSON at a time, so that no password is in a process list.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from pgload.load.loader import Loader
from pgload.schema.table import Table
from pgload.source.reader import read_batches
from pgload.targets.target import Target

ROOT = Path(__file__).parents[2]
SAMPLE_EVERY = 0.005  # seconds between two samples of the memory
RSS_ANON = "RssAnon:"  # private memory in /proc/<pid>/status; Linux only


class Job(msgspec.Struct):
    """A load that a process repeats on request."""

    cloud: str
    parameters: dict[str, Any]
    table: Table
    path: Path
    method: str
    batch_size: int
    connections: int
    read_first: bool  # the file is read before the first load, as in the suite

    @classmethod
    def of(cls, target: Target, table: Table, path: Path, method: str, **how: Any) -> Job:
        """A job on that target."""
        given = {"batch_size": 1000, "connections": 1, "read_first": False} | how
        return cls(target.cloud, target.with_secret(), table, path, method, **given)


class PlainPython:
    """The parent's side of a process that runs a job."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def load(self) -> float:
        """Run the load once; returns its seconds."""
        self._ask()
        return self._answer()

    def load_watching_memory(self) -> float:
        """Run the load once; returns the maximum of the private memory meanwhile, in MB."""
        done, samples = threading.Event(), [0.0]

        def sample() -> None:
            while not done.wait(SAMPLE_EVERY):
                samples.append(private_memory(self._process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            self.load()
        finally:
            done.set()
            sampler.join()
        return max(samples)

    def _ask(self) -> None:
        open_pipe(self._process.stdin).write(b"load\n")
        open_pipe(self._process.stdin).flush()

    def _answer(self) -> float:
        line = open_pipe(self._process.stdout).readline()
        assert line, "the process ended; its error is above"
        return msgspec.json.decode(line, type=float)


@contextmanager
def plain_python(job: Job) -> Iterator[PlainPython]:
    """A process that is connected and ready for the job; it ends with the `with` block."""
    command = [sys.executable, "-m", "benchmarks.own.plain"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # its end is the signal to stop
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is for this process
    ) as process:
        try:
            open_pipe(process.stdin).write(msgspec.json.encode(job, enc_hook=str) + b"\n")
            open_pipe(process.stdin).flush()
            plain = PlainPython(process)
            plain._answer()
            yield plain
        finally:
            open_pipe(process.stdin).close()


def private_memory(pid: int) -> float:
    """The memory of a process that is not backed by a file, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(RSS_ANON):
            return int(line.removeprefix(RSS_ANON).removesuffix("kB")) / 1024
    return 0.0  # it has just ended


def repeat_file(path: Path, source: Path, megabytes: int) -> int:
    """Repeat the records of a JSON array until the file has so many MB; returns how often.

    One copy at a time is in memory.
    """
    records = source.read_bytes().strip().removeprefix(b"[").removesuffix(b"]")
    times = max(1, round(megabytes * 1_000_000 / len(records)))
    with path.open("wb") as file:
        for n in range(times):
            file.write(b"," if n else b"[")
            file.write(records)
        file.write(b"]")
    return times


def open_pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe of a process that was started with it, for the type checker."""
    assert pipe is not None
    return pipe


def _main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job, dec_hook=lambda t, v: t(v))
    target = Target(job.cloud, job.parameters)

    def read() -> Iterator[Any]:
        return ((job.table, batch) for batch in read_batches(job.path, job.batch_size))

    held = list(read()) if job.read_first else None
    with Loader(target.connect, job.method, connections=job.connections) as loader:
        print(0.0, flush=True)  # ready
        for _ in sys.stdin.buffer:
            print(loader.run(held or read()).seconds, flush=True)


if __name__ == "__main__":
    _main()
