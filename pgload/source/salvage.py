"""What can be had of an array that does not parse: its records, good and bad, by their brackets.

One record with half a surrogate pair, a NaN or a bare control character makes all of an array
unreadable for a parser. Where its records end is still plain, so they are cut there; the bad one is
found by whoever reads it, and the others are not lost with it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import Raw

# Strings are passed over as a whole; "end" is a quote that opens one which does not end.
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*+"|(?P<end>")|[][{},]', re.DOTALL)


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
    depth = start = 0
    for mark in _MARKS.finditer(text):
        char = mark[0]
        if char in b"{[":
            depth += 1
        elif char in b"}]" and depth > 0:
            depth -= 1
        elif mark["end"] or char == b"}":
            break
        elif depth == 0 and char in b",]":
            ended = char == b"]"
            record = text[start : mark.start()].strip()
            if not record and (records or not ended):
                return None  # two commas, or one before the bracket
            if record:
                records.append(Raw(record))
            start = mark.end()
            if ended:
                return Salvage(records, start, ended=True)
    return Salvage(records, start, ended=False) if records else None
