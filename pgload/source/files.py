"""JSON files → raw records → batches, a window at a time.

A record is cut out of its file as bytes (`msgspec.Raw`), not turned into Python objects. A window
is read into memory of its own instead of being mapped: a mapped file that shrinks while it is read
ends the process with SIGBUS. What stays in memory is the windows whose records are in use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import msgspec
from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.replies import NoDataError, check_reply, explain_no_data, find_items, items_of

WINDOW_BYTES = 4 << 20
HEAD_BYTES = 64 << 10  # where an envelope's list of items is looked for
LINE_BYTES = 16 << 20  # where the end of the first line is looked for
SUFFIXES = (".json", ".jsonl", ".ndjson")

_lines = msgspec.json.Decoder(Raw)
_array = msgspec.json.Decoder(list[Raw])
_BETWEEN_RECORDS = re.compile(rb"\}\s*,\s*(?=\{)")
_ERROR_BYTE = re.compile(r" \(byte (\d+)\)$")


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


def data_files(folder: Path) -> list[Path]:
    """The JSON files directly in `folder`, in name order.

    Raises `SourceError` when there are none.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: name one that holds JSON files")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SourceError(f"{folder} holds no file that ends in {', '.join(SUFFIXES)}")
    return files


def read_batches(path: Path, batch_size: int) -> Iterator[Batch]:
    """The file's records in order, `batch_size` at a time; the last batch may be smaller.

    Raises `SourceError` as `read_records` does, after the batches before the fault.
    """
    first, waiting = 1, list[Raw]()
    for records in read_records(path):
        waiting += records
        whole = len(waiting) - len(waiting) % batch_size
        for at in range(0, whole, batch_size):
            yield Batch(path, first + at, waiting[at : at + batch_size])
        first, waiting = first + whole, waiting[whole:]
    if waiting:
        yield Batch(path, first, waiting)


def read_records(path: Path) -> Iterator[list[Raw]]:
    """The file's records in order, as many at a time as fit into a window.

    Takes an array, the API's envelope (`response.body.items`, `items`, `items.item`), JSON Lines,
    or a single object; pretty-printed or compact; under any file name.
    Raises `SourceError`, naming the file, for one that is unreadable, empty, broken (with the byte
    counted from 0) or an error reply instead of data.
    """
    try:
        with path.open("rb", buffering=0) as file:
            yield from _read(path, file)
    except OSError as error:
        raise SourceError(f"{path.name}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise SourceError(f"{path.name}: holds values nested too deeply to be read") from None
    except NoDataError as reason:
        raise SourceError(f"{path.name}: {reason}") from None


def _read(path: Path, file: FileIO) -> Iterator[list[Raw]]:
    head = file.read(HEAD_BYTES) or b""
    bom = len(b"\xef\xbb\xbf") if head.startswith(b"\xef\xbb\xbf") else 0
    start = len(head) - len(head[bom:].lstrip())
    if head[start : start + 1] == b"[":
        yield from _read_array(path, file, start + 1, b"", _array.decode)
        return
    if head[start : start + 1] != b"{":
        raise NoDataError(explain_no_data(head[start:]))
    if b"\n" not in head[start:]:
        head += file.read(LINE_BYTES) or b""
    first_line, newline, rest = head[start:].partition(b"\n")
    if newline and rest.strip() and _is_json(first_line):
        yield from _read_lines(path, file, start)
        return
    items = find_items(head[start : start + HEAD_BYTES])
    if items is not None:
        prefix, decode = items
        yield from _read_array(path, file, start + len(prefix) + 1, prefix, decode)
        return
    file.seek(start)
    document = file.readall() or b""
    if _is_json(document):
        yield items_of(document)
    elif b"\n" in document.strip() and _is_json(document.partition(b"\n")[0]):
        yield from _read_lines(path, file, start)  # the first line is longer than the head
    else:
        raise _broken(path, document, start)


def _read_array(
    path: Path, file: FileIO, offset: int, prefix: bytes, decode: Callable[[bytes], list[Raw]]
) -> Iterator[list[Raw]]:
    """The records of the array whose `[` stands before `offset`.

    `prefix` is what stands before that bracket; `decode` gets the list out of the whole document.
    """
    window, first = WINDOW_BYTES, offset
    while True:
        # One byte more on each side: the records between two cuts become an array in place.
        buffer = bytearray(window + 2)
        end = 1 + _fill(file, offset, memoryview(buffer)[1:-1])
        if end <= window:  # the file's end
            text = b"".join((prefix, b"[", memoryview(buffer)[1:end]))
            try:
                last = decode(text)
            except msgspec.DecodeError as error:
                at = offset - 1 - len(prefix)
                raise _broken(path, text, at, error) from None
            if prefix and not last and offset == first:
                check_reply(text)  # an error may be told behind an empty list
            yield last
            return
        buffer[0] = ord("[")
        cut = _cut(path, buffer, end, offset)
        if cut is None:
            window *= 2
            continue
        records, used = cut
        yield records
        offset += used
        window = WINDOW_BYTES


def _cut(path: Path, buffer: bytearray, end: int, offset: int) -> tuple[list[Raw], int] | None:
    """The whole records in `buffer[1:end]` and how many bytes they take up.

    A cut between two records looks like `}, {`, which nested objects and strings can hold as well.
    So a cut is tried and is right exactly when what stands before it parses; the last one nearly
    always is, and the last one with balanced brackets is the second guess. None: neither was.
    """
    for position, after in _possible_cuts(buffer, end):
        hidden, buffer[position] = buffer[position], ord("]")
        try:
            return _array.decode(memoryview(buffer)[: position + 1]), after - 1
        except msgspec.DecodeError as error:
            buffer[position] = hidden
            byte = _ERROR_BYTE.search(str(error))
            if byte and int(byte[1]) < position:  # wrong wherever it is cut
                raise _broken(path, buffer, offset - 1, error) from None
    return None


def _possible_cuts(buffer: bytearray, end: int) -> Iterator[tuple[int, int]]:
    """At most two places: (the byte after a record, the first byte of the next record)."""
    last = next(_places_like_a_cut(buffer, end), None)
    if last is None:
        return
    yield last
    # Counting brackets takes longer than parsing, so it is only done when the first guess failed.
    checked, depth = end, _depth(buffer, 1, end)
    for position, after in _places_like_a_cut(buffer, end):
        depth -= _depth(buffer, position, checked)
        checked = position
        if depth == 0:
            if (position, after) != last:
                yield position, after
            return


def _places_like_a_cut(buffer: bytearray, end: int) -> Iterator[tuple[int, int]]:
    """From the end: wherever an object's end is followed by a comma and an object's beginning."""
    position = end
    while (position := buffer.rfind(b"}", 1, position)) > 0:
        if between := _BETWEEN_RECORDS.match(buffer, position, end):
            yield position + 1, between.end()


def _depth(buffer: bytearray, start: int, end: int) -> int:
    def count(char: bytes) -> int:
        return buffer.count(char, start, end)

    return count(b"{") + count(b"[") - count(b"}") - count(b"]")


def _read_lines(path: Path, file: FileIO, offset: int) -> Iterator[list[Raw]]:
    window = WINDOW_BYTES
    while True:
        buffer = bytearray(window)
        end = _fill(file, offset, memoryview(buffer))
        used = end if end < window else buffer.rfind(b"\n") + 1
        if end == 0:
            return
        if used == 0:
            window *= 2
            continue
        view = memoryview(buffer)[:used]
        try:
            yield _lines.decode_lines(view)
        except msgspec.DecodeError:
            at = offset
            for line in bytes(view).splitlines(keepends=True):
                if line.strip() and not _is_json(line):
                    raise _broken(path, line, at) from None
                at += len(line)
            raise
        offset += used
        window = WINDOW_BYTES


def _fill(file: FileIO, offset: int, view: memoryview) -> int:
    """Read from `offset` until `view` is full or the file ends; gives the number of bytes."""
    file.seek(offset)
    filled = 0
    while filled < len(view) and (got := file.readinto(view[filled:])):
        filled += got
    return filled


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=Raw)
    except msgspec.DecodeError:
        return False
    return True


def _broken(
    path: Path, text: bytes | bytearray, offset: int, error: msgspec.DecodeError | None = None
) -> SourceError:
    """The error for `text`, which stands at byte `offset` of the file and does not parse."""
    try:
        if error is None:
            msgspec.json.decode(text, type=Raw)
    except msgspec.DecodeError as found:
        error = found
    said = str(error)
    byte = _ERROR_BYTE.search(said)
    at = offset + (int(byte[1]) if byte else len(text))
    reason = _ERROR_BYTE.sub("", said).removeprefix("JSON is malformed: ")
    if reason == "trailing characters":
        at, reason = at - 1, "something follows the end of the document"  # msgspec counts it in
    elif reason == "Input data was truncated":
        reason = "the file ends too early"
    return SourceError(
        f"{path.name}: broken JSON at byte {at:,}: {reason}; mend or remove the file"
    )
