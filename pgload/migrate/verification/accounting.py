"""What should have become of a file's records according to the ledger, and which rows are missing.

The ledger has the number of rejected and suppressed records of each batch, not which ones they are.
So as many records of the batch may be without a row. Where the rejects are at hand, they say which:
then no other record may lack its row instead, even if a rejected one has a row of its key or value.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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
    """Consecutive records, usually a batch, of which some may be without a row."""

    first: int
    last: int
    rejected: int = 0
    suppressed: int = 0
    uncommitted: int = 0
    known: int = 0  # of its records: those that the rejects name
    lacking_known: int = 0  # of these
    lacking_others: int = 0
    numbers: list[int] = field(default_factory=list)  # of the others, the first ones

    @property
    def allowed(self) -> int:
        """How many records that no reject names may be without a row."""
        return self.suppressed + max(self.rejected - self.known, 0)

    @property
    def missing(self) -> int:
        return max(self.lacking_others - self.allowed, 0)


class FileAccount:
    """Counts the records of one file that have no row, by the batch that they are in.

    `batches` are those of the ledger, in the order of their first records; None where the file has
    no ledger entry, so that none of its records may be missing. `divided`: a batch may have records
    of another one's range. `rejected` are the numbers of records that are known to be rejected.
    """

    def __init__(
        self,
        file: str,
        records: int,
        batches: Sequence[CommittedBatch] | None,
        rejected: Collection[int] = (),
        *,
        divided: bool = False,
    ) -> None:
        self._file = file
        self._rejected = rejected
        if batches is None:
            self._parts = [_Part(1, records)]
        elif divided:  # the ledger does not know which records are in which batch
            self._parts = [_whole_file(batches, records)]
        else:
            self._parts = _parts(batches, records)
        self._firsts = [part.first for part in self._parts]
        numbers = sorted(rejected)
        for part in self._parts:
            part.known = bisect_right(numbers, part.last) - bisect_left(numbers, part.first)

    def may_lack(self, number: int) -> bool:
        """Whether one more record of the batch may be without a row."""
        part = self._part(number)
        return part.lacking_others < part.allowed

    def is_rejected(self, number: int) -> bool:
        """Whether this record is known to be rejected."""
        return number in self._rejected

    def lacks(self, number: int) -> None:
        """Record number `number` has no row."""
        part = self._part(number)
        if number in self._rejected and part.lacking_known < part.rejected:
            part.lacking_known += 1
            return
        part.lacking_others += 1
        if len(part.numbers) < KEPT:
            part.numbers.append(number)

    @property
    def missing(self) -> int:
        """Records without a row that were not rejected or suppressed."""
        return sum(part.missing for part in self._parts)

    @property
    def assumed_rejected(self) -> int:
        """Records without a row that no reject names, of batches with more rejects than named."""
        return sum(
            max(min(part.lacking_others, part.allowed) - part.suppressed, 0) for part in self._parts
        )

    @property
    def lacking(self) -> int:
        """Records without a row."""
        return sum(part.lacking_known + part.lacking_others for part in self._parts)

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

    Batches that have records of one another's range are not told apart.
    """
    parts: list[_Part] = []
    first = 1  # the first record after the last part
    for batch in batches:
        if batch.first_record < first:
            return [_whole_file(batches, records)]
        if batch.first_record > first:
            parts.append(
                _Part(first, batch.first_record - 1, uncommitted=batch.first_record - first)
            )
        first = batch.first_record + batch.records
        parts.append(_Part(batch.first_record, first - 1, batch.rejected, batch.suppressed))
    if first <= records:
        parts.append(_Part(first, records, uncommitted=records + 1 - first))
    return parts


def _whole_file(batches: Sequence[CommittedBatch], records: int) -> _Part:
    return _Part(
        1,
        records,
        rejected=sum(batch.rejected for batch in batches),
        suppressed=sum(batch.suppressed for batch in batches),
        uncommitted=records - sum(batch.records for batch in batches),
    )
