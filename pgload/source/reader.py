"""JSON files → raw records → batches, without holding a file in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Literal

from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.compression import plain_name
from pgload.source.envelopes import (
    Decode,
    NoDataError,
    explain_long_object,
    explain_no_data,
    find_items,
    find_list,
    items_of,
)
from pgload.source.json_stream import (
    MAX_RECORD_BYTES,
    Window,
    array_windows,
    broken,
    is_json,
    line_windows,
    too_long,
)
from pgload.source.salvage import is_one_record
from pgload.source.stores import Source, source_of
from pgload.source.stream import Stream

HEAD_BYTES = 64 << 10  # what shows the format
ITEMS_BYTES = 4 << 20  # where an envelope's list of items is looked for
LINE_BYTES = MAX_RECORD_BYTES  # where the end of the first line is looked for
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
    file: Path | Source, batch_size: int, stamp: Any = None, form: Format | None = None
) -> Iterator[Batch]:
    """The file's records in order, `batch_size` at a time; the last batch may be smaller.

    A batch of long records is smaller too: it ends before it exceeds `BATCH_BYTES`, but has at
    least one record. The boundaries depend on the file's content and the batch size alone.
    Raises `SourceError` as `read_records` does, after the complete batches before the fault.
    """
    path = source_of(file).path
    first, waiting, windows = 1, list[Raw](), list[tuple[int, Window]]()
    for window in _read(file, stamp, form):
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
    file: Path | Source, stamp: Any = None, form: Format | None = None
) -> Iterator[list[Raw]]:
    """The file's records in order, as many at a time as fit into a window.

    `form` is the format; without it the suffix .jsonl or .ndjson says that each line is a record,
    and otherwise the content shows it: an array, the API's envelope (`response.body.items`,
    `items`, `items.item`), JSON Lines, or a single object; pretty-printed or compact. A record is
    the file's own text and not checked: it may be something other than an object, not UTF-8, or
    malformed, as long as its end can be found. The caller rejects such records.

    Raises `SourceError`, naming the file, when it is unreadable, empty, broken (with the byte,
    counted from 0, of the decompressed content), an error reply instead of data, changes while it
    is read, or has changed since the `stamp` was taken.
    """
    for window in _read(file, stamp, form):
        yield window.records


def _read(file: Path | Source, stamp: Any, form: Format | None) -> Iterator[Window]:
    source = source_of(file)
    with source.opened(stamp) as stream:
        yield from read_windows(source, stream, form)


def read_windows(source: Source, stream: Stream, form: Format | None) -> Iterator[Window]:
    """The records as `read_records` gives them, from the source's stream, to its end."""
    name = source.path.name
    if form is None or form == Format():
        lines = plain_name(source.path).lower().endswith(LINES_SUFFIXES)
        form = Format("lines" if lines else None)
    try:
        yield from _windows(stream, form)
    except RecursionError:
        raise SourceError(
            f"{name}: holds values nested too deeply to be read; fix or remove the file"
        ) from None
    except NoDataError as reason:
        raise SourceError(f"{name}: {reason}") from None


def _windows(data: Stream, form: Format) -> Iterator[Window]:
    """The file's windows, in the format that is given or that its content shows."""
    head = bytes(data.ahead(HEAD_BYTES)[:HEAD_BYTES])
    bom = len(BOM) if head.startswith(BOM) else 0
    start = len(head) - len(head[bom:].lstrip())
    if b"\0" in head[:8]:
        raise NoDataError(explain_no_data(head[start:]))
    first = head[start : start + 1]
    data.skip(start)
    head = head[start:]
    if first == b"[":
        data.skip(1)
        yield from array_windows(data)
    elif _has_lines(data, head, form):
        yield from line_windows(data)
    elif first != b"{":
        raise NoDataError(explain_no_data(head))
    elif found := _items(data, head, form):
        prefix, decode = found
        data.skip(len(prefix) + 1)
        yield from array_windows(data, prefix, decode)
    else:
        yield _document(data, form)


def _items(data: Stream, head: bytes, form: Format) -> tuple[bytes, Decode] | None:
    """The text before the list of records in an object, and a decoder; None without a list."""
    if form.kind == "object":
        return None
    if form.items:
        found = find_list(head, form.items) or find_list(_beginning(data), form.items)
        if found is None:
            items = ".".join(form.items)
            raise NoDataError(f"has no list {items!r}, as tables.toml has it: check its items")
        return found
    if found := find_items(head):
        return found
    return find_items(_beginning(data)) if len(head) >= HEAD_BYTES - len(BOM) else None


def _beginning(data: Stream) -> bytes:
    return bytes(data.ahead(ITEMS_BYTES)[:ITEMS_BYTES])


def _document(data: Stream, form: Format) -> Window:
    """The one record of a file that is an object, or the few records of an envelope."""
    is_record, offset = form.kind == "object", data.offset
    document = bytes(data.ahead(MAX_RECORD_BYTES + 1))
    if len(document) > MAX_RECORD_BYTES:
        if is_record:
            raise too_long(data, offset)
        raise explain_long_object(document[:ITEMS_BYTES], MAX_RECORD_BYTES)
    data.skip(len(document))
    if not is_json(document):
        raise broken(data, document, offset)
    return Window([Raw(document)] if is_record else items_of(document), document, offset)


def _has_lines(data: Stream, head: bytes, form: Format) -> bool:
    """Whether the file is JSON Lines; `head` is its beginning.

    A malformed first line is one too if its end is certain, or if the file is named as JSON Lines
    and its second line holds a record, as it would be further down.
    """
    if form.items or form.kind == "object":
        return False
    text: bytes | bytearray = head
    if b"\n" not in head and head[:1] == b"{":
        text, known = data.ahead(len(head)), 0
        while (at := text.find(b"\n", known)) < 0 and len(text) < LINE_BYTES:
            known = len(text)
            text = data.ahead(min(2 * known, LINE_BYTES))
            if len(text) == known:
                break
        if at < 0 and len(text) >= LINE_BYTES:
            return form.kind == "lines"
        if at >= 0:
            text = data.ahead(at + HEAD_BYTES)
    first, _, rest = text.partition(b"\n")
    second = rest.lstrip().partition(b"\n")[0]
    if is_json(first):
        return bool(second) or form.kind == "lines"
    if not second.startswith(b"{"):
        return False
    if form.kind == "lines" and is_json(second):
        return True
    return first.startswith(b"{") and is_one_record(first)
