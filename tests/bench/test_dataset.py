"""The records of a folder's files, and their batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.bench.dataset import Dataset
from pgload.errors import SourceError, UsageError
from tests.support.loading import write_json


def test_part_of_the_files(tmp_path: Path) -> None:
    """The first records in the order of the files' names; a file without a record is left out."""
    write_json(tmp_path / "a.json", [])
    write_json(tmp_path / "b.json", [{"n": n} for n in range(70)])
    write_json(tmp_path / "c.json", [{"n": n} for n in range(70)])
    dataset = Dataset.read(tmp_path, schema="s", limit=100)
    assert {path.name: len(records) for path, records in dataset.files.items()} == {
        "b.json": 70,
        "c.json": 30,
    }
    assert [path.name for path in dataset.empty_files] == ["a.json"]
    assert {table.schema for table in dataset.tables.values()} == {"s"}
    assert dataset.records == 100
    assert dataset.bytes == sum(len(f'{{"n": {n}}}') for n in (*range(70), *range(30)))


def test_batches(tmp_path: Path) -> None:
    """A batch is of one file, and knows the number of its first record."""
    write_json(tmp_path / "a.json", [{"n": n} for n in range(5)])
    write_json(tmp_path / "b.json", [{"n": n} for n in range(2)])
    batches = [batch for _, batch in Dataset.read(tmp_path, schema="s").batches(4)]
    assert [(each.path.name, each.first_record, len(each.records)) for each in batches] == [
        ("a.json", 1, 4),
        ("a.json", 5, 1),
        ("b.json", 1, 2),
    ]


def test_too_few_records(tmp_path: Path) -> None:
    """More records than there are is a usage error with their number."""
    write_json(tmp_path / "a.json", [{"n": 1}])
    with pytest.raises(UsageError, match=r"--records 2: .* holds 1 records; ask for fewer"):
        Dataset.read(tmp_path, schema="s", limit=2)


def test_no_records(tmp_path: Path) -> None:
    """A folder without a record has nothing to load; a file that is not JSON is named."""
    write_json(tmp_path / "a.json", [])
    with pytest.raises(SourceError, match="holds no record, so there is nothing to load"):
        Dataset.read(tmp_path, schema="s")
    (tmp_path / "b.json").write_text("API quota exceeded")
    with pytest.raises(SourceError, match=r"b\.json: .*'API quota exceeded'"):
        Dataset.read(tmp_path, schema="s")
