"""What became of the files of the data folder, by the runs that know them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pgload.report.watch import LOG, RUNNING, Run, Stamp, number, stamp_of, text
from pgload.report.watch_batches import Total, read_summary


@dataclass(frozen=True)
class FileState:
    """What became of a file in the newest run that knows it."""

    status: str
    table: str
    records: int | None
    error: str = ""
    cloud: str = ""
    begun: float = math.inf  # of that run, a POSIX time

    def beside(self, modified: float) -> FileState:
        """The state of a file that was last written to at that POSIX time."""
        return replace(self, status="changed") if modified > self.begun else self


def file_states(runs: Sequence[Run]) -> dict[str, FileState]:
    """File name → its state, by the newest of the runs that knows it."""
    found: dict[str, FileState] = {}
    for run in runs:
        for name, state in _states_of(run).items():
            found.setdefault(name, state)
    return found


def _states_of(run: Run) -> dict[str, FileState]:
    cloud, begun = run.text("cloud_provider"), run.begun
    found = {}
    for each in run.files:
        written = [number(each.get(key)) for key in ("records", "records_before")]
        found[text(each.get("file"))] = FileState(
            text(each.get("status")),
            text(each.get("table")),
            int(sum(n or 0 for n in written)),
            text(each.get("error")),
            cloud,
            begun,
        )
    if found or run.text("status") not in ("", RUNNING):
        return found
    # No results yet: what its log and its batches tell.
    totals, _ = read_summary(run.folder)
    running = run.state() == RUNNING
    for name, logged in logged_files(run.folder).items():
        total = totals.files.get(name, Total())
        state = "in_work" if running and logged.status == "unfinished" else logged.status
        found[name] = FileState(
            state, logged.table, total.records, logged.error or "", cloud, begun
        )
    return found


@dataclass(frozen=True)
class LoggedFile:
    """What the log says of a file, while there are no results yet."""

    table: str
    status: str = "unfinished"
    error: str | None = None


_GOES = re.compile(r" - INFO - (.+) goes to (.*?)(?:, where \d+ of its records are committed)?$")
_DONE = re.compile(r" - INFO - (.+) is done$")
_FAILED = re.compile(r" - ERROR - (.+?) failed: (.*)$")


def logged_files(folder: Path) -> Mapping[str, LoggedFile]:
    """The files that a run has begun, by its log."""
    stamp = stamp_of(folder / LOG)
    with suppress(OSError):
        return _logged_files(folder / LOG, stamp) if stamp else {}
    return {}


@lru_cache(maxsize=4)
def _logged_files(path: Path, _stamp: Stamp) -> Mapping[str, LoggedFile]:
    found: dict[str, LoggedFile] = {}
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        for line in map(str.rstrip, lines):
            if match := _GOES.search(line):
                found[match[1]] = LoggedFile(match[2])
            elif (match := _DONE.search(line)) and match[1] in found:
                found[match[1]] = LoggedFile(found[match[1]].table, "completed")
            elif (match := _FAILED.search(line)) and match[1] in found:
                found[match[1]] = LoggedFile(found[match[1]].table, "failed", match[2])
    return found
