"""One pass over a file before anything is written: its fields, their types, and its faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from pgload.errors import RecordError, SourceError
from pgload.source.reader import Format, read_windows
from pgload.source.stores import Source, source_of

BIGINT_DIGITS = 20  # the longest bigint, with its sign
MAX_OFFSET = timedelta(hours=16)  # from UTC, for PostgreSQL
SHOWN_BYTES = 60  # of a record, in a message
HOPELESS = 10_000  # records; if none of the first ones can be read, the others are not tried
# What msgspec raises for a record. A field that occurs twice is not an error: the last one counts,
# as in PostgreSQL's own JSON functions.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# For each field, in order of appearance, the types of its values, "" for unknown.
Fields = dict[str, set[str]]

_MOMENT = re.compile(
    rb'"\d{4}-\d\d-\d\d'
    rb'(?P<time>[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d(:?\d\d)?)?)?"'
)
_decode = msgspec.json.Decoder(dict[str, Raw]).decode


@dataclass(frozen=True, slots=True)
class Scan:
    """What a file holds; `stamp` and `content` show later whether it is still the same."""

    source: Source
    form: Format | None
    stamp: Any  # of the source
    content: str  # what identifies it: SHA-256 of all that was read, or what the store knows
    records: int
    bytes: int  # of the records' JSON text
    fields: Fields
    unreadable: int  # records among them that cannot be decoded
    first_error: RecordError | None  # of those

    @property
    def path(self) -> Path:
        """What names the file."""
        return self.source.path


def scan(file: Path | Source, *, infer: bool = True, form: Format | None = None) -> Scan:
    """Read a whole file, keeping none of it. With `infer` it gathers the values' types.

    `form` is the format, as for `read_records`.

    A record that cannot be read is counted and skipped. Raises `SourceError` as `read_records`
    does, and for a file of which no record, or none of the first `HOPELESS`, can be read.
    """
    source, fields = source_of(file), Fields()
    records = size = unreadable = 0
    first_error: RecordError | None = None
    with source.opened(hashing=True) as stream:
        for window in read_windows(source, stream, form):
            found = window.records
            for error in add_fields(fields, source.path, found, first=records + 1, infer=infer):
                first_error, unreadable = first_error or error, unreadable + 1
                if unreadable == HOPELESS and not fields:
                    raise SourceError(
                        f"{source.path.name}: none of the first {HOPELESS:,} records can be read: "
                        f"{first_error.reason}"
                    )
            records += len(found)
            size += sum(map(len, found))
        content = source.identity(stream.stamp) or stream.digest()
    if first_error is not None and unreadable == records:
        raise SourceError(f"{source.path.name}: no record can be read: {first_error.reason}")
    return Scan(
        source=source,
        form=form,
        stamp=stream.stamp,
        content=content,
        records=records,
        bytes=size,
        fields=fields,
        unreadable=unreadable,
        first_error=first_error,
    )


def fields_of(path: Path, records: Iterable[Raw], *, infer: bool = True) -> Fields:
    """The fields of a file's records. Raises `RecordError` for the first that cannot be read."""
    fields = Fields()
    for error in add_fields(fields, path, records, infer=infer):
        raise error
    return fields


def add_fields(
    fields: Fields, path: Path, records: Iterable[Raw], *, first: int = 1, infer: bool
) -> Iterator[RecordError]:
    """Add the fields of consecutive records; yields an error for each that cannot be read.

    `first` is the number of the first record. Raises `SourceError` for a field's name that is not
    UTF-8: it would be taken for another field, whose values would be lost.
    """
    open_fields = [name for name, types in fields.items() if "text" not in types]
    for number, record in enumerate(records, first):
        try:
            found = _decode(record)
            str(record, "utf-8")  # msgspec checks names only
        except DECODE_ERRORS as error:
            if isinstance(error, UnicodeDecodeError) and not _names_are_utf8(record):
                reason = explain_encoding(bytes(record))
                raise SourceError(
                    f"{path.name}: record {number}: a field's name {reason}"
                ) from None
            yield record_error(path, number, record, error)
            continue
        if not found.keys() <= fields.keys():
            new = [name for name in found if name not in fields]
            fields |= {name: set() for name in new}
            open_fields += new
        if infer and open_fields:
            for name in open_fields:
                if name in found:
                    fields[name].add(type_of(bytes(found[name])))
            # A column with one text in it is text, even if it holds other types.
            open_fields = [name for name in open_fields if "text" not in fields[name]]


def type_of(token: bytes) -> str:
    """The PostgreSQL type of one JSON value; "" for null and "", which do not show one."""
    first = token[:1]
    if token in (b"null", b'""'):
        return ""
    if first == b'"':
        return _type_of_string(token)
    if first in b"tf":
        return "boolean"
    if first in b"[{":
        return "jsonb"
    whole = len(token) <= BIGINT_DIGITS and token.lstrip(b"-").isdigit()
    return "bigint" if whole and -(2**63) <= int(token) < 2**63 else "numeric"


def _type_of_string(token: bytes) -> str:
    """The type of an ISO 8601 date or time that PostgreSQL takes without a loss; text otherwise."""
    found = _MOMENT.fullmatch(token)
    if found is None:
        return "text"
    try:
        offset = datetime.fromisoformat(token[1:-1].decode()).utcoffset()
    except ValueError:  # such as February 30
        return "text"
    if offset is not None and abs(offset) >= MAX_OFFSET:
        return "text"
    if found["time"] is None:
        return "date"
    return "timestamptz" if found["zone"] else "timestamp"


def record_error(path: Path, number: int, record: Raw, error: Exception) -> RecordError:
    """The error for the file's `number`-th record, for which msgspec raised `error`."""
    reason = _reason(bytes(record), error)
    return RecordError(
        f"{path.name}: record {number}: {reason}; fix or remove the record",
        path=path,
        record=number,
        reason=reason,
    )


def field_error(
    path: Path, number: int, field: str, column: str, token: bytes, error: ValueError
) -> RecordError:
    """The error for the value of one field of the file's `number`-th record."""
    reason = explain_encoding(token) if isinstance(error, UnicodeDecodeError) else str(error)
    return RecordError(
        f'{path.name}: record {number}: field "{field}" {reason}; fix or remove the record',
        path=path,
        record=number,
        field=field,
        column=column,
        reason=reason,
    )


def explain_encoding(text: bytes) -> str:
    """What is wrong with text that is not UTF-8, with the encoding that it may have."""
    try:
        text.decode("cp949")
    except UnicodeDecodeError:
        return "is not UTF-8; convert the file to UTF-8 first"
    return "is not UTF-8 but seems to be CP949; convert the file (iconv -f CP949 -t UTF-8)"


def _names_are_utf8(record: Raw) -> bool:
    try:
        _decode(record)
    except UnicodeDecodeError:
        return False
    return True


def _reason(text: bytes, error: Exception) -> str:
    try:
        chars = text.decode()
    except UnicodeDecodeError:
        return explain_encoding(text)
    if isinstance(error, RecursionError):
        return "is nested too deeply to be read"
    if isinstance(error, msgspec.ValidationError):
        return f"{text[:SHOWN_BYTES].decode(errors='replace')!r} is not a JSON object"
    # Python's own parser accepts more than JSON allows: what it accepts shows what is wrong.
    constants: list[str] = []
    try:
        json.loads(chars, parse_constant=constants.append, strict=False)
    except (ValueError, RecursionError):
        return str(error)
    if constants:
        return f"holds {constants[0]}, which is not JSON: use null"
    try:
        json.loads(chars)
    except ValueError:
        return "holds a control character that is not escaped"
    return "holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
