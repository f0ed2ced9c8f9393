"""JSON files → raw records → batches, without holding a file in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.folder import DataFile, Stamp, opened
from pgload.source.replies import NoDataError, explain_no_data, find_items, items_of
from pgload.source.windows import Window, array_windows, broken, is_json, line_windows

HEAD_BYTES = 64 << 10  # where an envelope's list of items is looked for
LINE_BYTES = 32 << 20  # where the end of the first line is looked for
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one file; `first_record` counts from 1."""

    path: Path
    first_record: int
    records: Sequence[Raw]

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in pieces of `size` records; the last one may be smaller."""
        for at in range(0, len(self.records), size):
            yield Batch(self.path, self.first_record + at, self.records[at : at + size])


def read_batches(path: Path, batch_size: int, stamp: Stamp | None = None) -> Iterator[Batch]:
    """The file's records in order, `batch_size` at a time; the last batch may be smaller.

    Raises `SourceError` as `read_records` does, after the whole batches before the fault.
    """
    first, waiting = 1, list[Raw]()
    for records in read_records(path, stamp):
        waiting += records
        whole = len(waiting) - len(waiting) % batch_size
        for at in range(0, whole, batch_size):
            yield Batch(path, first + at, waiting[at : at + batch_size])
        first, waiting = first + whole, waiting[whole:]
    if waiting:
        yield Batch(path, first, waiting)


def read_records(path: Path, stamp: Stamp | None = None) -> Iterator[list[Raw]]:
    """The file's records in order, as many at a time as fit into a window.

    Takes an array, the API's envelope (`response.body.items`, `items`, `items.item`), JSON Lines,
    or a single object; pretty-printed or compact; under any file name. A record is the text that
    stands in the file: it may be no object, hold bytes that are no UTF-8, or not even parse where
    its end is plain all the same, and then it is for its reader to refuse it.

    Raises `SourceError`, naming the file, for one that is unreadable, empty, broken (with the byte
    counted from 0), an error reply instead of data, that changes while it is read, or is not the
    one any more that the `stamp` was taken of.
    """
    for window in _read(path, stamp):
        yield window.records


def record_offsets(
    path: Path, numbers: Iterable[int], stamp: Stamp | None = None
) -> dict[int, int]:
    """The byte, counted from 0, at which each of the records of these numbers begins.

    Reads the file once, up to the last of them. Raises `SourceError` as `read_records` does.
    """
    wanted, found, before = set(numbers), dict[int, int](), 0
    windows = _read(path, stamp)
    while len(found) < len(wanted) and (window := next(windows, None)):
        within = {number for number in wanted if 0 < number - before <= len(window.records)}
        if within:
            numbered = enumerate(window.offsets(), before + 1)
            found |= {number: offset for number, offset in numbered if number in within}
        before += len(window.records)
    return found


def _read(path: Path, stamp: Stamp | None) -> Iterator[Window]:
    try:
        with opened(path, stamp) as data:
            yield from _windows(data)
    except RecursionError:
        raise SourceError(f"{path.name}: holds values nested too deeply to be read") from None
    except NoDataError as reason:
        raise SourceError(f"{path.name}: {reason}") from None


def _windows(data: DataFile) -> Iterator[Window]:
    head = data.read(0, HEAD_BYTES)
    bom = len(BOM) if head.startswith(BOM) else 0
    start = len(head) - len(head[bom:].lstrip())
    begin = head[start : start + 1]
    if begin not in (b"[", b"{") or b"\0" in head[:8]:
        raise NoDataError(explain_no_data(head[start:]))
    if begin == b"[":
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
