"""The runs in the output directory of `python -m pgload migrate`, as their files describe them.

Any file may be missing, half written, or of another tool, and may change at any moment. No function
raises an error for the content of a file: what cannot be read is a problem, one line for the user.
A file is read again only when its time of change or its size differs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec

from pgload.contract import LOG, OUTPUT_DIR, PROGRESS, REJECTS, RESULTS, STATS, one_line
from pgload.report.migration_batches import (
    BatchSummary,
    FileVersion,
    Moment,
    file_version,
    read_batch_summary,
)

ON_PAGE = 5  # migrations
RUNNING = "running"
ENDED = "ended"  # the file's status is `running`, but its process is gone
QUIET = 5.0  # seconds since the last update, after which the process is looked for
SILENT = 60.0  # seconds after which a process with that number is taken for another one
LOG_TAIL = 1 << 14  # bytes


class SavedFile(msgspec.Struct, frozen=True):
    """The state of one file of a migration, with the keys of the output files."""

    file: str = ""
    table: str = ""
    status: str = ""  # pending, running, unfinished, completed, completed_with_errors, failed
    records: int = 0  # committed in this run
    records_before: int = 0  # committed before it was resumed
    rejects: int = 0
    batches: int = 0
    bytes: int = 0
    error: str | None = None

    @property
    def committed(self) -> int:
        """Records committed in this run and before it was resumed."""
        return self.records + self.records_before


class SavedConnection(msgspec.Struct, frozen=True):
    """What a connection of a running migration does, and for how many seconds."""

    worker: int = 0
    state: str = ""
    seconds: float = 0.0


class MigrationOutput(msgspec.Struct, frozen=True):
    """The keys of `migration_progress.json` and `migration_results.json`; None where missing."""

    status: str | None = None
    cloud_provider: str | None = None
    instance_type: str | None = None
    method: str | None = None
    batch_size: int | None = None
    num_connections: int | None = None
    total_files: int | None = None
    files_completed: int | None = None
    files_failed: int | None = None
    successful: int | None = None  # the results' name of `files_completed`
    failed: int | None = None
    # In the progress all records that there are to migrate, in the results those of this run.
    total_records: int | None = None
    total_records_processed: int | None = None  # committed in this run and before it was resumed
    rejects: int | None = None
    retries: int | None = None
    percent: float | None = None
    records_per_second: float | None = None
    average_records_per_second: float | None = None
    eta_seconds: float | None = None
    elapsed_seconds: float | None = None
    total_duration_seconds: float | None = None
    start_time: Moment | None = None
    last_update: Moment | None = None
    completion_time: Moment | None = None
    pid: int | None = None
    current_file: str | None = None
    connections: tuple[SavedConnection, ...] | None = None
    resume_command: str | None = None
    files: tuple[SavedFile, ...] | None = None


NOTHING = MigrationOutput()


class SavedReject(msgspec.Struct, frozen=True):
    """A line of `rejects.jsonl`."""

    file: str = ""
    record: int | None = None
    table: str = ""
    column: str | None = None
    sqlstate: str | None = None
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")  # the record as JSON, or …
    text: str | None = None  # … its text, where it is not JSON


@dataclass(frozen=True)
class SavedMigration:
    """One migration, by the files in its folder."""

    folder: Path
    progress: MigrationOutput
    results: MigrationOutput
    problems: tuple[str, ...] = ()

    @cached_property
    def facts(self) -> MigrationOutput:
        """Progress and results together; where both have a key, the results', written last."""
        known = {
            name: value
            for name in MigrationOutput.__struct_fields__
            if (value := getattr(self.results, name)) is not None
        }
        return msgspec.structs.replace(self.progress, **known)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither progress nor results."""
        return self.facts == NOTHING

    @property
    def records(self) -> int | None:
        """Records committed, in this run and before it was resumed."""
        known = self.progress.total_records_processed
        return self.results.total_records if known is None else known

    @property
    def all_records(self) -> int | None:
        """Records that there are to migrate; only the progress has them."""
        return self.progress.total_records

    @property
    def seconds(self) -> float | None:
        """How long the run took, or has taken so far."""
        known = self.facts.total_duration_seconds
        return self.facts.elapsed_seconds if known is None else known

    @property
    def files_completed(self) -> int | None:
        """Files with every record in its table."""
        known = self.results.successful
        return self.facts.files_completed if known is None else known

    @property
    def files_failed(self) -> int | None:
        """Files that ended with rejects or an error."""
        known = self.results.failed
        return self.facts.files_failed if known is None else known

    @property
    def started_at(self) -> float:
        """POSIX time at which the run began; infinite if unknown."""
        return self.facts.start_time.timestamp() if self.facts.start_time else math.inf

    @property
    def started(self) -> str:
        """`2025-01-15 10:30:03`, in the time zone of the machine that migrated."""
        return _clock(self.facts.start_time) or one_line(self.folder.name)

    @property
    def ended(self) -> str:
        """When it ended, or the last update was written; empty if unknown."""
        return _clock(self.facts.completion_time or self.facts.last_update)

    @property
    def state(self) -> str:
        """The status, or `ENDED` for a run that was killed; empty if unknown.

        On the machine that migrates, a missing process shows that. For a reader of a shared folder
        it is only the age of the last update.
        """
        status = self.facts.status or ""
        if status != RUNNING:
            return status
        updated = self.facts.last_update
        age = time.time() - updated.timestamp() if updated else math.inf
        gone = age > QUIET and not _is_alive(self.facts.pid)
        return ENDED if gone or age > SILENT else RUNNING

    @property
    def files(self) -> tuple[SavedFile, ...]:
        """Its files; one that was running when the migration ended is `unfinished`."""
        files = self.facts.files or ()
        if self.state == RUNNING:
            return files
        return tuple(
            msgspec.structs.replace(file, status="unfinished") if file.status == RUNNING else file
            for file in files
        )

    @property
    def batches(self) -> BatchSummary:
        """The summary of its batches; empty if their file cannot be read."""
        return read_batch_summary(self.folder)[0]


def read_migrations(
    outputs: Path = OUTPUT_DIR, limit: int = ON_PAGE
) -> tuple[list[SavedMigration], list[str]]:
    """The newest migrations in an output directory, and what cannot be read, one line each."""
    found: list[SavedMigration] = []
    problems: list[str] = []
    for folder in run_folders(outputs):
        migration = read_migration(folder)
        _, problem = read_batch_summary(folder)
        for line in (*migration.problems, problem):
            if line:
                problems.append(f"{one_line(str(folder))}: {line}")
        empty = migration.is_empty and not migration.batches.whole.batches
        if not empty and not any(_is_copy(migration, other) for other in found):
            found.append(migration)
        if len(found) == limit:
            break
    return found, problems


def run_folders(outputs: Path) -> list[Path]:
    """The folders of runs, the newest first.

    The files in the output directory are links to those of the newest run. Where they are not links
    (files of another tool, a copied directory), the directory itself comes last.
    """
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


def read_migration(folder: Path) -> SavedMigration:
    """The run whose files are in `folder`."""
    progress, progress_problem = _read(folder / PROGRESS)
    results, results_problem = _read(folder / RESULTS)
    problems = tuple(filter(None, (progress_problem, results_problem)))
    return SavedMigration(folder, progress, results, problems)


def last_lines(folder: Path, limit: int = 20) -> str:
    """The end of a run's log; empty where there is none."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL))
            lines = file.read().decode("utf-8", "backslashreplace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-limit:])


def read_rejects(folder: Path, limit: int) -> Iterator[SavedReject]:
    """The first rejects of a run; lines that cannot be read are skipped."""
    decode = msgspec.json.Decoder(SavedReject).decode
    with suppress(OSError), (folder / REJECTS).open("rb") as lines:
        for line, _ in zip(lines, range(limit), strict=False):
            with suppress(ValueError, RecursionError):  # the line that is being written
                yield decode(line)


def _read(path: Path) -> tuple[MigrationOutput, str | None]:
    """The content of a file, `NOTHING` without one; and why it cannot be read."""
    version = file_version(path)
    if version is None:
        return NOTHING, None
    try:
        return _decoded(path, version), None
    except FileNotFoundError:  # removed since
        return NOTHING, None
    except OSError as error:
        return NOTHING, f"{path.name}: {error.strerror}"
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        return NOTHING, f"{path.name}: {error}"


@lru_cache(maxsize=128)
def _decoded(path: Path, _version: FileVersion) -> MigrationOutput:
    return msgspec.json.decode(path.read_bytes(), type=MigrationOutput, strict=False)


def _is_copy(one: SavedMigration, other: SavedMigration) -> bool:
    """Whether both folders hold the files of one run, as after copying links as files."""
    return (one.progress, one.results) == (other.progress, other.results)


def _clock(moment: Moment | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""


def _is_alive(pid: int | None) -> bool:
    """Whether there is a process with that number; False if the number is unknown."""
    if pid is None or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True
