"""An array's or JSON Lines' records, as many at a time as fit into a window of the file.

A record is cut out as bytes (`msgspec.Raw`), not turned into Python objects. A window is read into
memory of its own instead of being mapped: a mapped file that shrinks while it is read ends the
process with SIGBUS. What stays in memory is the windows whose records are in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.envelopes import Decode, check_reply
from pgload.source.stores import DataFile

WINDOW_BYTES = 4 << 20
SALVAGE_BYTES = 64 << 20  # the longest stretch in which a broken record's end is looked for

_lines = msgspec.json.Decoder(Raw)
_array = msgspec.json.Decoder(list[Raw])
_BETWEEN_RECORDS = re.compile(rb"\}\s*,\s*(?=\{)")
_ERROR_BYTE = re.compile(r" \(byte (\d+)\)$")
_NOT_A_NUMBER = re.compile(rb"-?(NaN|Infinity|nan|inf)")

decode_array = _array.decode


class Window(NamedTuple):
    """Consecutive records of a file, and the text that they stand in, one after the other."""

    records: list[Raw]
    text: bytes | bytearray
    offset: int  # of the text's first byte in the file

    def offsets(self) -> Iterator[int]:
        """The byte of the file at which each record begins."""
        at = 0
        for record in self.records:
            at = self.text.index(bytes(record), at)
            yield self.offset + at
            at += len(record)


def array_windows(
    data: DataFile, offset: int, prefix: bytes = b"", decode: Decode = decode_array
) -> Iterator[Window]:
    """The records of the array whose `[` stands before `offset`.

    `prefix` is what stands before that bracket; `decode` gets the list out of the whole document.
    Records that do not parse come as they are, where the end of each is plain.
    Raises `SourceError` for an array that is broken otherwise.
    """
    size, first = WINDOW_BYTES, offset
    while True:
        # One byte more on each side: the records between two cuts become an array in place.
        buffer = bytearray(size + 2)
        end = 1 + data.fill(offset, memoryview(buffer)[1:-1])
        buffer[0] = ord("[")
        at_end = end <= size
        try:
            if at_end:
                text = b"".join((prefix, memoryview(buffer)[:end]))
                records, used = decode(text), end - 1
                if prefix and not records and offset == first:
                    check_reply(text)  # an error may be told behind an empty list
            elif cut := _cut(buffer, end):
                records, used = cut
            else:
                size *= 2
                continue
        except msgspec.DecodeError as error:
            saved = _salvaged(buffer, end, prefix, at_end=at_end)
            if saved is None:
                if not at_end and size < SALVAGE_BYTES:
                    size *= 2
                    continue
                if at_end:
                    raise broken(data, text, offset - 1 - len(prefix), error) from None
                raise broken(data, buffer, offset - 1, error) from None
            records, used, at_end = saved
        if records:
            yield Window(records, buffer, offset - 1)
        if at_end:
            return
        offset += used
        size = WINDOW_BYTES


def _cut(buffer: bytearray, end: int) -> tuple[list[Raw], int] | None:
    """The whole records in `buffer[1:end]` and how many bytes they take up.

    A cut between two records looks like `}, {`, which nested objects and strings can hold as well.
    So a cut is tried and is right exactly when what stands before it parses; the last one nearly
    always is, and the last one with balanced brackets is the second guess. None: neither was.
    Raises msgspec's error for text that would be wrong wherever it is cut.
    """
    for position, after in _possible_cuts(buffer, end):
        hidden, buffer[position] = buffer[position], ord("]")
        try:
            return _array.decode(memoryview(buffer)[: position + 1]), after - 1
        except msgspec.DecodeError as error:
            buffer[position] = hidden
            byte = _ERROR_BYTE.search(str(error))
            if byte and int(byte[1]) < position:
                raise
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


def _salvaged(
    buffer: bytearray, end: int, prefix: bytes, *, at_end: bool
) -> tuple[list[Raw], int, bool] | None:
    """Records, bytes used, and whether the array ended; None where nothing is plain."""
    saved = salvage(bytes(memoryview(buffer)[1:end]))
    if saved is None or (at_end and not saved.ended):
        return None
    if saved.ended:
        tail = bytes(memoryview(buffer)[1 + saved.used : end])
        if not at_end or not is_json(prefix + b"[]" + tail):
            return None
    return saved.records, saved.used, saved.ended


def line_windows(data: DataFile, offset: int) -> Iterator[Window]:
    """The records of JSON Lines from `offset` on; one that does not parse comes as it is.

    Raises `SourceError` for a line that is not plainly one record.
    """
    size = WINDOW_BYTES
    while True:
        buffer = bytearray(size)
        end = data.fill(offset, memoryview(buffer))
        used = end if end < size else buffer.rfind(b"\n") + 1
        if end == 0:
            return
        if used == 0:
            size *= 2
            continue
        text = memoryview(buffer)[:used]
        try:
            records = _lines.decode_lines(text)
        except (msgspec.DecodeError, RecursionError):
            records = list(_one_by_one(data, bytes(text), offset))
        if records:
            yield Window(records, buffer, offset)
        offset += used
        size = WINDOW_BYTES


def _one_by_one(data: DataFile, text: bytes, offset: int) -> Iterator[Raw]:
    for line in re.findall(rb"[^\n]*\n|[^\n]+", text):
        try:
            yield from _lines.decode_lines(line)
        except (msgspec.DecodeError, RecursionError) as error:
            saved = salvage(line + b"]")
            if saved is None or not saved.ended or len(saved.records) != 1:
                # Cut off, or a piece of a record that goes on over several lines.
                said = error if isinstance(error, msgspec.DecodeError) else None
                raise broken(data, line, offset, said) from None
            yield saved.records[0]
        offset += len(line)


def is_json(text: bytes) -> bool:
    """Whether the text is one JSON document."""
    try:
        msgspec.json.decode(text, type=Raw)
    except msgspec.DecodeError:
        return False
    return True


def broken(
    data: DataFile,
    text: bytes | bytearray,
    offset: int,
    error: msgspec.DecodeError | None = None,
) -> SourceError:
    """The error for `text`, which stands at byte `offset` of the file and does not parse."""
    try:
        if error is None:
            msgspec.json.decode(text, type=Raw)
    except msgspec.DecodeError as found:
        error = found
    said = str(error)
    byte = _ERROR_BYTE.search(said)
    at = int(byte[1]) if byte else len(text)
    reason = _ERROR_BYTE.sub("", said).removeprefix("JSON is malformed: ")
    mend = "mend or remove the file"
    if reason == "trailing characters":
        at, reason = at - 1, "something follows the end of the document"  # msgspec counts it in
        if text[at : at + 1] in (b"{", b"["):
            reason = "a second document begins"
            mend = "put all records into one array, or each on a line of its own"
    elif reason == "Input data was truncated":
        reason = "the file ends too early"
        mend = "get the whole file"
    elif _NOT_A_NUMBER.match(text, at) or _NOT_A_NUMBER.match(text, max(0, at - 1)):
        reason, mend = "NaN and Infinity are no JSON", "write null instead"
    return SourceError(f"{data.path.name}: broken JSON at byte {offset + at:,}: {reason}; {mend}")


# What may stand up to the next bracket, or the next comma between records: strings, words, numbers.
# Anything else there means that a quote is missing, and that strings and what is between them have
# changed places: nothing can be told any more.
_WITHIN = rb'(?:[\s:\w.+%s-]++|"(?:[^"\\]++|\\.)*+")*+'
_TO_BRACKET = re.compile(_WITHIN % b"," + rb"([][{}])", re.DOTALL)
_TO_COMMA = re.compile(_WITHIN % b"" + rb"([][{},])", re.DOTALL)


class Salvage(NamedTuple):
    """Records as they are written, parseable or not."""

    records: list[Raw]
    used: int  # bytes, with the comma or the bracket behind the last record
    ended: bool  # whether that was the array's own bracket


def salvage(text: bytes) -> Salvage | None:
    """The records in `text`, which begins right behind an array's bracket or behind a comma in it.

    A record that `text` holds only the beginning of is left for later. None when brackets, quotes
    and commas give no clear picture either.
    """
    records: list[Raw] = []
    depth = start = at = 0
    while mark := (_TO_BRACKET if depth else _TO_COMMA).match(text, at):
        char, at = mark[1], mark.end()
        if char in b"{[":
            depth += 1
        elif depth > 0:
            depth -= 1
        elif char == b"}":
            break
        else:
            ended = char == b"]"
            record = text[start : at - 1].strip()
            if record:
                records.append(Raw(record))
            elif records or not ended:
                return None  # two commas, or one before the bracket
            start = at
            if ended:
                return Salvage(records, start, ended=True)
    return Salvage(records, start, ended=False) if records else None
