"""The result of a verification: of each file and table, for the files and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pgload.migrate.verification.accounting import DifferingBatch

SHOWN = 12  # differing batches on the terminal


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """What is in the table of a file's records; the counts are the ledger's.

    Where the ledger has the file, written + updated + skipped + suppressed + rejected +
    uncommitted = read.
    """

    file: str
    table: str
    read: int
    found: int  # records whose row is in the table; of equal ones as many as there are
    written: int  # inserted
    updated: int
    skipped: int
    suppressed: int
    rejected: int
    # Records without a row that were taken for rejected ones, as the output directory has fewer
    # rejects than the ledger counts.
    assumed_rejected: int
    in_ledger: bool
    uncommitted: int  # records that are in no batch of the ledger, if it has the file
    missing: int  # records without a row that were neither rejected nor suppressed
    batches_differing: int
    differing: Sequence[DifferingBatch]  # the first of them


@dataclass(frozen=True, slots=True)
class VerifiedTable:
    """A table and the files that went into it; `verified`: no row is missing unexplained."""

    table: str
    rows: int  # in the table, whoever wrote them
    other_rows: int | None  # that are of no record of these files; None where keys are compared
    doubled: int  # of these: equal to a record, but more often in the table than in the files
    doubled_example: str | None  # the first such record
    checksum: str  # the sum of the rows' hashes, which ignores their order
    by_key: bool  # whether only the keys were compared
    missing: int
    verified: bool
    files: Sequence[VerifiedFile]


def describe(tables: Sequence[VerifiedTable]) -> Iterator[str]:
    """A line for each table, then for each of the first batches that differ."""
    for table in tables:
        read, found = (sum(getattr(f, name) for f in table.files) for name in ("read", "found"))
        parts = []
        for name in ("rejected", "skipped", "updated", "suppressed"):
            if number := sum(getattr(each, name) for each in table.files):
                parts.append(f"{number:,} {name}")
        if table.missing or not table.verified:
            parts.append(f"{table.missing:,} missing or changed")
        if number := sum(each.uncommitted for each in table.files):
            parts.append(f"{number:,} not committed")
        if table.other_rows:
            plural = "s" if table.other_rows > 1 else ""
            parts.append(f"{table.other_rows:,} other row{plural} in the table")
        what = "keys" if table.by_key else "rows"
        counts = f": {', '.join(parts)}" if parts else ""
        yield (
            f"{'verified' if table.verified else 'not verified'}: {table.table} has the {what} of "
            f"{found:,} of {read:,} records{counts}"
        )
        if number := sum(each.assumed_rejected for each in table.files):
            yield (
                f"{table.table}: records without a row that are taken for rejected ones, whose "
                f"rejects are in another --output-dir: {number:,}"
            )
        if table.doubled:
            yield (
                f"{table.table}: other rows that equal a record: {table.doubled:,}, such as of "
                f"{table.doubled_example}: written twice, or there before"
            )
        total = sum(each.batches_differing for each in table.files)
        first = [str(batch) for each in table.files for batch in each.differing][:SHOWN]
        yield from first
        if total > len(first):
            yield f"{table.table}: and {total - len(first):,} more batches"


def to_results(tables: Sequence[VerifiedTable], *, complete: bool) -> dict[str, Any]:
    """The keys of `migration_results.json`; `complete` is whether all files were compared."""
    from msgspec import to_builtins

    return {
        "verified": complete and all(table.verified for table in tables),
        "verification": to_builtins(list(tables)),
    }
