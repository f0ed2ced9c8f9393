"""One pass over a file before anything is written: its fields, their types, and its faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Raw

from pgload.errors import RecordError, SourceError
from pgload.source.reader import Format, read_windows
from pgload.source.stores import Source, source_of

BIGINT_DIGITS = 20  # the longest bigint, with its sign
MAX_OFFSET = timedelta(hours=16)  # from UTC, for PostgreSQL
CHUNK = 100  # records between two looks at whether the decoder has to be made again
SPARSE = 3  # fields for each that a record has, from which on none is made
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
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode

# What is known of a field's values: that they are text, null or empty; text, among others; null or
# empty; or of types that have to be looked at.
_Kind = Literal["text", "mixed", "empty", "open"]
_TYPES: dict[_Kind, Any] = {
    "text": str | None,
    "mixed": Raw,
    "empty": Literal[""] | None,
    "open": Raw,
}
_CHECKED: set[_Kind] = {"text", "empty"}  # whose values msgspec checks to be UTF-8


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
    source = source_of(file)
    finder = FieldFinder(source.path, infer=infer)
    records = size = unreadable = 0
    first_error: RecordError | None = None
    with source.opened(hashing=True) as stream:
        for window in read_windows(source, stream, form):
            found = window.records
            for error in finder.add(found, first=records + 1):
                first_error, unreadable = first_error or error, unreadable + 1
                if unreadable == HOPELESS and not finder.fields:
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
        fields=finder.fields,
        unreadable=unreadable,
        first_error=first_error,
    )


def fields_of(path: Path, records: Iterable[Raw], *, infer: bool = True) -> Fields:
    """The fields of a file's records. Raises `RecordError` for the first that cannot be read."""
    finder = FieldFinder(path, infer=infer)
    for error in finder.add(records):
        raise error
    return finder.fields


class FieldFinder:
    """Gathers the `fields` of a file's records and, with `infer`, the types of their values.

    msgspec checks at once that a record shows nothing new: its fields are known, and each holds
    what is known of it already. Any other record is looked at field by field.
    """

    def __init__(self, path: Path, *, infer: bool) -> None:
        self.fields = Fields()
        self._path = path
        self._infer = infer
        self._mixed: set[str] = set()  # fields of text that hold something else, too
        self._kinds: list[_Kind] = []  # of the fields that `_decode` knows
        self._decode: Callable[[Raw], Any] | None = None
        self._looked_at = self._found = 0  # records looked at field by field, and their fields
        self._open: list[tuple[str, str]] = []  # fields and attributes whose types `_decode` leaves

    def add(self, records: Iterable[Raw], *, first: int = 1) -> Iterator[RecordError]:
        """Add the fields of consecutive records; yields an error for each that cannot be read.

        `first` is the number of the first record. Raises `SourceError` for a field's name that is
        not UTF-8: it would be taken for another field, whose values would be lost.
        """
        numbered = enumerate(records, first)
        while chunk := list(islice(numbered, CHUNK)):
            self._update_decoder()
            decode, has_raw = self._decode, not _CHECKED.issuperset(self._kinds)
            for number, record in chunk:
                if decode:
                    try:
                        values = decode(record)
                        if has_raw:
                            str(record, "utf-8")
                    except DECODE_ERRORS:
                        pass  # it is looked at below
                    else:
                        self._add_types(values)
                        continue
                if error := self._add_record(number, record):
                    yield error

    def _add_types(self, values: Any) -> None:
        """Add the types of the values that the decoder left as they are."""
        for name, attribute in self._open:
            types, token = self.fields[name], getattr(values, attribute)
            if token is not None and self._shows_type(types):
                types.add(type_of(bytes(token)))

    def _update_decoder(self) -> None:
        """Make a decoder that accepts records which show nothing new."""
        if not self._found or len(self.fields) * self._looked_at > SPARSE * self._found:
            self._decode = None  # records that have few of the fields: a search for each takes long
            return
        kinds = [self._kind(name, types) for name, types in self.fields.items()]
        if self._decode and kinds == self._kinds:
            return
        self._kinds = kinds
        types = [_TYPES[kind] for kind in kinds]
        record = record_type(self.fields, types, [None] * len(types), closed=True)
        self._decode = record and msgspec.json.Decoder(record).decode
        self._open = [(name, f"c{n}") for n, name in enumerate(self.fields) if kinds[n] == "open"]

    def _kind(self, name: str, types: set[str]) -> _Kind:
        if name in self._mixed:
            return "mixed"
        if not self._shows_type(types):
            return "text"
        return "empty" if types == {""} else "open"

    def _shows_type(self, types: set[str]) -> bool:
        """Whether another value of a field may change its type: text stays text."""
        return self._infer and "text" not in types

    def _add_record(self, number: int, record: Raw) -> RecordError | None:
        """Add the fields of one record; gives the error if it cannot be read."""
        try:
            found = _decode_fields(record)
            str(record, "utf-8")  # msgspec checks names only
        except DECODE_ERRORS as error:
            if isinstance(error, UnicodeDecodeError) and not _names_are_utf8(record):
                reason = explain_encoding(bytes(record))
                raise SourceError(
                    f"{self._path.name}: record {number}: a field's name {reason}"
                ) from None
            return record_error(self._path, number, record, error)
        self._looked_at += 1
        self._found += len(found)
        fields, infer = self.fields, self._infer
        if not found.keys() <= fields.keys():
            fields |= {name: set() for name in found if name not in fields}
        for name, value in found.items() if infer or self._decode else ():
            if infer and "text" not in (types := fields[name]):
                types.add(type_of(bytes(value)))
            elif self._decode and (token := bytes(value))[:1] != b'"' and token != b"null":
                self._mixed.add(name)
        return None


def record_type(
    names: Iterable[str], types: Iterable[Any], defaults: Iterable[Any], *, closed: bool = False
) -> type[msgspec.Struct] | None:
    """A Struct type of records with fields of these names, as the attributes c0, c1, …

    None for names that msgspec takes for no field: those with escapes, and one that occurs twice.
    """
    names = list(names)
    if len(set(names)) < len(names) or any(c in '"\\' or c < " " for name in names for c in name):
        return None
    attributes = [f"c{n}" for n in range(len(names))]
    return msgspec.defstruct(
        "Record",
        list(zip(attributes, types, defaults, strict=True)),
        rename=dict(zip(attributes, names, strict=True)),
        gc=False,
        forbid_unknown_fields=closed,
    )


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
        _decode_fields(record)
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
