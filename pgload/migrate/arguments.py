"""The arguments of `migrate` and `verify`; their defaults are those of `MigrateOptions`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from pgload.arguments import group, positive, whole
from pgload.contract import BATCH_SIZES, CONNECTIONS, METHODS
from pgload.migrate.options import (
    MANY_REJECTS,
    UNLIMITED,
    MigrateOptions,
    OnConflict,
    OnUnknown,
)


def add_migrate_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments, in groups."""
    add = group(command, "source and target")
    _add_data(add)
    add(
        "--cloud",
        metavar="NAME",
        help="GCP, AZURE, AWS or any prefix configured in .env; EMBEDDED or CONTAINER to try it "
        "on a temporary server (default: CLOUD_PROVIDER or ENV of .env)",
    )
    add("--create-tables", action="store_true", help="create the tables that are missing")
    add(
        "--on-unknown",
        choices=get_args(OnUnknown),
        default=MigrateOptions.on_unknown,
        help="a field that has no column: refuse to start, omit it, or add the column (text, or "
        "its type in tables.toml)",
    )
    add(
        "--ignore-unknown",
        dest="on_unknown",
        action="store_const",
        const="ignore",
        default=argparse.SUPPRESS,  # or it would replace what --on-unknown has set
        help="the same as --on-unknown ignore",
    )
    add(
        "--override-identity",
        action="store_true",
        help="write fields into columns that are generated always as identity, and set their "
        "sequences to the largest value at the end",
    )
    add(
        "--dry-run",
        action="store_true",
        help="print what would be done, check a sample of the records against the columns' types, "
        "and write nothing",
    )

    add = group(command, "how batches are written")
    add(
        "--method",
        choices=METHODS,
        default=MigrateOptions.method,
        help="how a batch is written; copy is the fastest",
    )
    add(
        "--batch-size",
        type=positive,
        default=MigrateOptions.batch_size,
        help=f"records in a batch, such as {_any_of(BATCH_SIZES)}",
    )
    add(
        "--connections",
        type=positive,
        default=MigrateOptions.connections,
        help=f"concurrent workers with a connection each, such as {_any_of(CONNECTIONS)}",
    )
    add(
        "--on-conflict",
        choices=get_args(OnConflict),
        default=MigrateOptions.on_conflict,
        help="a record whose key is in the table: reject it, skip it, or update the row",
    )
    add(
        "--retry-timeout",
        type=positive,
        default=round(MigrateOptions.retry_timeout),
        metavar="SECONDS",
        help="how long a batch is retried after transient errors (a lost server, a lock) while no "
        "batch can be written",
    )
    # The old name of --retry-timeout, for one release.
    add(
        "--patience",
        dest="retry_timeout",
        type=positive,
        default=argparse.SUPPRESS,  # or it would replace what --retry-timeout has set
        help=argparse.SUPPRESS,
    )
    add(
        "--max-rejects",
        type=_limit,
        metavar="N",
        help="end the run after more than N rejects, or never with none (default: after "
        f"{MANY_REJECTS:,} if they are more than half of the records so far)",
    )
    add("--verify", action="store_true", help="compare the files with their tables after the load")

    add = group(command, "after an earlier run")
    add("--resume", action="store_true", help="load what is missing, however the last run ended")
    add("--restart", action="store_true", help="forget what is committed, and load everything")
    add(
        "--no-ledger",
        dest="ledger",
        action="store_false",
        help="keep no table pgload_ledger of what is committed: no --resume then, and a batch "
        "whose connection is lost ends the run, since it may be committed or not",
    )

    add = group(command, "output files")
    add(
        "--output-dir",
        type=Path,
        default=MigrateOptions.output_dir,
        help="progress, statistics, results, log and rejects",
    )
    add(
        "--keep-runs",
        type=positive,
        default=MigrateOptions.keep_runs,
        help="runs whose files are kept there",
    )


def _add_data(add: Callable[..., None]) -> None:
    add(
        "--data",
        default="data",
        metavar="DIR|FILE|URL",
        help="a folder of JSON files, a file, a pattern in quotes, - for standard input, or a URL: "
        "s3://, gs://, az:// or https://; also .gz, .zst, .bz2 and .xz",
    )


def _any_of(values: Sequence[int]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}"


def _limit(text: str) -> int:
    return UNLIMITED if text == "none" else whole(text)


def add_verify_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the `verify` command, in groups."""
    add = group(command, "what is compared")
    _add_data(add)
    add(
        "--cloud",
        metavar="NAME",
        help="GCP, AZURE, AWS or any prefix configured in .env (default: CLOUD_PROVIDER or ENV of "
        ".env)",
    )
    add(
        "--on-conflict",
        choices=get_args(OnConflict),
        help="as the files were migrated: after skip and update only keys are compared (default: "
        "as the ledger shows)",
    )
    add(
        "--override-identity",
        action="store_true",
        help="compare columns that are generated always as identity, too",
    )
    add(
        "--no-ledger",
        dest="ledger",
        action="store_false",
        help="compare each file as a whole: what was rejected is missing then",
    )
    add(
        "--retry-timeout",
        type=positive,
        default=round(MigrateOptions.retry_timeout),
        metavar="SECONDS",
        help="how long a comparison is tried again after transient errors (a lost server, a lock)",
    )

    add = group(command, "output files")
    add("--output-dir", type=Path, default=MigrateOptions.output_dir, help="for verification.json")
