"""One object around all records: the procurement API's envelopes, its error replies, and others.

An object is read as an envelope only if all its fields are an envelope's: a record may have a field
`items` or `header` too. Of any other object the list that holds the records has to be named.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
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
# The fields that an envelope may have at its top; others make it a record.
ENVELOPE_KEYS = frozenset(
    {path[0] for path in (*ITEMS_PATHS, *HEADER_PATHS) if path}
    | {"resultCode", "returnReasonCode", "resultMsg", "returnAuthMsg", "errMsg"}
    | {"numOfRows", "pageNo", "totalCount", "currentCount", "matchCount", "page", "perPage"}
)
# Fields beside a list of records in the replies of other APIs.
REPLY_KEYS = ENVELOPE_KEYS | {
    *("count", "links", "message", "meta", "metadata", "next", "offset", "pagination"),
    *("limit", "previous", "status", "success", "total"),
}
LONG_LIST = 100  # objects in a list that a record does not have, in all likelihood
LIST_DEPTH = 3  # objects around a list that is searched for
OUTLINE_DEPTH = 5  # objects around the records, and one more
UTF8_BYTES = 1 << 20  # checked at a time

CODE_KEYS = ("resultCode", "returnReasonCode")
MESSAGE_KEYS = ("resultMsg", "returnAuthMsg", "errMsg")

# By the first bytes of a file; what is read compressed, `compression` recognises.
COMPRESSED = {
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\xff\x06\0\0sNaPpY": "Snappy",
}

Decode = Callable[[bytes | bytearray], Any]

MAX_GUESSES = 20  # fields of the name of a list that are tried

_ITEMS = re.compile(rb'"items?"\s*:\s*(?=\[)')
_ANY_LIST = re.compile(rb'"(?:[^"\\]++|\\.)*+"\s*:\s*(?=\[\s*\{)')
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_XML_ELEMENT = re.compile(rb"<(\w+)>\s*([^<]*?)\s*</\1>")


def find_items(head: bytes) -> tuple[bytes, Decode] | None:
    """The text before the list of items, and a decoder from the whole document to that list.

    `head` is the beginning of a JSON object. None when it is not an envelope or holds no list at a
    known path. Raises `NoDataError` for an error reply; so does the decoder for an object that has
    other fields after the list.
    """
    for match in islice(_ITEMS.finditer(head), MAX_GUESSES):
        prefix = head[: match.end()]
        for path in ITEMS_PATHS:
            document = _completed(prefix, len(path))
            if _value_at(document, path, missing="") is None:
                if not _is_envelope(document):
                    return None
                _check(document)
                return prefix, _envelope_decoder(path)
    return None


def find_list(head: bytes, path: tuple[str, ...]) -> tuple[bytes, Decode] | None:
    """As `find_items`, for a list whose path is known; None when `head` has no list there."""
    key = re.escape(path[-1].encode())
    for match in islice(re.finditer(rb'"%s"\s*:\s*(?=\[)' % key, head), MAX_GUESSES):
        prefix = head[: match.end()]
        if _value_at(_completed(prefix, len(path)), path, missing="") is None:
            return prefix, _decoder(path)
    return None


def items_of(document: bytes | bytearray) -> list[Raw]:
    """The records of a whole document that is an object: its items, or the object itself.

    Raises `NoDataError` for an error reply, and for an object that seems to hold the records in a
    list that is not known.
    """
    parsed = check_reply(document)
    # The longest path first, as "items" may hold "item".
    for path in sorted(ITEMS_PATHS, key=len, reverse=True) if _is_envelope(parsed) else ():
        items = _value_at(parsed, path, missing=...)
        if items in ("", None):  # nothing was found
            return []
        if isinstance(items, dict):
            return [_decoder(path, Raw)(document)]
        if isinstance(items, list):
            found: list[Raw] = _decoder(path)(document)
            return found
    if _is_envelope(parsed) and _header(parsed):
        return []
    if path := _path_of_list(parsed):
        raise one_object(f"an object around a list {'.'.join(path)!r}", path)
    return [Raw(document)]


def explain_long_object(head: bytes, limit: int) -> NoDataError:
    """The error for an object of more than `limit` bytes; `head` is its beginning."""
    path = None
    for match in islice(_ANY_LIST.finditer(head), MAX_GUESSES):
        for depth in range(1, LIST_DEPTH + 1):
            path = path or _last_path(_completed(head[: match.end()], depth), depth)
    return one_object(f"one object of more than {limit >> 20:,} MB", path or ("…",))


def one_object(what: str, path: tuple[str, ...]) -> NoDataError:
    """The error for an object that may be a record or hold the records at `path`."""
    return NoDataError(
        f'is {what}: if that holds the records, set items = "{".".join(path)}" for the file in '
        'tables.toml; if the object is a record, set format = "object"'
    )


def _is_envelope(document: Any) -> bool:
    return isinstance(document, dict) and document.keys() <= ENVELOPE_KEYS


def _path_of_list(document: Any) -> tuple[str, ...]:
    """The path of a list of objects that are records, in all likelihood; empty for a record."""

    def search(value: dict[str, Any], path: tuple[str, ...], is_reply: bool) -> tuple[str, ...]:
        collection = value.get("type") == "FeatureCollection"  # GeoJSON
        for key, inner in value.items():
            only = is_reply and (collection or value.keys() - {key} <= REPLY_KEYS)
            if isinstance(inner, list) and inner and all(map(_is_object, inner)):
                known = (*path, key) in ITEMS_PATHS or (collection and key == "features")
                if known or only or len(inner) >= LONG_LIST:
                    return (*path, key)
            deeper = isinstance(inner, dict) and len(path) + 1 < LIST_DEPTH
            if deeper and (found := search(inner, (*path, key), only)):
                return found
        return ()

    return search(document, (), True) if isinstance(document, dict) else ()


def _is_object(value: Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b"{"


def _completed(prefix: bytes, depth: int) -> Any:
    """The document that begins with `prefix`, completed by null and `depth` closing braces.

    None if that does not parse: it does exactly when the prefix ends at that depth and not in a
    string.
    """
    try:
        return _outline(prefix + b"null" + b"}" * depth, max(depth + 1, OUTLINE_DEPTH))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _last_path(document: Any, depth: int) -> tuple[str, ...] | None:
    """The keys down to the last value in the document, which is at that depth."""
    path: list[str] = []
    for _ in range(depth):
        if not isinstance(document, dict):
            return None
        path.append(list(document)[-1])
        document = document[path[-1]]
    return tuple(path)


def check_reply(document: bytes | bytearray) -> Any:
    """The document's outline. Raises `NoDataError` if it is an error reply or not UTF-8."""
    try:
        parsed = _outline(document)
        decode_utf8 = getincrementaldecoder("utf-8")().decode
        for at in range(0, len(document), UTF8_BYTES):
            decode_utf8(document[at : at + UTF8_BYTES])
    except UnicodeDecodeError as error:
        raise NoDataError(f"is not UTF-8: {error.reason}; convert it to UTF-8 first") from None
    _check(parsed)
    return parsed


def explain_no_data(text: bytes) -> str:
    """Why `text`, which does not begin like a JSON array or object, holds no records."""
    if not text:
        return "is empty; remove it, or get it again"
    for first_bytes, what in COMPRESSED.items():
        if text.startswith(first_bytes):
            return f"is compressed ({what}): decompress it first, or use .gz, .zst, .bz2 or .xz"
    if not text.strip(b"\0"):
        return "begins with NUL bytes only, as after a crash or a full disk; get it again"
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


def _outline(text: bytes | bytearray | Raw, depth: int = OUTLINE_DEPTH) -> Any:
    """The JSON value as Python objects, down to `depth` objects; lists are lists of `Raw`.

    A document of many MB would take ten times as much memory if all of it was parsed.
    """
    first = bytes(memoryview(text)[:1])
    if first == b"{" and depth:
        return {key: _outline(value, depth - 1) for key, value in _decode_object(text).items()}
    if first == b"[":
        return _decode_list(text)
    return Raw(text) if first == b"{" else msgspec.json.decode(text)


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

    def at_path(document: bytes | bytearray) -> Any:
        node = decode(document)
        for _ in path:
            node = node.below
        return node

    return at_path


def _envelope_decoder(path: tuple[str, ...]) -> Decode:
    """As `_decoder`, for a document that has to be an envelope."""
    decode = _decoder(path)

    def checked(document: bytes | bytearray) -> Any:
        records = decode(document)
        keys = msgspec.json.decode(document, type=dict[str, Raw]).keys()
        if others := keys - ENVELOPE_KEYS:
            names = ", ".join(map(repr, sorted(others)))
            raise one_object(f"an object with {names} beside a list {'.'.join(path)!r}", path)
        return records

    return checked
