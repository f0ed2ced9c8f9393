"""Records without a row, by the ledger's batches."""

from __future__ import annotations

from pgload.migrate.ledger.entries import CommittedBatch
from pgload.migrate.verification.accounting import FileAccount


def account(*batches: tuple[int, int, int], records: int = 30) -> FileAccount:
    """Of a file; a batch has its first record, records, and rejects."""
    return FileAccount("f.json", records, [CommittedBatch(*each, 0) for each in batches])


def lines(found: FileAccount) -> list[str]:
    return [str(batch) for batch in found.differing()]


def test_as_many_as_were_rejected() -> None:
    """A batch may lack as many rows as it has rejects, and no other batch instead."""
    found = account((1, 10, 1), (11, 10, 0), (21, 10, 0))
    found.lacks(7)
    assert lines(found) == []
    found.lacks(25)
    assert lines(found) == ["f.json, records 21–30: 1 missing or changed: record 25"]
    found.lacks(9)
    assert lines(found)[0] == "f.json, records 1–10: 1 missing or changed: among records 7, 9"
    assert (found.missing, found.lacking) == (2, 3)


def test_known_rejects() -> None:
    """Where the rejected records are known, the missing ones are, too."""
    found = FileAccount("f.json", 10, [CommittedBatch(1, 10, 1, 0)], {4})
    for number in (2, 4):
        found.lacks(number)
    assert lines(found) == ["f.json, records 1–10: 1 missing or changed: record 2"]


def test_known_rejects_that_have_a_row() -> None:
    """No record may lack its row instead of a rejected one whose value or key is in the table."""
    found = FileAccount("f.json", 10, [CommittedBatch(1, 10, 2, 1)], {4})
    assert found.may_lack(2)  # one more was rejected, one suppressed
    for number in (2, 3, 5):
        found.lacks(number)
    assert not found.may_lack(6)
    assert (found.missing, found.lacking, found.assumed_rejected) == (1, 3, 1)


def test_divided() -> None:
    """In a file that was divided a batch does not tell which records it has."""
    batches = [CommittedBatch(2, 3, 1, 0)]  # 2, 4 and 6
    found = FileAccount("f.json", 6, batches, divided=True)
    found.lacks(3)
    assert lines(found) == ["f.json, records 1–6: 3 not committed: load them with migrate --resume"]


def test_many_records() -> None:
    """The first numbers are named, and all are counted."""
    found = FileAccount("f.json", 1000, None)
    for number in range(1, 1001):
        found.lacks(number)
    assert lines(found) == ["f.json, records 1–1,000: 1,000 missing or changed: records 1, 2, 3, …"]


def test_between_batches() -> None:
    """Records in no batch are not committed."""
    found = account((1, 10, 0), (16, 5, 0))
    assert lines(found) == [
        "f.json, records 11–15: 5 not committed: load them with migrate --resume",
        "f.json, records 21–30: 10 not committed: load them with migrate --resume",
    ]


def test_batches_that_share_a_range() -> None:
    """Of records that are divided by their key the ledger does not know the numbers."""
    found = account((1, 12, 1), (2, 3, 0), (4, 15, 1))
    found.lacks(20)
    found.lacks(3)
    assert lines(found) == []
    found.lacks(5)
    assert lines(found) == ["f.json, records 1–30: 1 missing or changed: among records 3, 5, 20"]
    assert lines(account((1, 12, 1), (2, 3, 0))) == [
        "f.json, records 1–30: 15 not committed: load them with migrate --resume"
    ]
