"""The batches that are not committed yet, in their order, and which files are finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from threading import Lock

from pgload.errors import SourceError
from pgload.load.loader import Work
from pgload.load.stats import BatchStat
from pgload.migrate.console import say
from pgload.migrate.ledger.entries import Entry
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import FileFacts
from pgload.migrate.plan import FilePlan
from pgload.migrate.writing.partitions import Partitioning, read_divided


class PendingBatches:
    """Reads the batches of files that `entries` lacks, and reports to `out` when a file is done.

    A file is finished when it has been read to its end and all its batches are written; batches
    are written in no certain order, except for files in `partitionings`.
    """

    def __init__(
        self,
        out: Outputs,
        entries: Mapping[Path, Entry],
        batch_size: int,
        partitionings: Mapping[Path, Partitioning],
    ) -> None:
        self.entries = dict(entries)
        self._partitionings = partitionings
        self.read: dict[Path, int] = {}  # records, of the files that have been read to their end
        self._out = out
        self._batch_size = batch_size
        self._finished: set[str] = set()
        self._lock = Lock()
        # By file: batches that are handed out and not written, and one while it is being read.
        self._open = Counter[str]()
        self._errors: dict[str, str | None] = {}  # of the files that have been read

    def estimate(self, files: Sequence[FilePlan]) -> int:
        """How many batches are to be written; batches of long records make it more."""
        return sum(
            max(ceil(file.scan.records / (size * count)) * count - len(entry.batches), 0)
            for file in files
            for entry in [self.entries[file.path]]
            for size in [self.batch_size(file)]
            for count in [self._partitions(file)]
        )

    def batch_size(self, file: FilePlan) -> int:
        """The batch size that the file was begun with."""
        return self.entries[file.path].batch_size or self._batch_size

    def _partitions(self, file: FilePlan) -> int:
        partitioning = self._partitionings.get(file.path)
        return partitioning.count if partitioning else 1

    def open(self, files: Sequence[FilePlan]) -> Iterator[Work]:
        """The batches; a file that cannot be read is reported, and the next one follows."""
        for file in files:
            name, entry = file.path.name, self.entries[file.path]
            if name not in self._finished:
                self._out.file_started(
                    FileFacts(
                        name,
                        file.table.name,
                        records_before=entry.records,
                        rejected_before=entry.rejected,
                        not_written_before=entry.counts.not_written,
                    )
                )
            self._opened(name)
            error, read = None, 0
            try:
                for batch in read_divided(
                    file.scan.source,
                    self.batch_size(file),
                    self._partitionings.get(file.path),
                    file.scan.stamp,
                    file.scan.form,
                ):
                    if not entry.holds(batch):
                        self._opened(name)
                        yield file.table, batch
                    read += len(batch.records)
                self.read[file.path] = read
            except SourceError as failure:
                error = str(failure)
                self.read.pop(file.path, None)
                say(f"pgload: {error}")
            self._errors[name] = error
            self._closed(name)

    def written(self, stat: BatchStat) -> None:
        """A batch is committed; called by the workers."""
        self._out.batch(stat)
        self._closed(stat.file)

    def _opened(self, name: str) -> None:
        with self._lock:
            self._open[name] += 1

    def _closed(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            finished = not self._open[name] and name not in self._finished
            if finished:
                self._finished.add(name)
        if finished:
            self._out.file_finished(name, self._errors[name])


def in_order(
    files: Sequence[FilePlan], partitionings: Mapping[Path, Partitioning]
) -> Iterator[list[FilePlan]]:
    """Consecutive files that may be written together; one part has to be finished before the next.

    A worker writes the batches of a partition in order, so those of other partitions, and of a
    table that may refer to another one, have to wait.
    """

    def order(file: FilePlan) -> object:
        partitioning = partitionings.get(file.path)
        return partitioning and (partitioning, file.table.schema, file.table.name)

    return (list(part) for _, part in groupby(files, order))
