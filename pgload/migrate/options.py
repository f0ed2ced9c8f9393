"""The options of `migrate`, and their defaults."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pgload.contract import OUTPUT_DIR
from pgload.errors import UsageError
from pgload.source.stores import without_secrets

KEEP_RUNS = 20
RETRY_TIMEOUT = 300.0  # seconds
MANY_REJECTS = 10_000  # that end a run if they are more than half of its records
UNLIMITED = sys.maxsize

OnUnknown = Literal["error", "ignore", "add"]
OnConflict = Literal["error", "skip", "update"]


@dataclass(frozen=True, kw_only=True)
class MigrateOptions:
    """What a migration is asked to do; each field is the option of the same name."""

    data: str | Path  # a folder, a file, a pattern, - or a URL
    cloud: str | None = None
    method: str = "values"
    batch_size: int = 1000
    connections: int = 1
    output_dir: Path = OUTPUT_DIR
    on_conflict: OnConflict = "error"
    resume: bool = False
    restart: bool = False
    create_tables: bool = False
    on_unknown: OnUnknown = "error"
    override_identity: bool = False
    dry_run: bool = False
    ledger: bool = True
    max_rejects: int | None = None  # None: end a run that rejects most records
    retry_timeout: float = RETRY_TIMEOUT
    verify: bool = False
    keep_runs: int = KEEP_RUNS
    command: Sequence[str] = ()  # the whole command line, to print the one that resumes
    started: float | None = None  # when the command began, a POSIX time; None: now

    @property
    def writes_again(self) -> bool:
        """Whether records that earlier runs have committed are written again."""
        return self.restart or (self.on_conflict != "error" and not self.resume)

    @property
    def resume_command(self) -> str:
        """The command that resumes the run, for a shell, without secrets of URLs."""
        given = map(without_secrets, self.command)
        words = [each for each in given if each not in ("--resume", "--restart")]
        return shlex.join([*words, "--resume"])


def check_output_dir(data: str | Path, output_dir: Path) -> None:
    """Raise `UsageError` for outputs among the data, which the next run would load."""
    real_data, real_output_dir = (Path(os.path.realpath(path)) for path in (data, output_dir))
    if real_data.is_dir() and real_output_dir.is_relative_to(real_data):
        raise UsageError(
            f"--output-dir {output_dir} is in --data {data}: choose a folder outside of it"
        )
