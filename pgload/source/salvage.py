"""What can be had of an array that does not parse: its records, good and bad, by their brackets.

One record with half a surrogate pair, a NaN or a bare control character makes all of an array
unreadable for a parser. Where its records end is still plain, so they are cut there; the bad one is
found by whoever reads it, and the others are not lost with it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import Raw

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
