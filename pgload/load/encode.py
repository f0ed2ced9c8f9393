"""Raw records → rows, with as little Python as possible for each record and none for each field.

A record is split into its values' JSON text (*tokens*) in the order of the table's columns; msgspec
does that without decoding them. Joined by a control character, which JSON text cannot hold
unescaped, the tokens of many records are one byte string that is searched and changed as a whole:
where no value is nested and none has a backslash, deleting every `"` makes COPY text of it. Only
records for which that would be wrong are decoded value by value.

What a value becomes is the same for every method: a string its characters; a number, a boolean and
a nested value their JSON text, as in `json_to_recordset`; null, a missing field and the empty
string NULL. A json or jsonb column gets the JSON text of every other value, as `->` returns it. Of
a field that a record has twice the last value counts, as for all of PostgreSQL's JSON functions.
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

SEPARATOR = b"\x1f"  # between the tokens of a record
EMPTY = b'""'
NULLS = (EMPTY, b"null")  # tokens that become NULL

# A string that stands for the token of a json column; JSON text cannot hold the character either.
_PLACEHOLDER = b"\x1d"
_PLACEHOLDER_TOKEN = b'"\x1d"'
_NULL_TOKEN = re.compile(rb"(?<![^\x1f\n])null(?![^\x1f\n])")
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Tokens = Sequence[bytes | Raw]
Values = list[str | None]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How a method writes rows as bytes. A line is a record's tokens between `SEPARATOR`s."""

    # Plain lines (see `is_plain`) → rows. Takes them joined by `between` and one by one, and the
    # number of tokens that they hold in all.
    plain_rows: Callable[[bytes, list[bytes], int], bytes]
    row: Callable[[Values], bytes]  # the values of a record → its row
    json: Callable[[bytes], bytes]  # a token of a json column → what replaces its placeholder
    between: bytes  # two rows, and two lines


class RowEncoder:
    """Encodes batches as rows of the given columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self.json_columns = [n for n, column in enumerate(columns) if column.type in JSON_TYPES]
        # Empty strings that are kept are told from NULL value by value, never in plain lines.
        self.keeps_empty = [n for n, column in enumerate(columns) if column.keep_empty]
        self._tokens = _tokenizer(columns)
        self._decode_string = msgspec.json.Decoder(str).decode

    def tokens(self, batch: Batch) -> list[Tokens]:
        """The tokens of each record. Raises `RecordError` for one that cannot be decoded."""
        try:
            return list(self._tokens(batch.records))
        except DECODE_ERRORS:
            for number, record in zip(batch.numbers, batch.records, strict=True):
                try:
                    list(self._tokens([record]))
                except DECODE_ERRORS as error:
                    raise record_error(batch.path, number, record, error) from None
            raise

    def encode(self, batch: Batch, row_format: RowFormat) -> bytes:
        """The batch as rows. Raises `RecordError` for a record that cannot become a row."""
        if self.keeps_empty:
            self.tokens(batch)  # raises for the first record that cannot be decoded
            rows = [row_format.row(self.values(batch, n)) for n in range(len(batch.records))]
            return row_format.between.join(rows)
        lines, json_tokens = self._lines(batch)
        text = row_format.between.join(lines)
        if is_plain(text):
            return self._plain_rows(text, lines, json_tokens, row_format)
        pieces: list[bytes] = []
        for plain, group in groupby(range(len(lines)), lambda n: is_plain(lines[n])):
            numbers = list(group)
            if plain:  # neighbours at once
                part = slice(numbers[0], numbers[-1] + 1)
                text = row_format.between.join(lines[part])
                pieces.append(self._plain_rows(text, lines[part], json_tokens[part], row_format))
            else:
                pieces += [row_format.row(self.values(batch, n)) for n in numbers]
        return row_format.between.join(pieces)

    def tuples(self, batch: Batch) -> Iterator[Values]:
        """The rows as Python strings, for a driver that adapts parameters itself."""
        for n, tokens in enumerate(self.tokens(batch)):
            line = SEPARATOR.join(tokens)
            if not self.json_columns and not self.keeps_empty and is_plain(line):
                try:
                    text = without_quotes(line, len(tokens)).decode()
                    yield [value or None for value in text.split("\x1f")]
                    continue
                except UnicodeDecodeError:
                    pass  # `values` raises for the field
            yield self.values(batch, n)

    def values(self, batch: Batch, n: int) -> Values:
        """The values of the batch's `n`-th record (from 0), decoded one by one.

        Raises `RecordError` for a value that PostgreSQL's text cannot hold.
        """
        (tokens,) = self._tokens([batch.records[n]])
        pairs = zip(self._columns, tokens, strict=True)
        return [self._value(batch, n, column, bytes(token)) for column, token in pairs]

    def column_values(self, batch: Batch, n: int, tokens: Tokens) -> Values:
        """The values of the `n`-th column (from 0) from its tokens in all records of the batch.

        Raises `RecordError` as `values` does.
        """
        column = self._columns[n]
        return [
            self._value(batch, record, column, bytes(token)) for record, token in enumerate(tokens)
        ]

    def check(self, batch: Batch) -> None:
        """Raise `RecordError` for the first record that PostgreSQL's text cannot hold."""
        self.tokens(batch)
        for n in range(len(batch.records)):
            self.values(batch, n)

    def _plain_rows(
        self,
        text: bytes,
        lines: list[bytes],
        json_tokens: list[list[bytes]],
        row_format: RowFormat,
    ) -> bytes:
        rows = row_format.plain_rows(text, lines, len(lines) * len(self._columns))
        return _with_json(rows, json_tokens, row_format.json) if json_tokens else rows

    def _lines(self, batch: Batch) -> tuple[list[bytes], list[list[bytes]]]:
        """The line of each record, and the tokens that its placeholders stand for, if any."""
        if self.json_columns:
            tokens, json_tokens = self._with_placeholders(self.tokens(batch))
            return list(map(SEPARATOR.join, tokens)), json_tokens
        try:  # record by record, without holding all their tokens
            return list(map(SEPARATOR.join, self._tokens(batch.records))), []
        except DECODE_ERRORS:
            self.tokens(batch)  # raises for the record
            raise

    def _with_placeholders(self, tokens: list[Tokens]) -> tuple[list[Tokens], list[list[bytes]]]:
        """The tokens with placeholders for those of json columns, and these by record."""
        replaced, json_tokens = list[Tokens](), list[list[bytes]]()
        for record in map(list, tokens):
            json_tokens.append([])
            for n in self.json_columns:
                token = bytes(record[n])
                if token not in NULLS:
                    json_tokens[-1].append(token)
                    record[n] = _PLACEHOLDER_TOKEN
            replaced.append(record)
        return replaced, json_tokens

    def _value(self, batch: Batch, n: int, column: Column, token: bytes) -> str | None:
        try:
            value = self._decode(token, column)
            if value is not None and "\0" in value:
                raise ValueError("holds \\u0000, which PostgreSQL's text cannot hold")
            return value
        except ValueError as error:  # the base of msgspec's and Unicode's errors
            raise field_error(
                batch.path, batch.numbers[n], column.source, column.name, token, error
            ) from None

    def _decode(self, token: bytes, column: Column) -> str | None:
        if token in NULLS:
            return "" if column.keep_empty and token == EMPTY else None
        if column.type == "jsonb" and b"\\u" in token:  # json takes any escape
            if _ESCAPED_NUL.search(token):
                raise ValueError("holds \\u0000, which jsonb cannot hold")
            msgspec.json.decode(token)  # raises for half of a surrogate pair
        if token.startswith(b'"') and column.type not in JSON_TYPES:
            return self._decode_string(token)
        return token.decode()


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


def _with_json(
    text: bytes, json_tokens: Iterable[Iterable[bytes]], encode: Callable[[bytes], bytes]
) -> bytes:
    """The text with the encoded tokens in place of its placeholders, in order."""
    before, *after = text.split(_PLACEHOLDER)
    tokens = [encode(token) for record in json_tokens for token in record]
    pairs = zip(tokens, after, strict=True)
    return b"".join([before, *[piece for pair in pairs for piece in pair]])


def _tokenizer(columns: Sequence[Column]) -> Callable[[Iterable[Raw]], Iterator[Tokens]]:
    """A function from records to the tokens of the columns' fields, one of NULL if missing."""
    names = [column.source for column in columns]
    missing = [Raw(b"null" if column.keep_empty else EMPTY) for column in columns]
    needs_escapes = any(char in '"\\' or char < " " for name in names for char in name)
    if needs_escapes or len(set(names)) < len(names):  # msgspec's Structs refuse both
        decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
        defaults = list(zip(names, missing, strict=True))

        def tokens_by_name(records: Iterable[Raw]) -> Iterator[Tokens]:
            for fields in map(decode_fields, records):
                yield tuple([fields.get(name, default) for name, default in defaults])

        return tokens_by_name

    renamed = {f"c{n}": name for n, name in enumerate(names)}
    fields = [(c, Raw, default) for c, default in zip(renamed, missing, strict=True)]
    record = msgspec.defstruct("Record", fields, rename=renamed, gc=False)
    decode = msgspec.json.Decoder(record).decode
    return lambda records: map(astuple, map(decode, records))
