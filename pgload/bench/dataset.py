"""What a benchmark loads: the records of files, read before the clock starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import Raw

from pgload.errors import SourceError, UsageError
from pgload.schema.mapping import format_for, plan_tables, read_mapping
from pgload.schema.table import Table
from pgload.source.reader import Batch, Format, read_records
from pgload.source.stores import Source, find, without_secrets


@dataclass(frozen=True)
class Dataset:
    """Records as raw JSON in memory, by file, and the table of each file."""

    place: str
    files: dict[Path, list[Raw]]
    tables: dict[Path, Table]
    empty_files: tuple[Path, ...]  # without a record that has a field; not in `files`

    @classmethod
    def read(cls, data: str | Path, *, schema: str, limit: int | None = None) -> Dataset:
        """The first `limit` records (all, when None) of the files at a place, in name order.

        `data` is a folder, a file, a glob, `-` or a URL, as for `pgload.source.stores.find`.

        The tables are in `schema`. Raises `SourceError` for a file that holds no data or
        when none holds a record, `UsageError` when there are fewer records than `limit`.
        """
        there, place = find(data), without_secrets(data)
        read, left, rules = dict[Path, list[Raw]](), limit, read_mapping(there.folder)
        for source in there.sources:
            if left == 0:
                break
            path = source.path
            read[path] = _first_records(source, left, format_for(path, rules))
            left = None if left is None else left - len(read[path])
        if left:
            found = sum(map(len, read.values()))
            raise UsageError(f"--records {limit}: {place} holds {found:,} records; ask for fewer")
        plan = plan_tables(read, rules)
        if not plan:
            raise SourceError(f"{place} holds no record, so there is nothing to load")
        files = {path: records for path, records in read.items() if path in plan and records}
        tables = {path: replace(plan[path], schema=schema) for path in files}
        return cls(place, files, tables, tuple(path for path in read if path not in files))

    @property
    def records(self) -> int:
        """The number of records."""
        return sum(map(len, self.files.values()))

    @property
    def bytes(self) -> int:
        """Bytes of the records' JSON text."""
        return sum(len(record) for records in self.files.values() for record in records)

    def batches(self, batch_size: int, repeats: int = 1) -> Iterator[tuple[Table, Batch]]:
        """All batches in the order of files and records, `repeats` times; none spans two files."""
        for _ in range(repeats):
            for path, records in self.files.items():
                for at in range(0, len(records), batch_size):
                    yield self.tables[path], Batch(path, at + 1, records[at : at + batch_size])

    def whole_batches(self, batch_size: int) -> int:
        """The number of batches that are as large as they should be."""
        return sum(len(records) // batch_size for records in self.files.values())


def _first_records(source: Source, limit: int | None, form: Format | None) -> list[Raw]:
    records: list[Raw] = []
    for window in read_records(source, form=form):
        records += window
        if limit is not None and len(records) >= limit:
            break
    return records[:limit]
