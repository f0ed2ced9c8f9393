"""Records → the JSON text of their values (*tokens*), and lines of tokens as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from pgload.schema.table import Column
from pgload.source.scan import DECODE_ERRORS, record_type

SEPARATOR = b"\x1f"  # between the tokens of a record
EMPTY = b'""'
NULL = b"null"
NULLS = (EMPTY, NULL)  # tokens that become NULL
ORDER_RECORDS = 20  # of a file, which show the order of its fields

Tokens = Sequence[bytes | Raw]

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_NULL_TOKEN = re.compile(rb"(?<![^\x1f\n])null(?![^\x1f\n])")


def tokenizer(columns: Sequence[Column]) -> Callable[[Iterable[Raw]], Iterator[Tokens]]:
    """A function from records to the tokens of the columns' fields, one of NULL if missing."""
    names = [column.source for column in columns]
    missing = [Raw(NULL if column.keep_empty else EMPTY) for column in columns]
    record = record_type(names, [Raw] * len(names), missing)
    if record is None:
        defaults = list(zip(names, missing, strict=True))

        def tokens_by_name(records: Iterable[Raw]) -> Iterator[Tokens]:
            for fields in map(_decode_fields, records):
                yield tuple([fields.get(name, default) for name, default in defaults])

        return tokens_by_name

    decode = msgspec.json.Decoder(record).decode
    return lambda records: map(astuple, map(decode, records))


def in_file_order(columns: Sequence[Column], records: Iterable[Raw]) -> Sequence[Column]:
    """The columns in the order of the fields of the longest record; the others follow."""
    longest: dict[str, Raw] = {}
    for record in records:
        with suppress(*DECODE_ERRORS):
            longest = max(longest, _decode_fields(record), key=len)
    places = {name: place for place, name in enumerate(longest)}
    return tuple(sorted(columns, key=lambda column: places.get(column.source, len(places))))


def are_null(tokens: Iterable[bytes | Raw]) -> bool:
    """Whether all of the tokens are null or the empty string."""
    text = b"".join(tokens)
    if text == EMPTY * (len(text) // len(EMPTY)):  # as a rule; it takes half the time
        return True
    # Of any other token something remains: of one such as "null" a quote.
    return not text.replace(EMPTY, b"").replace(NULL, b"")


def is_plain(text: bytes) -> bool:
    """Whether every `"` in lines begins or ends a string, and every string is its characters.

    Then no token has a backslash, and none is an object or an array.
    """
    return b"\\" not in text and not _may_nest(text, b"{") and not _may_nest(text, b"[")


def without_quotes(text: bytes, tokens: int) -> bytes:
    """Plain lines of that many tokens without the quotes of strings, and null as nothing."""
    stripped = text.translate(None, b'"')
    if len(text) - len(stripped) == 2 * tokens:  # all are strings, none is null
        return stripped
    return _NULL_TOKEN.sub(b"", text).translate(None, b'"')


def all_in_quotes(text: bytes, tokens: int) -> bytes:
    """Plain lines of that many tokens, every one in quotes: `"1.5"` for 1.5, `""` for null."""
    if text.count(b'"') == 2 * tokens:
        return text
    bare = without_quotes(text, tokens)
    return b'"' + bare.replace(SEPARATOR, b'"\x1f"').replace(b"\n", b'"\n"') + b'"'


def _may_nest(text: bytes, first: bytes) -> bool:
    """Whether a token begins with that byte.

    Also true where a string holds the end of a line, `),(`, before it, which costs time only.
    """
    at = text.find(first)
    while at > 0 and text[at - 1] not in b"\x1f\n" and not text.endswith(b"),(", 0, at):
        at = text.find(first, at + 1)
    return at >= 0
