"""The records of a JSON array or of JSON Lines, as many at a time as fit into a window of the file.

A record is cut out as bytes (`msgspec.Raw`), not turned into Python objects. A window is read into
a buffer instead of being mapped: a mapped file that is truncated while it is read ends the process
with SIGBUS. Only the windows whose records are in use stay in memory. What follows the last
complete record of a window is copied to the beginning of the next one: each byte is read once.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from pgload.errors import SourceError
from pgload.source.envelopes import Decode, check_reply
from pgload.source.salvage import MAX_SALVAGED, Salvage, salvage, salvage_line
from pgload.source.stream import Stream

WINDOW_BYTES = 4 << 20
MAX_RECORD_BYTES = 32 << 20  # of one record, as a window has to hold it
# A record costs some 60 bytes beside its text. Where many are very short, so that this matters,
# fewer bytes are decoded at once; a few samples of the window show it.
SHORT_BYTES = 1 << 20
SAMPLES, SAMPLE_BYTES = 16, 512

_decode_lines = msgspec.json.Decoder(Raw).decode_lines
_decode_array = msgspec.json.Decoder(list[Raw]).decode

_BETWEEN_OBJECTS = re.compile(rb"\}\s*,\s*(?=\{)")
_AFTER_OBJECT = re.compile(rb"\}\s*,\s*(?=[^\s\]])")  # what follows may be null
_ERROR_BYTE = re.compile(r" \(byte (\d+)\)$")
_NOT_A_NUMBER = re.compile(rb"-?(NaN|Infinity|nan|inf)")


@dataclass(eq=False, slots=True)
class Window:
    """Consecutive records of a file, and the text that holds them."""

    records: list[Raw]
    text: bytes | bytearray
    offset: int  # of the text's first byte in the file
    _offsets: array[int] | None = None

    def offsets(self) -> Sequence[int]:
        """The byte of the file at which each record begins; the first call searches the text."""
        if self._offsets is None:
            found, at = array("q"), 0
            for record in self.records:
                at = self.text.index(bytes(record), at)
                found.append(self.offset + at)
                at += len(record)
            self._offsets = found
        return self._offsets


def array_windows(
    data: Stream, prefix: bytes = b"", decode: Decode = _decode_array
) -> Iterator[Window]:
    """The records of the array whose `[` was just taken from `data`.

    `prefix` is the document's text before that bracket; `decode` gets the list of records from the
    whole document. A malformed record is given as it is if its end can be found.
    Raises `SourceError` when the array is broken in any other way, and for a record that is longer
    than `MAX_RECORD_BYTES`.
    """
    size, offset, first = WINDOW_BYTES, data.offset, data.offset
    rest = b""  # read, but in no window yet; a copy, so that the buffer's memory is used again
    while True:
        # A spare byte on each side for brackets, which make the records between two cuts an array.
        buffer = bytearray(size + 2)
        end = 1 + len(rest)
        buffer[1:end] = rest
        end += data.fill(memoryview(buffer)[end:-1])
        buffer[0] = ord("[")
        at_end = end <= size
        found: tuple[list[Raw], int] | None = None
        error = None
        part = _part(buffer, end, b",")
        try:
            if at_end and part == end:
                document = prefix + memoryview(buffer)[:end] if prefix else buffer[:end]
                found = decode(document), end - 1
                if prefix and not found[0] and offset == first:
                    check_reply(document)  # an error may be reported after an empty list
            else:
                found, at_end = _cut(buffer, part), False
        except msgspec.DecodeError as problem:
            error = problem
        if found is None:
            at_end = end <= size
            if salvaged := _salvage_array(buffer, end, prefix, at_end=at_end):
                found, at_end = (salvaged.records, salvaged.used), salvaged.ended
            elif at_end:
                document = prefix + memoryview(buffer)[:end]
                raise broken(data, document, offset - 1 - len(prefix), error)
            elif size < MAX_RECORD_BYTES:
                size, rest = 2 * size, bytes(memoryview(buffer)[1:end])
                continue
            elif error is not None:
                raise broken(data, buffer, offset - 1, error)
            else:
                raise too_long(data, offset)
        records, used = found
        if records:
            yield Window(records, buffer, offset - 1)
        if at_end:
            return
        offset += used
        rest = bytes(memoryview(buffer)[1 + used : end])
        size = _size_for(rest)


def _size_for(rest: bytes) -> int:
    """The size of a window that begins with `rest` and holds more."""
    size = WINDOW_BYTES
    while size <= len(rest):
        size *= 2
    return size


def _part(buffer: bytearray, end: int, separator: bytes) -> int:
    """How much of a window to decode at once: less when it may hold very many short values.

    The separator is counted in a few places, as counting all takes a third of the time of decoding.
    """
    for at in range(0, end, end // SAMPLES + 1):
        if buffer.count(separator, at, at + SAMPLE_BYTES) > SAMPLE_BYTES >> 3:
            return min(end, SHORT_BYTES)
    return end


def too_long(data: Stream, offset: int) -> SourceError:
    """The error for a record at byte `offset` that no window can hold."""
    return SourceError(
        f"{data.name}: the value at byte {offset:,} is longer than {MAX_RECORD_BYTES >> 20} MB, "
        "too long for one record: split it, or remove it"
    )


def _cut(buffer: bytearray, end: int) -> tuple[list[Raw], int] | None:
    """The complete records in `buffer[1:end]`, and their length in bytes.

    A cut between two records looks like `}, {`, which nested objects and strings can hold as well.
    So a place is tried, and is right exactly when the text before it parses: the last such place
    nearly always does; the last one outside of strings and brackets is the second try. None if
    both fail. Raises msgspec's error for text that does not parse wherever it is cut.
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
    """A few places: (the byte after a record, the first byte of what follows)."""
    last = next(_places_like_a_cut(buffer, end, _BETWEEN_OBJECTS), None)
    if last is not None:
        yield last
    # To remove strings and count brackets takes much longer than parsing, so it is only done when
    # the first try failed, and at first for a part.
    for part in sorted({min(end, SHORT_BYTES), min(end, WINDOW_BYTES)}):
        text = _without_strings(memoryview(buffer)[:part])
        checked, depth = part, _depth(text, 1, part)
        for position, after in _places_like_a_cut(text, part, _AFTER_OBJECT):
            depth -= _depth(text, position, checked)
            checked = position
            if depth == 0:
                yield position, after
                break


def _places_like_a_cut(
    buffer: bytes | bytearray, end: int, between: re.Pattern[bytes]
) -> Iterator[tuple[int, int]]:
    """Backwards: the places where `between` matches from a `}` on."""
    position = end
    while (position := buffer.rfind(b"}", 1, position)) > 0:
        if found := between.match(buffer, position, end):
            yield position + 1, found.end()


def _without_strings(text: memoryview) -> bytes:
    """The JSON text with spaces instead of the content of strings."""
    parts = bytes(text).replace(b"\\\\", b"  ").replace(b'\\"', b"  ").split(b'"')
    parts[1::2] = [b" " * len(part) for part in parts[1::2]]
    return b'"'.join(parts)


def _depth(buffer: bytes, start: int, end: int) -> int:
    """How many more brackets are opened than closed in `buffer[start:end]`."""

    def count(char: bytes) -> int:
        return buffer.count(char, start, end)

    return count(b"{") + count(b"[") - count(b"}") - count(b"]")


def line_windows(data: Stream) -> Iterator[Window]:
    """The records of JSON Lines, from where `data` is; a malformed record is given as it is.

    Raises `SourceError` for a line that does not hold exactly one record, or a longer one than
    `MAX_RECORD_BYTES`.
    """
    size, offset = WINDOW_BYTES, data.offset
    rest = b""
    while True:
        buffer = bytearray(size)
        end = len(rest)
        buffer[:end] = rest
        end += data.fill(memoryview(buffer)[end:])
        if end == 0:
            return
        used = end if end < size else buffer.rfind(b"\n") + 1
        if used == 0:
            if size >= MAX_RECORD_BYTES:
                raise too_long(data, offset)
            size, rest = 2 * size, bytes(memoryview(buffer)[:end])
            continue
        used = buffer.rfind(b"\n", 0, _part(buffer, used, b"\n")) + 1 or used
        text = memoryview(buffer)[:used]
        try:
            records = _decode_lines(text)
        except (msgspec.DecodeError, RecursionError):
            at_end = end < size and used == end
            records, used = _salvage_lines(data, bytes(text), offset, at_end=at_end)
        if records:
            yield Window(records, buffer, offset)
        offset += used
        rest = bytes(memoryview(buffer)[used:end])
        size = _size_for(rest)


def _salvage_lines(
    data: Stream, text: bytes, offset: int, *, at_end: bool
) -> tuple[list[Raw], int]:
    """The records in the lines of `text`, well-formed or not, and the bytes that they take.

    A line that shows no end of its record is a malformed one if the next line holds a record;
    otherwise it is cut off, or its record continues on the next lines, and `SourceError` is raised.
    """
    lines = re.findall(rb"[^\n]*\n|[^\n]+", text)
    records: list[Raw] = []
    used = 0
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        try:
            records += _decode_lines(line)
        except (msgspec.DecodeError, RecursionError) as error:
            salvaged = salvage_line(line)
            if salvaged is None:
                if following is None and used and not at_end:
                    break  # it is read again, with the next line
                if following is None or not _is_record(following):
                    known = error if isinstance(error, msgspec.DecodeError) else None
                    raise broken(data, line, offset + used, known) from None
                salvaged = Raw(line.strip())
            records.append(salvaged)
        used += len(line)
    return records, used


def _is_record(line: bytes) -> bool:
    """Whether the line holds one object."""
    return line.lstrip()[:1] == b"{" and is_json(line)


def _salvage_array(buffer: bytearray, end: int, prefix: bytes, *, at_end: bool) -> Salvage | None:
    """The records in `buffer[1:end]`, as they are written; None if nothing is certain."""
    salvaged = salvage(memoryview(buffer)[1:end])
    if salvaged is None:
        return None
    if salvaged.ended:
        tail = prefix + b"[]" + memoryview(buffer)[1 + salvaged.used : end]
        return salvaged if at_end and is_json(tail) else None
    return None if at_end and len(salvaged.records) < MAX_SALVAGED else salvaged


def is_json(text: bytes | bytearray) -> bool:
    """Whether the text is one JSON document."""
    try:
        msgspec.json.decode(text, type=Raw)
    except msgspec.DecodeError:
        return False
    return True


def broken(
    data: Stream,
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
    return SourceError(f"{data.name}: broken JSON at byte {offset + at:,}: {reason}; {fix}")
