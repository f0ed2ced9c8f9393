"""The records of a JSON array or of JSON Lines, as many at a time as fit into a window of the file.

A record is cut out as bytes (`msgspec.Raw`), not turned into Python objects. A window is read into
a buffer instead of being mapped: a mapped file that is truncated while it is read ends the process
with SIGBUS. Only the windows whose records are in use stay in memory.
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
SALVAGE_BYTES = 64 << 20  # the longest text in which the end of a malformed record is searched for

_decode_lines = msgspec.json.Decoder(Raw).decode_lines
_decode_array = msgspec.json.Decoder(list[Raw]).decode

_BETWEEN_RECORDS = re.compile(rb"\}\s*,\s*(?=\{)")
_ERROR_BYTE = re.compile(r" \(byte (\d+)\)$")
_NOT_A_NUMBER = re.compile(rb"-?(NaN|Infinity|nan|inf)")
# What may stand before the next bracket, or the next comma between records: strings, words, and
# numbers. Anything else means that a quote is missing, so that what looks like a string is not one.
_WITHIN = rb'(?:[\s:\w.+%s-]++|"(?:[^"\\]++|\\.)*+")*+'
_TO_BRACKET = re.compile(_WITHIN % b"," + rb"([][{}])", re.DOTALL)
_TO_COMMA = re.compile(_WITHIN % b"" + rb"([][{},])", re.DOTALL)


class Window(NamedTuple):
    """Consecutive records of a file, and the text that holds them."""

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
    data: DataFile, offset: int, prefix: bytes = b"", decode: Decode = _decode_array
) -> Iterator[Window]:
    """The records of the array whose `[` is the byte before `offset`.

    `prefix` is the document's text before that bracket; `decode` gets the list of records from the
    whole document. A malformed record is given as it is if its end can be found.
    Raises `SourceError` when the array is broken in any other way.
    """
    size, first = WINDOW_BYTES, offset
    while True:
        # A spare byte on each side for brackets, which make the records between two cuts an array.
        buffer = bytearray(size + 2)
        end = 1 + data.fill(offset, memoryview(buffer)[1:-1])
        buffer[0] = ord("[")
        at_end = end <= size
        try:
            if at_end:
                text = b"".join((prefix, memoryview(buffer)[:end]))
                records, used = decode(text), end - 1
                if prefix and not records and offset == first:
                    check_reply(text)  # an error may be reported after an empty list
            elif cut := _cut(buffer, end):
                records, used = cut
            else:
                size *= 2
                continue
        except msgspec.DecodeError as error:
            salvaged = _salvage_array(buffer, end, prefix, at_end=at_end)
            if salvaged is None:
                if not at_end and size < SALVAGE_BYTES:
                    size *= 2
                    continue
                if at_end:
                    raise broken(data, text, offset - 1 - len(prefix), error) from None
                raise broken(data, buffer, offset - 1, error) from None
            records, used, at_end = salvaged
        if records:
            yield Window(records, buffer, offset - 1)
        if at_end:
            return
        offset += used
        size = WINDOW_BYTES


def _cut(buffer: bytearray, end: int) -> tuple[list[Raw], int] | None:
    """The complete records in `buffer[1:end]`, and their length in bytes.

    A cut between two records looks like `}, {`, which nested objects and strings can hold as well.
    So a place is tried, and is right exactly when the text before it parses: the last such place
    nearly always does; the last one with balanced brackets is the second try. None if both fail.
    Raises msgspec's error for text that does not parse wherever it is cut.
    """
    for position, after in _possible_cuts(buffer, end):
        hidden, buffer[position] = buffer[position], ord("]")
        try:
            return _decode_array(memoryview(buffer)[: position + 1]), after - 1
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
    # Counting brackets takes longer than parsing, so it is only done when the first try failed.
    checked, depth = end, _depth(buffer, 1, end)
    for position, after in _places_like_a_cut(buffer, end):
        depth -= _depth(buffer, position, checked)
        checked = position
        if depth == 0:
            if (position, after) != last:
                yield position, after
            return


def _places_like_a_cut(buffer: bytearray, end: int) -> Iterator[tuple[int, int]]:
    """Backwards: the places where a `}` is followed by a comma and a `{`."""
    position = end
    while (position := buffer.rfind(b"}", 1, position)) > 0:
        if between := _BETWEEN_RECORDS.match(buffer, position, end):
            yield position + 1, between.end()


def _depth(buffer: bytearray, start: int, end: int) -> int:
    """How many more brackets are opened than closed in `buffer[start:end]`."""

    def count(char: bytes) -> int:
        return buffer.count(char, start, end)

    return count(b"{") + count(b"[") - count(b"}") - count(b"]")


def line_windows(data: DataFile, offset: int) -> Iterator[Window]:
    """The records of JSON Lines from `offset` on; a malformed record is given as it is.

    Raises `SourceError` for a line that does not hold exactly one record.
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
            records = _decode_lines(text)
        except (msgspec.DecodeError, RecursionError):
            records = list(_salvage_lines(data, bytes(text), offset))
        if records:
            yield Window(records, buffer, offset)
        offset += used
        size = WINDOW_BYTES


def _salvage_lines(data: DataFile, text: bytes, offset: int) -> Iterator[Raw]:
    for line in re.findall(rb"[^\n]*\n|[^\n]+", text):
        try:
            yield from _decode_lines(line)
        except (msgspec.DecodeError, RecursionError) as error:
            salvaged = _salvage_line(line)
            if salvaged is None:
                # Cut off, or a part of a record that continues on the next lines.
                known = error if isinstance(error, msgspec.DecodeError) else None
                raise broken(data, line, offset, known) from None
            yield salvaged
        offset += len(line)


def is_one_record(line: bytes) -> bool:
    """Whether the line holds one record, well-formed or not."""
    return _salvage_line(line) is not None


def _salvage_line(line: bytes) -> Raw | None:
    """The record on a line, as it is written; None if it may begin or end on another one."""
    salvaged = salvage(line + b"]")
    complete = salvaged is not None and salvaged.ended and len(salvaged.records) == 1
    return salvaged.records[0] if salvaged and complete else None


class Salvage(NamedTuple):
    """Records as they are written, well-formed or not."""

    records: list[Raw]
    used: int  # bytes, including the comma or bracket after the last record
    ended: bool  # whether that was the bracket that ends the array


def salvage(text: bytes) -> Salvage | None:
    """The records in `text`, which begins after an array's opening bracket or a comma in it.

    A record that does not end in `text` is left for later. None when the brackets, quotes and
    commas do not show where the records end.
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


def _salvage_array(
    buffer: bytearray, end: int, prefix: bytes, *, at_end: bool
) -> tuple[list[Raw], int, bool] | None:
    """Records, their length in bytes, and whether the array ended; None if nothing is certain."""
    salvaged = salvage(bytes(memoryview(buffer)[1:end]))
    if salvaged is None or (at_end and not salvaged.ended):
        return None
    if salvaged.ended:
        tail = bytes(memoryview(buffer)[1 + salvaged.used : end])
        if not at_end or not is_json(prefix + b"[]" + tail):
            return None
    return salvaged.records, salvaged.used, salvaged.ended


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
    """The error for `text`, at byte `offset` of the file, which does not parse."""
    try:
        if error is None:
            msgspec.json.decode(text, type=Raw)
    except msgspec.DecodeError as found:
        error = found
    message = str(error)
    byte = _ERROR_BYTE.search(message)
    at = int(byte[1]) if byte else len(text)
    reason = _ERROR_BYTE.sub("", message).removeprefix("JSON is malformed: ")
    fix = "fix or remove the file"
    if reason == "trailing characters":
        at -= 1  # msgspec gives the byte after the first that is too many
        reason = "something follows the end of the document"
        if text[at : at + 1] in (b"{", b"["):
            reason = "a second document begins"
            fix = "put all records into one array, or each on a line of its own"
    elif reason == "Input data was truncated":
        reason = "the file ends too early"
        fix = "get the whole file"
    elif _NOT_A_NUMBER.match(text, at) or _NOT_A_NUMBER.match(text, max(0, at - 1)):
        reason, fix = "NaN and Infinity are not JSON", "write null instead"
    return SourceError(f"{data.path.name}: broken JSON at byte {offset + at:,}: {reason}; {fix}")
