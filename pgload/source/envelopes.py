"""What the procurement API wraps its records in, and what it says instead of records."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw


class NoDataError(Exception):
    """A document holds no records; the message is what it is instead."""


# Where a reply keeps its records; "item" below "items" is how old replies were converted from XML.
ITEMS_PATHS = (
    ("items",),
    ("items", "item"),
    ("body", "items"),
    ("body", "items", "item"),
    ("response", "body", "items"),
    ("response", "body", "items", "item"),
)
SUCCESS_CODES = ("0", "00", "000")
# Where a reply says how it went; () is the reply itself, if it says nothing else.
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

MAX_GUESSES = 20  # places called "items" that are looked at

_ITEMS = re.compile(rb'"items?"\s*:\s*(?=\[)')
_XML_ELEMENT = re.compile(rb"<(\w+)>\s*([^<]*?)\s*</\1>")


def find_items(head: bytes) -> tuple[bytes, Decode] | None:
    """What stands before the list of items, and a decoder from the whole document to that list.

    `head` is the beginning of a JSON object. None when it holds no list at a known path.
    Raises `NoDataError` for an error reply.
    """
    for match in islice(_ITEMS.finditer(head), MAX_GUESSES):
        prefix = head[: match.end()]
        for path in ITEMS_PATHS:
            # If the prefix goes on as null and as many braces as the path is deep make it whole,
            # then the bracket really stands there, and not in a string or deeper down.
            try:
                document = msgspec.json.decode(prefix + b"null" + b"}" * len(path))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if _at(document, path, missing="") is None:
                _check(document)
                return prefix, _decoder(path)
    return None


def items_of(document: bytes) -> list[Raw]:
    """The records of a whole document that is an object: its items, or the object itself.

    Raises `NoDataError` for an error reply.
    """
    parsed = check_reply(document)
    # The longest path first: "items" also stands above "item".
    for path in sorted(ITEMS_PATHS, key=len, reverse=True):
        items = _at(parsed, path, missing=...)
        if items in ("", None):  # the reply to a question without an answer
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
    """Why `text`, which begins like no JSON array or object, holds no records."""
    if not text:
        return "is empty"
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:4]:
        return "is UTF-16: convert it to UTF-8 first"
    if text.startswith(b"<"):
        said = {
            name.decode(): value.decode(errors="replace")
            for name, value in _XML_ELEMENT.findall(text)
        }
        return _reply(said) or "is XML, not JSON: ask the API for type=json"
    line = text.split(b"\n", 1)[0][:80].decode(errors="replace").strip()
    return f"is not JSON but begins with {line!r}; if an API replied so, ask it again"


def _check(document: Any) -> None:
    header = _header(document)
    code = next((str(header[key]) for key in CODE_KEYS if key in header), None)
    if code is not None and code not in SUCCESS_CODES:
        raise NoDataError(_reply({key: str(value) for key, value in header.items()}))


def _header(document: Any) -> dict[str, Any]:
    """The part of a reply that says how it went; empty for anything else."""
    for path in HEADER_PATHS:
        header = _at(document, path, missing=None)
        if isinstance(header, dict) and header.keys() & set(CODE_KEYS):
            only = header.keys() <= {*CODE_KEYS, *MESSAGE_KEYS}
            if path or only:  # a record, too, may have a field of such a name
                return header
    return {}


def _reply(said: dict[str, str]) -> str:
    code = next((said[key] for key in CODE_KEYS if key in said), "")
    message = ", ".join(said[key] for key in MESSAGE_KEYS if said.get(key))
    return f"is an error reply, not data: {code} {message}; ask the API again" if code else ""


def _at(document: Any, path: tuple[str, ...], missing: Any) -> Any:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return missing
        document = document[key]
    return document


@cache
def _decoder(path: tuple[str, ...], leaf: Any = list[Raw]) -> Decode:
    """From the document to what stands at `path` in it, as a `leaf`."""
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
