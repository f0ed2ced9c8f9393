"""What the ledger records of a file: whether it holds a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Raw

from pgload.errors import SourceError
from pgload.migrate.ledger.entries import EMPTY, Entry
from pgload.source.reader import Batch


def batch(first: int, records: int) -> Batch:
    return Batch(Path("a.json"), first, [Raw(b"{}")] * records)


def test_entry() -> None:
    """A batch is committed if its entry has the same records; in part is an error."""
    entry = Entry(batch_size=10, batches={1: 10, 21: 5}, starts=[1, 21], records=15, rejected=0)
    assert [entry.holds(batch(first, 10)) for first in (1, 11, 26)] == [True, False, False]
    assert entry.holds(batch(21, 5))
    assert not EMPTY.holds(batch(1, 10))
    for first, records in ((1, 5), (5, 2), (11, 11), (21, 10), (23, 10)):
        with pytest.raises(SourceError, match=r"^a.json: .* committed in part"):
            entry.holds(batch(first, records))


def test_entry_of_selected_records() -> None:
    """A batch of selected records is committed by its first one; others may lie between them."""
    entry = Entry(batch_size=3, batches={1: 3, 2: 2, 9: 1}, starts=[1, 2, 9], records=6, rejected=0)
    whole = batch(1, 10)
    assert entry.holds(whole.select([0, 3, 6]))
    assert entry.holds(whole.select([1, 4]))
    assert not entry.holds(whole.select([2, 5]))
    for positions in ([0, 3], [1, 4, 7], [2, 8], [0, 1, 2]):
        with pytest.raises(SourceError, match=r"^a.json: .* committed in part"):
            entry.holds(whole.select(positions))
