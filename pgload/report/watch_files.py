"""What became of the files of the data folder, by the runs that know them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import msgspec

from pgload.contract import BATCHES, LOG
from pgload.report.watch import RUNNING, MigrationFiles, number, text

MOST_AT_ONCE = 1 << 26  # bytes of a growing file that are read at one look


@dataclass(frozen=True)
class FileState:
    """What became of a file in one run."""

    status: str
    table: str
    records: int | None = None  # committed
    error: str = ""
    cloud: str = ""
    begun: float = math.inf  # of that run, a POSIX time

    def beside(self, modified: float) -> FileState:
        """The state of a file that was last written to at that POSIX time."""
        return replace(self, status="changed") if modified > self.begun else self


def file_states(runs: Sequence[MigrationFiles]) -> dict[str, FileState]:
    """File name → its state, by the first of the runs that knows it."""
    found: dict[str, FileState] = {}
    for run in runs:
        for name, state in _states_of(run).items():
            found.setdefault(name, state)
    return found


def _states_of(run: MigrationFiles) -> dict[str, FileState]:
    cloud, begun = run.text("cloud_provider"), run.begun
    if run.results:
        return {
            text(each.get("file")): FileState(
                text(each.get("status")),
                text(each.get("table")),
                int(sum(number(each.get(key)) or 0 for key in ("records", "records_before"))),
                text(each.get("error")),
                cloud,
                begun,
            )
            for each in run.files
        }
    unfinished = "in_work" if run.state() == RUNNING else "unfinished"
    return {
        name: replace(state, status=state.status or unfinished, cloud=cloud, begun=begun)
        for name, state in _followed(run.folder).look().items()
    }


class _Followed:
    """The files of a run without results, by its log and its batches, which are read as they grow.

    So a look at a long run costs what came since the last one: on the machine that migrates, a
    watcher must not take the processor from it.
    """

    def __init__(self, folder: Path) -> None:
        self._log = _Growing(folder / LOG)
        self._batches = _Growing(folder / BATCHES)
        self._files: dict[str, FileState] = {}
        self._records = Counter[str]()
        self._lock = Lock()  # several readers may have the page open

    def look(self) -> Mapping[str, FileState]:
        """File name → its state now; an empty status where it is not done with."""
        with self._lock:
            for line in self._log.lines():
                self._take(line.decode("utf-8", "backslashreplace"))
            for line in self._batches.lines():
                with suppress(ValueError):
                    batch = _written.decode(line)
                    self._records[batch.file] += batch.records_count
            return {
                name: replace(state, records=(state.records or 0) + self._records[name])
                for name, state in self._files.items()
            }

    def _take(self, line: str) -> None:
        if match := _GOES.search(line):
            self._files[match[1]] = FileState("", match[2], int(match[3] or 0))
        elif (match := _DONE.search(line)) and match[1] in self._files:
            self._files[match[1]] = replace(self._files[match[1]], status="completed")
        elif (match := _FAILED.search(line)) and match[1] in self._files:
            failed = replace(self._files[match[1]], status="failed", error=match[2])
            self._files[match[1]] = failed


@lru_cache(maxsize=64)
def _followed(folder: Path) -> _Followed:
    return _Followed(folder)


# Lines of the log.
_GOES = re.compile(r" - INFO - (.+) goes to (.*?)(?:, where (\d+) of its records are committed)?$")
_DONE = re.compile(r" - INFO - (.+) is done$")
_FAILED = re.compile(r" - ERROR - (.+?) failed: (.*)$")


class _Written(msgspec.Struct):
    """What is wanted of a batch here."""

    file: str = ""
    records_count: int = 0


_written = msgspec.json.Decoder(_Written)


class _Growing:
    """A file that is appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes of it

    def lines(self) -> Iterator[bytes]:
        """The lines that came since the last look; one that is being written comes next time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                new, end, _ = file.read(MOST_AT_ONCE).rpartition(b"\n")
        except OSError:  # not there yet, or no more
            return
        self._read += len(new) + len(end)
        yield from new.split(b"\n") if new else ()
