"""JSON files → raw records → batches, without holding a file in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Literal

from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.envelopes import (
    NoDataError,
    explain_long_object,
    explain_no_data,
    find_items,
    find_list,
    items_of,
)
from pgload.source.json_stream import (
    Window,
    array_windows,
    broken,
    is_json,
    is_one_record,
    line_windows,
)
from pgload.source.stores import DataFile, Stamp, opened

HEAD_BYTES = 64 << 10  # where an envelope's list of items is looked for
LINE_BYTES = 32 << 20  # where the end of the first line is looked for
BATCH_BYTES = 64 << 20  # of records in a batch, however many may be asked for
LINES_SUFFIXES = (".jsonl", ".ndjson")  # of files with a record on each line
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one file in its order: consecutive ones, unless `selected` has their numbers."""

    path: Path
    first_record: int  # the number of the first record in the file, from 1
    records: Sequence[Raw]
    # Where they were cut out, each window with the number of its first record.
    windows: Sequence[tuple[int, Window]] = field(default=(), repr=False, compare=False)
    selected: Sequence[int] | None = None  # the records' numbers if they are not consecutive
    partition: int | None = None  # batches of the same partition are written in their order

    @property
    def numbers(self) -> Sequence[int]:
        """The records' numbers in the file, ascending."""
        if self.selected is not None:
            return self.selected
        return range(self.first_record, self.first_record + len(self.records))

    def select(self, positions: Sequence[int], partition: int | None = None) -> Batch:
        """The batch's records at these positions, counted from 0 and ascending; at least one."""
        records, numbers = self.records, self.numbers
        chosen = [numbers[at] for at in positions]
        return Batch(
            self.path, chosen[0], [records[at] for at in positions], self.windows, chosen, partition
        )

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in parts of `size` records; the last one may be smaller."""
        numbers = self.numbers
        for at in range(0, len(self.records), size):
            part = numbers[at : at + size]
            yield Batch(
                self.path,
                part[0],
                self.records[at : at + size],
                self.windows,
                None if self.selected is None else part,
                self.partition,
            )

    def offset(self, record: int) -> int | None:
        """As `offsets`, of one record."""
        return self.offsets([record])[record]

    def offsets(self, records: Collection[int]) -> dict[int, int | None]:
        """The byte, counted from 0, at which each record of these numbers begins in the file.

        None for a batch that was not read from a file. Slow: the windows' texts are searched.
        """
        found: dict[int, int | None] = dict.fromkeys(records)
        for first, window in self.windows:
            last = max((n for n in records if n < first + len(window.records)), default=0)
            offsets = enumerate(islice(window.offsets(), max(last - first + 1, 0)), first)
            found |= {number: offset for number, offset in offsets if number in found}
        return found


@dataclass(frozen=True, slots=True)
class Format:
    """What is known of a file's format; the content shows the rest."""

    kind: Literal["lines", "object"] | None = None  # a record on each line, or one in the file
    items: tuple[str, ...] = ()  # the path of the list that holds the records


def read_batches(
    path: Path, batch_size: int, stamp: Stamp | None = None, form: Format | None = None
) -> Iterator[Batch]:
    """The file's records in order, `batch_size` at a time; the last batch may be smaller.

    A batch of long records is smaller too: it ends before it exceeds `BATCH_BYTES`, but has at
    least one record. The boundaries depend on the file's content and the batch size alone.
    Raises `SourceError` as `read_records` does, after the complete batches before the fault.
    """
    first, waiting, windows = 1, list[Raw](), list[tuple[int, Window]]()
    for window in _read(path, stamp, form):
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


def read_records(
    path: Path, stamp: Stamp | None = None, form: Format | None = None
) -> Iterator[list[Raw]]:
    """The file's records in order, as many at a time as fit into a window.

    `form` is the format; without it the suffix .jsonl or .ndjson says that each line is a record,
    and otherwise the content shows it: an array, the API's envelope (`response.body.items`,
    `items`, `items.item`), JSON Lines, or a single object; pretty-printed or compact. A record is
    the file's own text and not checked: it may be something other than an object, not UTF-8, or
    malformed, as long as its end can be found. The caller rejects such records.

    Raises `SourceError`, naming the file, when it is unreadable, empty, broken (with the byte
    counted from 0), an error reply instead of data, changes while it is read, or has changed since
    the `stamp` was taken.
    """
    for window in _read(path, stamp, form):
        yield window.records


def _read(path: Path, stamp: Stamp | None, form: Format | None) -> Iterator[Window]:
    if form is None or form == Format():
        form = Format("lines" if path.suffix.lower() in LINES_SUFFIXES else None)
    try:
        with opened(path, stamp) as data:
            yield from _windows(data, form)
    except RecursionError:
        raise SourceError(
            f"{path.name}: holds values nested too deeply to be read; fix or remove the file"
        ) from None
    except NoDataError as reason:
        raise SourceError(f"{path.name}: {reason}") from None


def _windows(data: DataFile, form: Format) -> Iterator[Window]:
    """The file's windows, in the format that is given or that its content shows."""
    head = data.read(0, HEAD_BYTES)
    bom = len(BOM) if head.startswith(BOM) else 0
    start = len(head) - len(head[bom:].lstrip())
    first = head[start : start + 1]
    if b"\n" not in head[start:] and first in (b"[", b"{"):
        long_head = head if first == b"[" else data.read(0, LINE_BYTES)
    else:
        long_head = head
    if b"\0" in head[:8]:
        raise NoDataError(explain_no_data(head[start:]))
    if first == b"[":
        yield from array_windows(data, start + 1)
    elif _has_lines(data, long_head[start:], len(long_head), form):
        yield from line_windows(data, start)
    elif first != b"{":
        raise NoDataError(explain_no_data(head[start:]))
    elif form.items:
        found = find_list(data.read(start, LINE_BYTES), form.items)
        if found is None:
            items = ".".join(form.items)
            raise NoDataError(f"has no list {items!r}, as tables.toml has it: check its items")
        prefix, decode = found
        yield from array_windows(data, start + len(prefix) + 1, prefix, decode)
    elif form.kind != "object" and (found := find_items(head[start:])):
        prefix, decode = found
        yield from array_windows(data, start + len(prefix) + 1, prefix, decode)
    else:
        yield _document(data, start, head[start:], form)


def _document(data: DataFile, start: int, head: bytes, form: Format) -> Window:
    """The one record of a file that is an object, or the few records of an envelope."""
    is_record = form.kind == "object"
    if not is_record and data.stamp.size > BATCH_BYTES:
        raise explain_long_object(head, data.stamp.size)
    document = data.read(start, data.stamp.size)
    if not is_json(document):
        raise broken(data, document, start)
    return Window([Raw(document)] if is_record else items_of(document), document, start)


def _has_lines(data: DataFile, text: bytes, end: int, form: Format) -> bool:
    """Whether the file is JSON Lines; `text` is its beginning, up to the byte `end`.

    A malformed first line is one too if its end is certain, as it would be further down.
    """
    if form.items or form.kind == "object":
        return False
    first, newline, rest = text.partition(b"\n")
    if not newline and end < data.stamp.size:
        return form.kind == "lines" or _begins_a_second_line(data, end)
    second = rest.lstrip().partition(b"\n")[0]
    if is_json(first):
        return bool(second) or form.kind == "lines"
    if not second.startswith(b"{") or not is_one_record(first):
        return False
    return first.startswith(b"{") or (form.kind == "lines" and is_json(second))


def _begins_a_second_line(data: DataFile, offset: int) -> bool:
    """Whether an object begins on the line after the one that `offset` is in."""
    while piece := data.read(offset, LINE_BYTES):
        at = piece.find(b"\n")
        if at >= 0:
            return data.read(offset + at, HEAD_BYTES).lstrip().startswith(b"{")
        offset += len(piece)
    return False
