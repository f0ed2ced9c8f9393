"""Fingerprints of tables and of the batches that were loaded into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgload.errors import RecordError
from pgload.load.verify import Fingerprint, expected_fingerprint, fingerprint
from pgload.schema.table import Column, Table
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import empty, load, new_table, write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

RECORDS: list[dict[str, Any]] = [{"a": str(n), "b": n} for n in range(10)]
Loaded = Callable[[list[dict[str, Any]]], Fingerprint]


@pytest.fixture
def table(schema: str, connection: Connection) -> Table:
    """An empty table of two columns."""
    columns = (Column("a"), Column("b", "integer"))
    return new_table(Table("t", columns, schema=schema), connection)


@pytest.fixture
def loaded(tmp_path: Path, server: Target, table: Table, connection: Connection) -> Loaded:
    """A function that loads records into the empty table and returns its fingerprint."""

    def load_records(records: list[dict[str, Any]]) -> Fingerprint:
        empty(table, connection)
        load(write_json(tmp_path / "loaded.json", records), table, server)
        return fingerprint(table, connection)

    return load_records


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_expected(
    tmp_path: Path, table: Table, connection: Connection, loaded: Loaded, batch_size: int
) -> None:
    """The expected fingerprint is the table's after the load, whatever the batch size."""
    path = write_json(tmp_path / "x.json", RECORDS)
    expected = expected_fingerprint(table, read_batches(path, batch_size), connection)
    assert expected.rows == 10
    assert loaded(RECORDS) == expected


def test_order(loaded: Loaded) -> None:
    """The order of rows does not matter."""
    assert loaded(RECORDS) == loaded(RECORDS[::-1])


@pytest.mark.parametrize(
    "changed",
    [
        RECORDS[:-1],  # a row too few
        [*RECORDS, RECORDS[0]],  # a row twice
        [*RECORDS[:-1], RECORDS[0]],  # a row twice instead of another
        [*RECORDS[:-1], {"a": "9", "b": None}],  # a lost value
        [*RECORDS[:-1], {"a": "9 ", "b": 9}],  # a changed value
        [*RECORDS[:-2], {"a": "8", "b": 9}, {"a": "9", "b": 8}],  # exchanged values
    ],
)
def test_changes(loaded: Loaded, changed: list[dict[str, Any]]) -> None:
    """A lost, added or changed row is seen."""
    assert loaded(changed) != loaded(RECORDS)


def test_bad_record(tmp_path: Path, table: Table, connection: Connection) -> None:
    """A record that the server cannot turn into a row is named, with the server's reason."""
    path = write_json(tmp_path / "x.json", [*RECORDS[:4], {"a": "not\0fine"}])
    with pytest.raises(RecordError, match=r"^x\.json: record 5 cannot become a row: ") as caught:
        expected_fingerprint(table, read_batches(path, 10), connection)
    assert (caught.value.path, caught.value.record) == (path, 5)
    assert "Unicode escape sequence" in str(caught.value.reason)
    assert str(caught.value).endswith("; fix or remove the record")
