"""The procurement API's envelopes around records, and its error replies instead of records."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw


class NoDataError(Exception):
    """A document holds no records; the message, without a subject, is what it is instead."""


# Where a reply holds its records; "item" in "items" comes from replies converted from XML.
ITEMS_PATHS = (
    ("items",),
    ("items", "item"),
    ("body", "items"),
    ("body", "items", "item"),
    ("response", "body", "items"),
    ("response", "body", "items", "item"),
)
SUCCESS_CODES = ("0", "00", "000")
# Where a reply holds its result code; () is the reply itself, if it holds nothing else.
HEADER_PATHS = (
    ("header",),
    ("response", "header"),
    ("nkoneps.com.response.ResponseError", "header"),
    ("OpenAPI_ServiceResponse", "cmmMsgHeader"),
    ("cmmMsgHeader",),
    (),
)
CODE_KEYS = ("resultCode", "returnReasonCode")
MESSAGE_KEYS = ("resultMsg", "returnAuthMsg", "errMsg")

Decode = Callable[[bytes], Any]

MAX_GUESSES = 20  # fields called "items" that are tried

_ITEMS = re.compile(rb'"items?"\s*:\s*(?=\[)')
_XML_ELEMENT = re.compile(rb"<(\w+)>\s*([^<]*?)\s*</\1>")


def find_items(head: bytes) -> tuple[bytes, Decode] | None:
    """The text before the list of items, and a decoder from the whole document to that list.

    `head` is the beginning of a JSON object. None when it holds no list at a known path.
    Raises `NoDataError` for an error reply.
    """
    for match in islice(_ITEMS.finditer(head), MAX_GUESSES):
        prefix = head[: match.end()]
        for path in ITEMS_PATHS:
            # The list is at this path, and not in a string or deeper, exactly when the prefix
            # completed by null and one closing brace per key parses.
            try:
                document = msgspec.json.decode(prefix + b"null" + b"}" * len(path))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if _value_at(document, path, missing="") is None:
                _check(document)
                return prefix, _decoder(path)
    return None


def items_of(document: bytes) -> list[Raw]:
    """The records of a whole document that is an object: its items, or the object itself.

    Raises `NoDataError` for an error reply.
    """
    parsed = check_reply(document)
    # The longest path first, as "items" may hold "item".
    for path in sorted(ITEMS_PATHS, key=len, reverse=True):
        items = _value_at(parsed, path, missing=...)
        if items in ("", None):  # nothing was found
            return []
        if isinstance(items, dict):
            return [_decoder(path, Raw)(document)]
        if isinstance(items, list):
            found: list[Raw] = _decoder(path)(document)
            return found
    return [] if _header(parsed) else [Raw(document)]


def check_reply(document: bytes) -> Any:
    """The parsed document. Raises `NoDataError` if it is an error reply or not UTF-8."""
    try:
        parsed = msgspec.json.decode(document)
    except UnicodeDecodeError as error:
        raise NoDataError(f"is not UTF-8: {error.reason}; convert it to UTF-8 first") from None
    _check(parsed)
    return parsed


def explain_no_data(text: bytes) -> str:
    """Why `text`, which does not begin like a JSON array or object, holds no records."""
    if not text:
        return "is empty; remove it, or get it again"
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:4]:
        return "is UTF-16: convert it to UTF-8 first"
    if text.startswith(b"<"):
        elements = {
            name.decode(): value.decode(errors="replace")
            for name, value in _XML_ELEMENT.findall(text)
        }
        return _explain_reply(elements) or "is XML, not JSON: ask the API for type=json"
    line = text.split(b"\n", 1)[0][:80].decode(errors="replace").strip()
    return f"is not JSON but begins with {line!r}; if it is an API's reply, request it again"


def _check(document: Any) -> None:
    header = _header(document)
    code = next((str(header[key]) for key in CODE_KEYS if key in header), None)
    if code is not None and code not in SUCCESS_CODES:
        raise NoDataError(_explain_reply({key: str(value) for key, value in header.items()}))


def _header(document: Any) -> dict[str, Any]:
    """The part of a reply that holds its result code; empty for anything else."""
    for path in HEADER_PATHS:
        header = _value_at(document, path, missing=None)
        if not isinstance(header, dict) or not header.keys() & set(CODE_KEYS):
            continue
        # A record may have a field of such a name too.
        if path or header.keys() <= {*CODE_KEYS, *MESSAGE_KEYS}:
            return header
    return {}


def _explain_reply(header: dict[str, str]) -> str:
    """What an error reply is; empty without a result code."""
    code = next((header[key] for key in CODE_KEYS if key in header), "")
    message = ", ".join(header[key] for key in MESSAGE_KEYS if header.get(key))
    return f"is an error reply, not data: {code} {message}; request it again" if code else ""


def _value_at(document: Any, path: tuple[str, ...], missing: Any) -> Any:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return missing
        document = document[key]
    return document


@cache
def _decoder(path: tuple[str, ...], leaf: Any = list[Raw]) -> Decode:
    """A decoder from the document to the value at `path` in it, of the type `leaf`."""
    shape = leaf
    for key in reversed(path):
        shape = msgspec.defstruct("Reply", [("below", shape)], rename={"below": key})
    decode = msgspec.json.Decoder(shape).decode

    def at_path(document: bytes) -> Any:
        node = decode(document)
        for _ in path:
            node = node.below
        return node

    return at_path
