"""The result of a run: the content of `migration_results.json`, and its summary in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pgload.contract import REJECTS, Status, duration
from pgload.migrate.console import filled
from pgload.migrate.outputs.progress import Tally
from pgload.migrate.outputs.run_files import iso, setting


def results(
    status: Status,
    tally: Tally,
    *,
    begin: float,
    seconds: float,
    load_seconds: float,
    wall_seconds: float,
    run_dir: Path,
    error: str | None,
) -> dict[str, Any]:
    """The content of `migration_results.json`; `begin` is a POSIX time.

    Records and their rates are those of this run; `records_before` counts those of earlier ones.
    `records_read` is the sum of total_records, skipped, suppressed and rejects, of the same by
    earlier runs and by others that ran at the same time, and of records_left.
    """

    def rate(of_seconds: float) -> float:
        return round(tally.records / of_seconds, 3) if of_seconds > 0 else 0.0

    return {
        "status": status,
        **setting(tally.facts),
        "total_files": tally.facts.total_files,
        "successful": tally.completed,  # files with every record in its table
        "failed": tally.failed,
        "total_records": tally.records,  # committed by this run: inserted or updated
        **tally.counts._asdict(),  # skipped, updated (of `total_records`), suppressed
        "total_duration_seconds": round(seconds, 6),
        "average_records_per_second": rate(seconds),
        "load_seconds": round(load_seconds, 6),  # from the first batch to the last commit
        "load_records_per_second": rate(load_seconds),
        "wall_seconds": round(wall_seconds, 6),  # from the start of the command to its end
        "wall_records_per_second": rate(wall_seconds),
        "start_time": iso(begin),
        "completion_time": iso(begin + seconds),
        "resumed": tally.facts.resumed,
        "resume_command": tally.facts.resume_command,
        "records_read": tally.facts.total_records,
        "records_before": tally.records_before,
        "not_written_before": tally.not_written_before,
        "rejects_before": tally.rejects_before,
        "records_by_others": tally.records_by_others,
        "not_written_by_others": tally.not_written_by_others,
        "rejects_by_others": tally.rejects_by_others,
        "records_left": tally.left,
        "rejects": tally.rejects,
        "retries": tally.retries,
        "batches": tally.batches,
        "error": error,  # why it ended early
        "run": str(run_dir),
        "files": msgspec.to_builtins(list(tally.files.values())),
        "tables": msgspec.to_builtins(list(tally.tables.values())),
    }


def last_line(results: dict[str, Any]) -> str:
    """The last line of the log."""
    return (
        f"Migration {results['status'].replace('_', ' ')}: {results['total_records']} records in "
        f"{results['total_duration_seconds']:.1f}s "
        f"({results['average_records_per_second']:.1f} rec/s), {', '.join(counts(results))}"
    )


def summary(status: Status, results: dict[str, Any], output_dir: Path) -> Iterator[str]:
    """The last lines that a run prints, for a terminal."""
    parts = [*counts(results), *times(results)]
    yield from filled(parts, first=f"{status.replace('_', ' ')}: ")
    if rejects := results["rejects"]:
        yield f"rejected: {rejects:,} records, with the reasons in {output_dir / REJECTS}"
    yield f"see {output_dir}{os.sep} for progress, statistics, results and log"


def counts(results: dict[str, Any]) -> Iterator[str]:
    """What became of the records that were read, in parts whose numbers add up to them."""
    yield f"{results['records_read']:,} read"
    yield f"{results['total_records'] - results['updated']:,} written"
    yield f"{results['updated']:,} updated"
    yield f"{results['skipped']:,} skipped"
    if results["suppressed"]:
        yield f"{results['suppressed']:,} suppressed"
    yield f"{results['rejects']:,} rejected"
    for who, by in (("before", "by earlier runs"), ("by_others", "by another migration")):
        numbers = {
            "written": results[f"records_{who}"],
            "skipped or suppressed": results[f"not_written_{who}"],
            "rejected": results[f"rejects_{who}"],
        }
        if any(numbers.values()):
            parts = [f"{number:,} {name}" for name, number in numbers.items() if number]
            yield f"{by} {' and '.join(parts)}"
    if results["records_left"]:
        yield f"{results['records_left']:,} left"


def times(results: dict[str, Any]) -> Iterator[str]:
    """Whether the rows were verified, and how fast the load and the whole command were."""
    if results["verified"] is None:
        yield "not verified"
    elif results["verified"]:
        yield "verified"
    else:
        same = all(table["verified"] for table in results["verification"])
        yield "not all files verified" if same else "rows differ"
    for what, name in (("load", "load"), ("whole command", "wall")):
        seconds = results[f"{name}_seconds"]
        took = f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
        rate = f" ({results[f'{name}_records_per_second']:,.0f} records/s)"
        yield f"{what} {took}{rate if results['total_records'] else ''}"
