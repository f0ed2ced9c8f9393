"""Names and messages may hold anything; files and terminals get what every reader takes."""

from __future__ import annotations

import json
import re

import msgspec

# Control characters, which end a line or steer a terminal, those that turn the direction of
# writing, and lone surrogates, as which Python has the bytes of a file name that is no UTF-8.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def one_line(text: str) -> str:
    """The text with every character that is unfit for a line of a log escaped."""
    return _UNFIT.sub(lambda found: ascii(found[0])[1:-1], text)


def to_json(value: object, indent: int = 0) -> bytes:
    """JSON in UTF-8; a lone surrogate, which strict readers refuse, becomes its escape as text."""
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:
        escaped = json.dumps(value, ensure_ascii=False)
        text = _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):x}", escaped).encode()
    return msgspec.json.format(text, indent=indent) if indent else text
