"""Where malformed records begin and end, as their brackets, quotes and commas show."""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import Raw

MAX_SALVAGED = 100_000  # records

# What may stand before the next bracket, or the next comma between records: strings, words, and
# numbers. Anything else means that a quote is missing, so that what looks like a string is not one.
_WITHIN = rb'(?:[\s:\w.+%s-]++|"(?:[^"\\]++|\\.)*+")*+'
_TO_BRACKET = re.compile(_WITHIN % b"," + rb"([][{}])", re.DOTALL)
_TO_COMMA = re.compile(_WITHIN % b"" + rb"([][{},])", re.DOTALL)


class Salvage(NamedTuple):
    """Records as they are written, well-formed or not."""

    records: list[Raw]
    used: int  # bytes, including the comma or bracket after the last record
    ended: bool  # whether that was the bracket that ends the array


def salvage(text: bytes | bytearray | memoryview) -> Salvage | None:
    """The records in `text`, which begins after an array's opening bracket or a comma in it.

    These are at most `MAX_SALVAGED`. A record that does not end in `text` is left for later.
    None when the brackets, quotes and commas do not show where the records end.
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
            record = bytes(text[start : at - 1]).strip()
            if record:
                records.append(Raw(record))
            elif records or not ended:
                return None  # two commas, or one before the bracket
            start = at
            if ended:
                return Salvage(records, start, ended=True)
            if len(records) == MAX_SALVAGED:
                break
    return Salvage(records, start, ended=False) if records else None


def is_one_record(line: bytes | bytearray) -> bool:
    """Whether the line holds one record, well-formed or not."""
    return salvage_line(line) is not None


def salvage_line(line: bytes | bytearray) -> Raw | None:
    """The record on a line, as it is written; None if it may begin or end on another one."""
    salvaged = salvage(line + b"]")
    complete = salvaged is not None and salvaged.ended and len(salvaged.records) == 1
    return salvaged.records[0] if salvaged and complete else None
