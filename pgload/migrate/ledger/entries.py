"""What the ledger records: of a file, and of each batch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pgload.errors import SourceError
from pgload.migrate.counts import NONE, RowCounts
from pgload.schema.table import Table
from pgload.source.reader import Batch


class LedgerFile(NamedTuple):
    """A file as the ledger knows it."""

    content: str  # SHA-256
    name: str
    table: Table

    @property
    def key(self) -> FileKey:
        return self.content, self.table


FileKey = tuple[str, Table]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger records of a file and its table."""

    batch_size: int  # that the file is cut by; 0: none is recorded
    batches: Mapping[int, int]  # first record → records, of the committed batches
    starts: Sequence[int]  # their first records, sorted
    records: int  # committed: inserted or updated
    rejected: int
    counts: RowCounts = NONE
    storage: str = ""  # of the table when the file was last begun
    writers: Sequence[int] = ()  # the keys of the runs that have begun the file
    partitions: str = ""  # how the file's records are divided, if they are

    def holds(self, batch: Batch) -> bool:
        """Whether the batch is committed.

        Raises `SourceError` for a batch that is committed in part: the file was cut differently,
        by another version of pgload, and writing the batch would write that part twice.
        """
        first, last = batch.first_record, batch.numbers[-1]
        at = bisect_left(self.starts, first)
        within = list(self.starts[at : bisect_left(self.starts, last + 1)])
        before = self.starts[at - 1] if at else 0
        overlaps = before > 0 and before + self.batches[before] > first
        if batch.selected is not None:  # records of other batches are among them
            within, overlaps = [n for n in batch.selected if n in self.batches], False
        if within == [first] and self.batches[first] == len(batch.records):
            return True
        if within or overlaps:
            raise SourceError(
                f"{batch.path.name}: records {first} to {last} are committed in part, in "
                "batches that another version of pgload cut: resume with that version"
            )
        return False


EMPTY = Entry(batch_size=0, batches={}, starts=(), records=0, rejected=0)


class BatchKey(NamedTuple):
    """Which row of the ledger is a batch's, and the run that writes it."""

    file: str
    table: str
    first_record: int
    run: str


class CommittedBatch(NamedTuple):
    """A batch as the ledger records it."""

    first_record: int
    records: int  # whatever became of them
    rejected: int
    suppressed: int


class Share(NamedTuple):
    """What became of the records of a file that were committed."""

    records: int = 0  # inserted or updated
    rejected: int = 0
    counts: RowCounts = NONE


class Written(NamedTuple):
    """Who has committed what of a file: this run, and other ones."""

    mine: Share = Share()
    others: Share = Share()

    def others_since(self, before: Entry) -> Share:
        """What others have committed since the entry was read."""
        return Share(
            max(self.others.records - before.records, 0),
            max(self.others.rejected - before.rejected, 0),
            RowCounts(
                *(max(a - b, 0) for a, b in zip(self.others.counts, before.counts, strict=True))
            ),
        )


class Begun(NamedTuple):
    """A file that this run has begun."""

    entry: Entry
    shared: bool  # whether another run writes it as well, or may do so
    certain: bool  # whether that run is known to be alive
