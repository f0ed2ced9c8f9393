"""Raw records → rows, with as little Python as possible for each record and none for each field.

A record is taken apart into its values' JSON text (*tokens*) in the order of the table's columns;
msgspec does that without decoding them. Joined by a control character, which JSON text cannot hold
unescaped, the tokens of a whole batch are one byte string that is searched and changed in bulk: a
batch without a backslash and without nested values becomes COPY text by deleting every `"`. Only a
record for which that would be wrong is taken apart in Python (`values`).

What a value becomes is the same for every method: a string its characters; a number, a boolean and
a nested value their JSON text, as in `json_to_recordset`; null, a missing field and the empty
string NULL. A json or jsonb column gets the JSON text of every other value, as `->` gives it. Of a
field that a record has twice the last value counts, as for all of PostgreSQL's JSON functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from pgload.schema.table import JSON_TYPES, Column
from pgload.source.reader import Batch
from pgload.source.scan import DECODE_ERRORS, field_error, record_error

SEPARATOR = b"\x1f"

EMPTY = b'""'
NOTHING = (EMPTY, b"null")
_MARK = b"\x1d"  # another character that JSON text cannot hold
_MARK_TOKEN = b'"\x1d"'
_NULL = re.compile(rb"(?<![^\x1f\n])null(?![^\x1f\n])")

_NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Values = list[str | None]
Tokens = Sequence[bytes | Raw]


@dataclass(frozen=True, slots=True)
class Notation:
    """How a method writes rows down."""

    # Plain lines, joined and one by one, which hold so many tokens in all.
    plain: Callable[[bytes, list[bytes], int], bytes]
    one: Callable[[Values], bytes]  # a row of values
    json: Callable[[bytes], bytes]  # JSON text within a string
    between: bytes  # two rows, and two plain lines


class Rows:
    """Turns batches into rows of the given columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self.json_at = [n for n, column in enumerate(columns) if column.type in JSON_TYPES]
        self._tokens = _tokens_of([column.source for column in columns])
        self._decode_string = msgspec.json.Decoder(str).decode

    def tokens(self, batch: Batch) -> list[Tokens]:
        """The tokens of each record."""
        try:
            return list(self._tokens(batch.records))
        except DECODE_ERRORS:
            for number, record in enumerate(batch.records, batch.first_record):
                try:
                    list(self._tokens([record]))
                except DECODE_ERRORS as error:
                    raise record_error(batch.path, number, record, error) from None
            raise

    def encode(self, batch: Batch, notation: Notation) -> bytes:
        """The whole batch in a method's own notation."""
        lines, taken = self._lines(batch)
        text = notation.between.join(lines)
        is_plain = plainness(text)
        if is_plain is None:
            return self._plain(text, lines, taken, notation)
        pieces: list[bytes] = []
        # Neighbours that are plain stay together.
        for plain, group in groupby(range(len(lines)), lambda n: is_plain(lines[n])):
            numbers = list(group)
            if plain:
                some = slice(numbers[0], numbers[-1] + 1)
                text = notation.between.join(lines[some])
                pieces.append(self._plain(text, lines[some], taken[some], notation))
            else:
                pieces += [notation.one(self.values(batch, n)) for n in numbers]
        return notation.between.join(pieces)

    def _plain(
        self, text: bytes, lines: list[bytes], taken: list[list[bytes]], notation: Notation
    ) -> bytes:
        done = notation.plain(text, lines, len(lines) * len(self._columns))
        return _with_json(done, taken, notation.json) if taken else done

    def _lines(self, batch: Batch) -> tuple[list[bytes], list[list[bytes]]]:
        """A line of tokens for each record, between `SEPARATOR`s; and what was taken out of it."""
        if self.json_at:
            tokens, taken = self._without_json(self.tokens(batch))
            return list(map(SEPARATOR.join, tokens)), taken
        try:  # record by record, without holding all their tokens
            return list(map(SEPARATOR.join, self._tokens(batch.records))), []
        except DECODE_ERRORS:
            self.tokens(batch)  # says which record
            raise

    def _without_json(self, tokens: list[Tokens]) -> tuple[list[Tokens], list[list[bytes]]]:
        """The tokens with a mark for those of json columns, and these by record."""
        marked, taken = list[Tokens](), list[list[bytes]]()
        for record in map(list, tokens):
            taken.append([])
            for n in self.json_at:
                token = bytes(record[n])
                if token not in NOTHING:
                    taken[-1].append(token)
                    record[n] = _MARK_TOKEN
            marked.append(record)
        return marked, taken

    def tuples(self, batch: Batch) -> Iterator[Values]:
        """The rows as Python strings, for drivers that adapt parameters by themselves."""
        for n, tokens in enumerate(self.tokens(batch)):
            line = SEPARATOR.join(tokens)
            if not self.json_at and plainness(line) is None:
                try:
                    text = without_quotes(line, len(tokens)).decode()
                    yield [value or None for value in text.split("\x1f")]
                    continue
                except UnicodeDecodeError:
                    pass
            yield self.values(batch, n)

    def values(self, batch: Batch, n: int) -> Values:
        """The values of the batch's `n`-th record, decoded one by one.

        Raises `RecordError` for a value that PostgreSQL's text cannot hold.
        """
        (tokens,) = self._tokens([batch.records[n]])
        pairs = zip(self._columns, tokens, strict=True)
        return [self._value(batch, n, column, bytes(token)) for column, token in pairs]

    def column(self, batch: Batch, at: int, tokens: Tokens) -> Values:
        """The values of the column `at` of all records. Raises `RecordError` as `values` does."""
        column = self._columns[at]
        return [self._value(batch, n, column, bytes(token)) for n, token in enumerate(tokens)]

    def check(self, batch: Batch) -> None:
        """Raise `RecordError` for the first record that PostgreSQL's text cannot hold."""
        self.tokens(batch)
        for n in range(len(batch.records)):
            self.values(batch, n)

    def _value(self, batch: Batch, n: int, column: Column, token: bytes) -> str | None:
        try:
            value = self._decode(token, column)
            if value is not None and "\0" in value:
                raise ValueError("holds \\u0000, which PostgreSQL's text cannot hold")
            return value
        except ValueError as error:  # msgspec's and Unicode's errors are ValueErrors, too
            number = batch.first_record + n
            raise field_error(
                batch.path, number, column.source, column.name, token, error
            ) from None

    def _decode(self, token: bytes, column: Column) -> str | None:
        if token in NOTHING:
            return None
        if column.type == "jsonb" and b"\\u" in token:  # json takes any escape
            if _NUL_IN_JSON.search(token):
                raise ValueError("holds \\u0000, which jsonb cannot hold")
            msgspec.json.decode(token)  # raises for half a surrogate pair
        if token.startswith(b'"') and column.type not in JSON_TYPES:
            return self._decode_string(token)
        return token.decode()


def _with_json(
    text: bytes, taken: Iterable[Iterable[bytes]], encode: Callable[[bytes], bytes]
) -> bytes:
    """The text with JSON in place of its marks, in order."""
    before, *after = text.split(_MARK)
    tokens = [encode(token) for record in taken for token in record]
    pairs = zip(tokens, after, strict=True)
    return b"".join([before, *[piece for pair in pairs for piece in pair]])


def plainness(text: bytes) -> Callable[[bytes], bool] | None:
    """A test whether each `"` in a line only begins or ends a string; None when all are so."""
    if _has_token(text, b"{") or _has_token(text, b"["):
        return lambda line: (
            b"\\" not in line and not _has_token(line, b"{") and not _has_token(line, b"[")
        )
    if b"\\" in text:
        return lambda line: b"\\" not in line
    return None


def without_quotes(text: bytes, tokens: int) -> bytes:
    """Plain lines of so many tokens without the strings' quotes, and with nothing for null."""
    stripped = text.translate(None, b'"')
    if len(text) - len(stripped) == 2 * tokens:  # all are strings, there is no null
        return stripped
    return _NULL.sub(b"", text).translate(None, b'"')


def all_in_quotes(text: bytes, tokens: int) -> bytes:
    """Plain lines of so many tokens, each of them in quotes: `"1.5"` for 1.5, `""` for null."""
    if text.count(b'"') == 2 * tokens:
        return text
    bare = without_quotes(text, tokens)
    return b'"' + bare.replace(SEPARATOR, b'"\x1f"').replace(b"\n", b'"\n"') + b'"'


def _tokens_of(
    names: Sequence[str],
) -> Callable[[Iterable[Raw]], Iterator[Tokens]]:
    """A function from records to the tokens of the named fields, `""` for a missing one."""
    missing = Raw(b'""')
    odd = any(char in '"\\' or char < " " for name in names for char in name)
    if odd or len(set(names)) < len(names):  # msgspec's Structs refuse both
        fields_of = msgspec.json.Decoder(dict[str, Raw]).decode

        def by_name(records: Iterable[Raw]) -> Iterator[Tokens]:
            for fields in map(fields_of, records):
                yield tuple([fields.get(name, missing) for name in names])

        return by_name

    renamed = {f"c{n}": name for n, name in enumerate(names)}
    record = msgspec.defstruct(
        "Record", [(c, Raw, missing) for c in renamed], rename=renamed, gc=False
    )
    decode = msgspec.json.Decoder(record).decode
    return lambda records: map(astuple, map(decode, records))


def _has_token(text: bytes, first: bytes) -> bool:
    """Whether a token begins with that byte, or might: a string may hold what ends a line."""
    at = text.find(first)
    while at > 0 and text[at - 1] not in b"\x1f\n" and not text.endswith(b"),(", 0, at):
        at = text.find(first, at + 1)
    return at >= 0
