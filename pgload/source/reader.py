"""JSON files → raw records → batches, without holding a file in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path

from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.envelopes import NoDataError, explain_no_data, find_items, items_of
from pgload.source.json_stream import Window, array_windows, broken, is_json, line_windows
from pgload.source.stores import DataFile, Stamp, opened

HEAD_BYTES = 64 << 10  # where an envelope's list of items is looked for
LINE_BYTES = 32 << 20  # where the end of the first line is looked for
BATCH_BYTES = 64 << 20  # of records in a batch, however many may be asked for
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one file; `first_record` counts from 1."""

    path: Path
    first_record: int
    records: Sequence[Raw]
    # Where they were cut out, each window with the number of its first record.
    windows: Sequence[tuple[int, Window]] = field(default=(), repr=False, compare=False)

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in parts of `size` records; the last one may be smaller."""
        for at in range(0, len(self.records), size):
            records = self.records[at : at + size]
            yield Batch(self.path, self.first_record + at, records, self.windows)

    def offset(self, record: int) -> int | None:
        """The byte, counted from 0, at which the record of that number begins in the file.

        None for a batch that was not read from a file. Slow: the window's text is searched.
        """
        for first, window in self.windows:
            if first <= record < first + len(window.records):
                return next(islice(window.offsets(), record - first, None))
        return None


def read_batches(path: Path, batch_size: int, stamp: Stamp | None = None) -> Iterator[Batch]:
    """The file's records in order, `batch_size` at a time; the last batch may be smaller.

    A batch of long records is smaller too: it ends before it exceeds `BATCH_BYTES`, but has at
    least one record. The boundaries depend on the file's content and the batch size alone.
    Raises `SourceError` as `read_records` does, after the complete batches before the fault.
    """
    first, waiting, windows = 1, list[Raw](), list[tuple[int, Window]]()
    for window in _read(path, stamp):
        windows.append((first + len(waiting), window))
        waiting += window.records
        at = 0
        while size := _batch_length(waiting, at, batch_size):
            yield Batch(path, first + at, waiting[at : at + size], tuple(windows))
            at += size
            while windows and windows[0][0] + len(windows[0][1].records) <= first + at:
                del windows[0]
        first, waiting = first + at, waiting[at:]
    if waiting:
        yield Batch(path, first, waiting, tuple(windows))


def _batch_length(records: Sequence[Raw], at: int, batch_size: int) -> int:
    """How many records from `at` on make a batch; 0 when more have to be read first."""
    sizes = list(accumulate(map(len, records[at : at + batch_size])))
    fitting = bisect_right(sizes, BATCH_BYTES)
    if fitting < len(sizes):
        return max(fitting, 1)
    return batch_size if len(sizes) == batch_size else 0


def read_records(path: Path, stamp: Stamp | None = None) -> Iterator[list[Raw]]:
    """The file's records in order, as many at a time as fit into a window.

    The format is recognised by the content: an array, the API's envelope (`response.body.items`,
    `items`, `items.item`), JSON Lines, or a single object; pretty-printed or compact. A record is
    the file's own text and not checked: it may be something other than an object, not UTF-8, or
    malformed, as long as its end can be found. The caller rejects such records.

    Raises `SourceError`, naming the file, when it is unreadable, empty, broken (with the byte
    counted from 0), an error reply instead of data, changes while it is read, or has changed since
    the `stamp` was taken.
    """
    for window in _read(path, stamp):
        yield window.records


def _read(path: Path, stamp: Stamp | None) -> Iterator[Window]:
    try:
        with opened(path, stamp) as data:
            yield from _windows(data)
    except RecursionError:
        raise SourceError(
            f"{path.name}: holds values nested too deeply to be read; fix or remove the file"
        ) from None
    except NoDataError as reason:
        raise SourceError(f"{path.name}: {reason}") from None


def _windows(data: DataFile) -> Iterator[Window]:
    """The file's windows, read in the format that its content shows."""
    head = data.read(0, HEAD_BYTES)
    bom = len(BOM) if head.startswith(BOM) else 0
    start = len(head) - len(head[bom:].lstrip())
    first = head[start : start + 1]
    if first not in (b"[", b"{") or b"\0" in head[:8]:
        raise NoDataError(explain_no_data(head[start:]))
    if first == b"[":
        yield from array_windows(data, start + 1)
        return
    if b"\n" not in head[start:]:
        head = data.read(0, LINE_BYTES)
    first_line, newline, rest = head[start:].partition(b"\n")
    if newline and rest.strip() and is_json(first_line):
        yield from line_windows(data, start)
        return
    items = find_items(head[start : start + HEAD_BYTES])
    if items is not None:
        prefix, decode = items
        yield from array_windows(data, start + len(prefix) + 1, prefix, decode)
        return
    document = data.read(start, data.stamp.size)
    if is_json(document):
        yield Window(items_of(document), document, start)
    elif b"\n" in document.strip() and is_json(document.partition(b"\n")[0]):
        yield from line_windows(data, start)  # the first line is longer than LINE_BYTES
    else:
        raise broken(data, document, start)
