"""The folder of `migrate` as it stands: which runs there are, and how far each has come.

Every file may be missing, half-written, or from another tool, and each may change at any moment.
So nothing here raises for what is in a file: what cannot be read is a problem, a line for the user.
Files are read once for each state that they are in, told by time of change and size.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pgload.contract import BATCHES, LOG, PROGRESS, REJECTS, RESULTS, STATS

RAW = (RESULTS, PROGRESS, STATS, BATCHES, REJECTS, LOG)

RUNNING, ENDED = "running", "ended"  # ended: its last word is `running`, but it is gone
QUIET = 5.0  # seconds without a word, after which it matters whether the process is there
SILENT = 60.0  # after which it does not matter: another process may have its number by now
LAST_LINES = 1 << 14  # bytes of the log's end

Stamp = tuple[int, int]


@dataclass(frozen=True)
class MigrationFiles:
    """One migration: the content of two files, each empty where there is nothing to read."""

    folder: Path
    progress: Mapping[str, Any]
    results: Mapping[str, Any]
    problems: tuple[str, ...]

    @property
    def facts(self) -> Mapping[str, Any]:
        """Both; the results, written last, have the last word."""
        return {**self.progress, **self.results}

    @property
    def records(self) -> float | None:
        """Committed in this run, and before it was resumed."""
        known = number(self.progress.get("total_records_processed"))
        return number(self.results.get("total_records")) if known is None else known

    @property
    def all_records(self) -> float | None:
        """How many there are to migrate, which the results do not say."""
        return number(self.progress.get("total_records"))

    @property
    def seconds(self) -> float | None:
        """How long it took, or has taken so far."""
        known = self.number("total_duration_seconds")
        return self.number("elapsed_seconds") if known is None else known

    @property
    def begun(self) -> float:
        """When it began, a POSIX time; infinite where that is not known."""
        return _moment(self.facts.get("start_time"))

    @property
    def started(self) -> str:
        """`2025-01-15 10:30:03`, on the clock of the machine that migrated."""
        return text(self.facts.get("start_time"))[:19].replace("T", " ") or self.folder.name

    def number(self, name: str) -> float | None:
        return number(self.facts.get(name))

    def text(self, name: str) -> str:
        return text(self.facts.get(name))

    @property
    def files(self) -> tuple[Mapping[str, Any], ...]:
        """What the results say of its files; nothing before they are written."""
        return mappings(self.facts.get("files"))

    def state(self) -> str:
        """Its status, or ENDED where it says that it is running and is not; empty: no word of it.

        On the machine that migrates a process that is gone is known to be; from elsewhere, over a
        shared folder, it is only known to be silent.
        """
        status = self.text("status")
        if status != RUNNING:
            return status
        last = _moment(self.facts.get("last_update"))
        age = math.inf if last == math.inf else time.time() - last
        gone = age > QUIET and not _is_alive(self.facts.get("pid"))
        return ENDED if gone or age > SILENT else RUNNING


def run_folders(outputs: Path) -> list[Path]:
    """The folders of runs, the newest first; the folder itself where its files are its own."""
    found: list[Path] = []
    with suppress(OSError):
        inside = (outputs / "runs").iterdir()
        found = [each for each in inside if not each.is_symlink() and each.is_dir()]
    # A run that began in the same second as another has a number: …Z-2.
    found.sort(key=lambda path: [(len(part), part) for part in path.name.split("Z")], reverse=True)
    own = [outputs / name for name in (RESULTS, PROGRESS, STATS)]
    if any(path.is_file() and not path.is_symlink() for path in own):
        found.append(outputs)
    return found


def read_run(folder: Path) -> MigrationFiles:
    """What is known of the run whose files are in `folder`."""
    progress, trouble = read_object(folder / PROGRESS)
    results, more = read_object(folder / RESULTS)
    return MigrationFiles(folder, progress, results, tuple(filter(None, (trouble, more))))


def read_object(path: Path) -> tuple[Mapping[str, Any], str | None]:
    """The object in a JSON file, empty when there is no file or nothing to read; and why not."""
    stamp = stamp_of(path)
    if stamp is None:
        return {}, None
    try:
        return _object(path, stamp), None
    except FileNotFoundError:  # replaced or removed in this moment
        return {}, None
    except OSError as error:
        return {}, f"{path.name}: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return {}, f"{path.name}: {text(error)}"


@lru_cache(maxsize=128)
def _object(path: Path, _stamp: Stamp) -> Mapping[str, Any]:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def stamp_of(path: Path) -> Stamp | None:
    """By what a change of the file is noticed; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def last_lines(folder: Path, most: int = 20) -> str:
    """The end of a run's log; empty where there is none."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LINES))
            lines = file.read().decode("utf-8", "backslashreplace").splitlines()
    except OSError:
        return ""
    return text("\n".join(lines[-most:]))


def rejects(folder: Path, most: int) -> Iterator[Mapping[str, Any]]:
    """The first records that were rejected, as their file has them; broken lines are left out."""
    with suppress(OSError), (folder / REJECTS).open("rb") as lines:
        for line, _ in zip(lines, range(most), strict=False):
            with suppress(ValueError, RecursionError):  # the line that is being written
                if isinstance(found := json.loads(line), dict):
                    yield found


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def text(value: Any) -> str:
    """A value as text that any screen takes: names may hold what is no character."""
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def mappings(values: Any) -> tuple[Mapping[str, Any], ...]:
    """The objects of a list, whatever else is in it."""
    entries: Sequence[Any] = values if isinstance(values, list) else ()
    return tuple(each for each in entries if isinstance(each, dict))


def _moment(moment: Any) -> float:
    """A time in ISO 8601 as a POSIX time; infinite where it is none."""
    try:
        return datetime.fromisoformat(str(moment)).timestamp()
    except (ValueError, OverflowError):
        return math.inf


def _is_alive(pid: Any) -> bool:
    """Whether a process of that number is there; None is not known, so not alive."""
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True
