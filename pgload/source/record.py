"""What is wrong with a record that cannot be read, in words that say how to mend it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from msgspec import Raw

from pgload.errors import RecordError

# What msgspec raises for a record. A field that is given twice is no error: the last one counts,
# as it does for PostgreSQL's own JSON functions.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
SHOWN = 60  # bytes of a record that are shown


def record_error(path: Path, number: int, record: Raw, error: Exception) -> RecordError:
    """The error for the file's `number`-th record, at which msgspec raised `error`."""
    reason = _reason(bytes(record), error)
    return RecordError(
        f"{path.name}: record {number}: {reason}; mend or remove the record",
        path=path,
        record=number,
        reason=reason,
    )


def field_error(
    path: Path, number: int, field: str, column: str, token: bytes, error: ValueError
) -> RecordError:
    """The error for the value of one field."""
    reason = no_utf8(token) if isinstance(error, UnicodeDecodeError) else str(error)
    return RecordError(
        f'{path.name}: record {number}: field "{field}" {reason}; mend or remove the record',
        path=path,
        record=number,
        field=field,
        column=column,
        reason=reason,
    )


def no_utf8(text: bytes) -> str:
    """Why bytes that are no UTF-8 are refused, with the encoding that they seem to be in."""
    try:
        text.decode("cp949")
    except UnicodeDecodeError:
        return "is not UTF-8; convert the file to UTF-8 first"
    return "is not UTF-8 but seems to be CP949; convert the file (iconv -f CP949 -t UTF-8)"


def _reason(text: bytes, error: Exception) -> str:
    try:
        chars = text.decode()
    except UnicodeDecodeError:
        return no_utf8(text)
    if isinstance(error, RecursionError):
        return "is nested too deeply to be read"
    if isinstance(error, msgspec.ValidationError):
        return f"{text[:SHOWN].decode(errors='replace')!r} is no JSON object"
    # Python's own parser takes more than JSON allows. What it takes tells what the fault is.
    constants: list[str] = []
    try:
        json.loads(chars, parse_constant=constants.append, strict=False)
    except (ValueError, RecursionError):
        return str(error)
    if constants:
        return f"holds {constants[0]}, which is no JSON: null would be"
    try:
        json.loads(chars)
    except ValueError:
        return "holds a control character that is not escaped"
    return "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
