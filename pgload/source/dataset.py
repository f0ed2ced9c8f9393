"""What a benchmark loads: the records of a folder's files, read before any clock starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import Raw

from pgload.errors import UsageError
from pgload.source.files import Batch, data_files, read_records
from pgload.source.tables import Table, plan_tables, read_mapping


@dataclass(frozen=True)
class Dataset:
    """Records in memory, as raw JSON, by file; and the table of each file."""

    folder: Path
    files: dict[Path, list[Raw]]
    tables: dict[Path, Table]

    @classmethod
    def read(cls, folder: Path, *, schema: str, limit: int | None = None) -> Dataset:
        """The first `limit` records (all, when None) of the folder's files in name order.

        The tables are put into `schema`. Raises `SourceError` for a file that holds no data,
        `UsageError` when there are fewer records than `limit`.
        """
        paths = data_files(folder)
        plan = plan_tables(paths, read_mapping(folder))
        files, left = dict[Path, list[Raw]](), limit
        for path in paths:
            records = [record for window in read_records(path) for record in window]
            files[path] = records[:left]
            left = None if left is None else left - len(files[path])
        found = sum(map(len, files.values()))
        if limit is not None and found < limit:
            raise UsageError(f"--records {limit}: {folder} holds {found:,} records; ask for fewer")
        return cls(folder, files, {p: replace(t, schema=schema) for p, t in plan.items()})

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(map(len, self.files.values()))

    @property
    def bytes(self) -> int:
        """Bytes of the records' JSON text."""
        return sum(len(record) for records in self.files.values() for record in records)

    def batches(self, batch_size: int) -> Iterator[tuple[Table, Batch]]:
        """All batches in the order of files and records; none spans two files."""
        for path, records in self.files.items():
            for at in range(0, len(records), batch_size):
                yield self.tables[path], Batch(path, at + 1, records[at : at + batch_size])
