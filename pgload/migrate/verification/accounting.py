"""What should have become of a file's records according to the ledger, and which rows are missing.

The ledger has the number of rejected and suppressed records of each batch, not which ones they are.
So as many records of the batch may be without a row; where the rejects are at hand, they say which.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from pgload.migrate.ledger.entries import CommittedBatch

KEPT = 12  # numbers of missing records of a batch
SHOWN = 3  # of these, in its line


@dataclass(frozen=True, slots=True)
class DifferingBatch:
    """Records of which rows are missing or changed, or which no run has committed."""

    file: str
    first_record: int
    last_record: int
    uncommitted: int  # of them, according to the ledger; 0 where there is none
    missing: int
    # The first of them by number; more than `missing` where it is unknown which were rejected.
    records: Sequence[int]

    def __str__(self) -> str:
        records = f"{self.file}, records {self.first_record:,}–{self.last_record:,}"
        if self.uncommitted:
            return f"{records}: {self.uncommitted:,} not committed: load them with migrate --resume"
        numbers = ", ".join(map(str, self.records[:SHOWN]))
        more = ", …" if len(self.records) > SHOWN or len(self.records) < self.missing else ""
        which = f"record{'s' if len(self.records) > 1 else ''} {numbers}{more}"
        if len(self.records) > self.missing:
            which = f"among {which}"
        return f"{records}: {self.missing:,} missing or changed: {which}"


@dataclass(slots=True)
class _Part:
    """Consecutive records, usually a batch, of which `allowed` may be without a row."""

    first: int
    last: int
    allowed: int
    uncommitted: int = 0
    lacking: int = 0
    rejected: int = 0  # of the lacking ones: those that the rejects name
    numbers: list[int] = field(default_factory=list)  # of the others, the first ones

    @property
    def missing(self) -> int:
        return max(self.lacking - self.allowed, 0)


class FileAccount:
    """Counts the records of one file that have no row, by the batch that they are in.

    `batches` are those of the ledger, in the order of their first records; None where the file has
    no ledger entry, so that none of its records may be missing. `rejected` are the numbers of
    records that are known to be rejected.
    """

    def __init__(
        self,
        file: str,
        records: int,
        batches: Sequence[CommittedBatch] | None,
        rejected: Collection[int] = (),
    ) -> None:
        self._file = file
        self._rejected = rejected
        if batches is None:
            self._parts = [_Part(1, records, 0)]
        else:
            self._parts = _parts(batches, records)
        self._firsts = [part.first for part in self._parts]

    def may_lack(self, number: int) -> bool:
        """Whether one more record of the batch may be without a row."""
        part = self._part(number)
        return part.lacking < part.allowed

    def is_rejected(self, number: int) -> bool:
        """Whether this record is known to be rejected."""
        return number in self._rejected

    def lacks(self, number: int) -> None:
        """Record number `number` has no row."""
        part = self._part(number)
        part.lacking += 1
        if number in self._rejected and part.rejected < part.allowed:
            part.rejected += 1
        elif len(part.numbers) < KEPT:
            part.numbers.append(number)

    @property
    def missing(self) -> int:
        """Records without a row that were not rejected or suppressed."""
        return sum(part.missing for part in self._parts)

    @property
    def lacking(self) -> int:
        """Records without a row."""
        return sum(part.lacking for part in self._parts)

    def differing(self) -> Iterator[DifferingBatch]:
        """The batches with missing rows, and the records that are not committed."""
        for part in self._parts:
            if part.missing or part.uncommitted:
                yield DifferingBatch(
                    self._file,
                    part.first,
                    part.last,
                    part.uncommitted,
                    part.missing,
                    sorted(part.numbers),
                )

    def _part(self, number: int) -> _Part:
        return self._parts[max(bisect_right(self._firsts, number) - 1, 0)]


def _parts(batches: Sequence[CommittedBatch], records: int) -> list[_Part]:
    """The file in parts: each batch, and what lies between them.

    Where batches have records of one another's range, as records that are divided by their key, the
    whole file is one part: the ledger does not know which records are in which batch.
    """
    parts: list[_Part] = []
    first = 1  # the first record after the last part
    for batch in batches:
        if batch.first_record < first:
            rejects = sum(each.rejected + each.suppressed for each in batches)
            return [_Part(1, records, rejects, records - sum(each.records for each in batches))]
        if batch.first_record > first:
            parts.append(_Part(first, batch.first_record - 1, 0, batch.first_record - first))
        first = batch.first_record + batch.records
        parts.append(_Part(batch.first_record, first - 1, batch.rejected + batch.suppressed))
    if first <= records:
        parts.append(_Part(first, records, 0, records + 1 - first))
    return parts
