"""What is known of a run before it begins, and what it is like at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["running", "completed", "completed_with_errors", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of a run before it begins. Totals count what an earlier run has done, too."""

    cloud_provider: str
    instance_type: str | None
    method: str
    batch_size: int
    num_connections: int
    total_files: int
    total_records: int | None = None  # None where counting them would take too long
    total_bytes: int | None = None  # of the files; tells how far the run is without total_records
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file when it is begun; `…_before` is what an earlier run committed."""

    name: str  # as in `BatchStat.file`
    table: str
    records: int | None = None
    bytes: int | None = None
    records_before: int = 0
    bytes_before: int = 0
    rejected_before: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """What a connection is doing: `writing`, `waiting`, `lost`, or whatever its worker says."""

    worker: int
    state: str
    seconds: float  # in this state


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at one moment, as it stands in `migration_progress.json`. Times are ISO 8601."""

    status: Status
    current_file: str | None  # the one begun last
    current_batch: int  # the one that ended last, by its batch_number
    files_completed: int  # every record of theirs is in its table
    files_failed: int  # finished with, but for some records
    total_files: int
    total_records_processed: int  # committed, in this run and before it was resumed
    records_before: int  # of them, before it was resumed
    records_failed: int  # rejected
    rejects: int
    retries: int
    total_records: int | None
    percent: float | None  # done with, written or failed; None where no total is known
    records_per_second: float  # committed within the last seconds
    average_records_per_second: float  # since the run began
    eta_seconds: float | None  # at the present speed; None at a standstill
    elapsed_seconds: float
    batch_size: int
    num_connections: int
    connections: tuple[ConnectionState, ...]
    method: str
    cloud_provider: str
    instance_type: str | None
    resumed: bool
    start_time: str
    last_update: str  # old beside a `running` without its process: that was killed
    pid: int
    run: str  # its folder
