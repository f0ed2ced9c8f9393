"""An interrupted run is resumed from its journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.bench.journal import Journal
from pgload.bench.measure import Pass, Plan
from pgload.bench.target import RoundTrip
from pgload.errors import UsageError


def test_journal(tmp_path: Path) -> None:
    """A run is resumed from the complete lines of its journal."""
    path = tmp_path / "interrupted_GCP.jsonl"
    one = Pass(1, [0.5], [], RoundTrip(0.1, 0.2), checkpoint_between_rounds=True, repeats=3)
    journal = Journal(path, {"records": 600}, resume=False)
    journal.add("test_a", one)
    journal.add_load("GCP", 5000.0)
    journal.add_load("GCP", "too few records")
    with path.open("a") as file:
        file.write('{"test": "test_b"')
    resumed = Journal(path, {"records": 600}, resume=True)
    assert resumed.passes == {("test_a", 1): one}
    assert resumed.passes["test_a", 1].plan == Plan(repeats=3, rounds=1)
    assert resumed.raced == {"GCP": [5000.0, "too few records"]}
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(UsageError, match="the interrupted run had records 600, not 700: use the"):
        Journal(path, {"records": 700}, resume=True)
    resumed.remove()
    assert not path.exists()


@pytest.mark.parametrize("text", [None, "", '{"records": 6'])
def test_no_journal(tmp_path: Path, text: str | None) -> None:
    """Without a complete first line there is nothing to resume."""
    path = tmp_path / "interrupted_GCP.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match="there is no interrupted run of GCP here; omit --resume"):
        Journal(path, {"records": 600}, resume=True)


def test_journal_of_another_version(tmp_path: Path) -> None:
    """Passes that cannot be read are a usage error."""
    path = tmp_path / "interrupted_GCP.jsonl"
    path.write_text('{"records": 600}\n{"test": "test_a", "measured": {}}\n')
    with pytest.raises(UsageError, match=r"cannot be read .*omit --resume"):
        Journal(path, {"records": 600}, resume=True)
