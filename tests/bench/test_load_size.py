"""A load is long enough to show its setting, by repeating the dataset where that is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.load_size import LoadSize, too_few_records
from pgload.contract import Setting
from tests.support.loading import write_json

EXACT = LoadSize(for_batches=False, for_time=False)  # --records
GIVEN = LoadSize(for_batches=False, for_time=True)  # --data
GENERATED = LoadSize(for_batches=True, for_time=True)


def dataset(folder: Path, *files: int) -> Dataset:
    """A dataset of files with these numbers of records."""
    for number, records in enumerate(files):
        write_json(folder / f"{number}.json", [{"n": n} for n in range(records)])
    return Dataset.read(folder, schema="s")


@pytest.mark.parametrize("size", [EXACT, GIVEN])
def test_ten_batches(tmp_path: Path, size: LoadSize) -> None:
    """Without repetition a setting of fewer batches names the records that it needs."""
    records = dataset(tmp_path, 600)
    assert too_few_records(records, Setting("copy", 30, 2), size) is None
    assert too_few_records(records, Setting("copy", 30, 3), size) == (
        "too few batches (20) for 10 on each of 3 connections; needs 900 records (--records 900)"
    )
    assert too_few_records(records, Setting("copy", 1000, 1), size) == (
        "no file fills a batch of 1000; needs 10,000 records (--records 10000)"
    )


def test_several_files(tmp_path: Path) -> None:
    """A batch that a file's end leaves incomplete does not count."""
    records = dataset(tmp_path, 55, 55)
    assert too_few_records(records, Setting("copy", 5, 2), EXACT) is None
    assert too_few_records(records, Setting("copy", 10, 1), EXACT) is None
    assert too_few_records(records, Setting("copy", 11, 1), EXACT) is None
    assert too_few_records(records, Setting("copy", 6, 2), EXACT) == (
        "too few batches (18) for 10 on each of 2 connections; needs 126 records in its 2 files"
    )
    # As many as it asks for are enough, however they are spread over the files.
    enough = dataset(tmp_path, 65, 61)
    assert too_few_records(enough, Setting("copy", 6, 2), EXACT) is None


def test_repeated_for_batches(tmp_path: Path) -> None:
    """Generated records are repeated until every connection has ten batches."""
    records = dataset(tmp_path, 100)
    setting = Setting("copy", 30, 4)
    assert too_few_records(records, setting, GENERATED) is None
    assert GENERATED.least_repeats(records, setting) == 14  # of 3 whole batches: 42 for 40
    assert GIVEN.least_repeats(records, setting) == 1
    assert too_few_records(records, Setting("copy", 101, 1), GENERATED) == (
        "no file fills a batch of 101; needs 101 records (--records 101)"
    )


def test_repeated_for_time() -> None:
    """A load is repeated until it lasts somewhat more than a second, unless its size is given."""
    assert GIVEN.repeats(least=1, loaded=1, seconds=0.25) == 5
    assert GIVEN.repeats(least=7, loaded=1, seconds=0.25) == 7
    assert GIVEN.repeats(least=1, loaded=10, seconds=0.2) == 55
    assert GIVEN.repeats(least=1, loaded=1, seconds=3.0) == 1
    assert EXACT.repeats(least=1, loaded=1, seconds=0.01) == 1


def test_repeated_for_time_by_trials() -> None:
    """A trial that is too short to tell how long a load takes is repeated ten times as large."""
    trials: list[int] = []

    def load(times: int) -> float:
        trials.append(times)
        return 0.005 * times

    assert GIVEN.repeats_for(load) in (220, 221)
    assert trials == [1, 10, 100]
    assert EXACT.repeats_for(load) == 1
    assert len(trials) == 3
