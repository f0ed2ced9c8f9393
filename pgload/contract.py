"""What the writer and the reader of a file share: names, keys, units, JSON in and out.

And the exit codes, which the commands share.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

import msgspec

METHODS = ("values", "unnest", "json", "copy", "executemany")
PARTS = ("encode", "write", "commit", "wait", "idle")  # of the workers' time
BOTTLENECKS = (
    "client",
    "network",
    "server_cpu",
    "wal",
    "io",
    "locks",
    "server_wait",  # a wait within the server that is none of the above
    "unknown",  # what cannot be attributed
)
LOAD_PARAMS = ("cloud", "method", "batch_size", "connections")  # of a benchmark that is a load

DATA_SUFFIXES = (".json", ".jsonl", ".ndjson")
STORAGE = Path(".benchmarks")  # pytest-benchmark's: <machine>/NNNN_<name>.json

# Usual values for `migrate`, which takes any positive number.
BATCH_SIZES = (100, 500, 1000, 2000, 5000)
CONNECTIONS = (1, 2, 5, 10)

Status = Literal["running", "completed", "completed_with_errors", "failed", "interrupted"]
FileStatus = Literal[
    "pending", "running", "completed", "completed_with_errors", "failed", "unfinished"
]

# The files of a migration.
OUTPUT_DIR = Path("migration_outputs")
PROGRESS = "migration_progress.json"
STATS = "migration_stats.json"
RESULTS = "migration_results.json"
LOG = "migration.log"
REJECTS = "rejects.jsonl"
BATCHES = "batches.jsonl"  # what STATS is made from; only in the run's own directory, while it runs
VERIFICATION = "verification.json"  # of the last `verify`; in the output directory itself
HELD_REJECTS = "rejects.held-*.jsonl"  # by worker; of batches that are being committed
OUTPUT_FILES = (PROGRESS, STATS, RESULTS, LOG, REJECTS)

# Control characters, which end a line or steer a terminal; those that change the direction of
# writing; and lone surrogates, which stand for the bytes of a file name that is not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


class ExitCode(IntEnum):
    """The exit codes of all commands. A `PgloadError` that a command raises is UNUSABLE."""

    COMPLETE = 0
    INCOMPLETE = 1  # of `migrate`: some records or batches were not written
    UNUSABLE = 2  # bad usage or configuration, or no connection: nothing was written
    SLOWER = 3  # of `compare --fail`
    INTERRUPTED = 130  # 128 + SIGINT


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """How a load is written; settings sort by method, then batch size, then connections."""

    method: str
    batch_size: int
    connections: int

    def __str__(self) -> str:
        connections = f"{self.connections:,} connection{'s' if self.connections > 1 else ''}"
        return f"{self.method}, batch size {self.batch_size:,}, {connections}"

    @property
    def short(self) -> str:
        """`copy 1,000 × 4`: batch size × connections."""
        return f"{self.method} {self.batch_size:,} × {self.connections:,}"


def migrate_command(cloud: str, setting: Setting, data: str = "data") -> str:
    """The command that migrates files with a setting, for a shell."""
    return (
        f"python -m pgload migrate --cloud {shlex.quote(cloud)} --data {shlex.quote(data)} "
        f"--create-tables --method {shlex.quote(setting.method)} "
        f"--batch-size {setting.batch_size} --connections {setting.connections}"
    )


def duration(seconds: float, unit: Callable[[str], str] = str) -> str:
    """Seconds in their two largest units: `38 s`, `1 min 38 s`, `2 h 5 min`, `3 d 4 h`.

    `unit` translates the names d, h, min and s.
    """
    whole = round(seconds)
    for size, name, smaller, smaller_name in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit(name)} {rest} {unit(smaller_name)}"
    return f"{whole} {unit('s')}"


def one_line(text: str) -> str:
    """The text with every character escaped that is unsafe in a line of a log or a terminal."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def to_json(value: object, indent: int = 0) -> bytes:
    """JSON in UTF-8; a lone surrogate, which strict readers refuse, becomes its escape as text."""
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:
        escaped = json.dumps(value, ensure_ascii=False)
        text = _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):x}", escaped).encode()
    return msgspec.json.format(text, indent=indent) if indent else text
