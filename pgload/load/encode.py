"""Raw records → rows, with as little Python as possible for each record and none for each field.

A record is split into its values' JSON text (*tokens*) in the order of the file's fields; msgspec
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
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pgload.load.tokens import (
    EMPTY,
    NULLS,
    ORDER_RECORDS,
    SEPARATOR,
    Tokens,
    are_null,
    in_file_order,
    is_plain,
    tokenizer,
    without_quotes,
)
from pgload.schema.table import JSON_TYPES, Column
from pgload.source.reader import Batch
from pgload.source.scan import DECODE_ERRORS, field_error, record_error

RECORDS_AT_ONCE = 10  # whose tokens are held together; more would not stay in the cache

# A string that stands for the token of a json column; JSON text cannot hold the character either.
_PLACEHOLDER = b"\x1d"
_PLACEHOLDER_TOKEN = b'"\x1d"'
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Values = list[str | None]
Picker = Callable[[Sequence[Any]], Sequence[Any]]  # takes some items of a sequence, as `itemgetter`


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How a method writes rows as bytes. A line is a record's tokens between `SEPARATOR`s."""

    # Plain lines (see `is_plain`) → rows. Takes them joined by `between` and one by one, and the
    # number of tokens that they hold in all.
    plain_rows: Callable[[bytes, list[bytes], int], bytes]
    row: Callable[[Values], bytes]  # the values of a record → its row
    json: Callable[[bytes], bytes]  # a token of a json column → what replaces its placeholder
    between: bytes  # two rows, and two lines


class TableEncoder:
    """Encodes batches for a table, the columns in the order of the fields in the batch's file.

    msgspec finds a field of a Struct at once where it expects it and searches for it elsewhere,
    which may double the time of decoding. The statements name their columns, so any order will do.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._last: tuple[Path | None, RowEncoder] = (None, RowEncoder(columns))

    def for_batch(self, batch: Batch) -> RowEncoder:
        """The encoder for the batches of a file; the same one while the order is the same."""
        path, encoder = self._last
        if path is not batch.path:
            columns = in_file_order(self._columns, batch.records[:ORDER_RECORDS])
            if columns != encoder.columns:
                encoder = RowEncoder(columns)
            self._last = batch.path, encoder  # at once, as several threads may encode
        return encoder

    def check(self, batch: Batch) -> None:
        """Raise `RecordError` for the first record that PostgreSQL's text cannot hold."""
        self.for_batch(batch).check(batch)


class RowEncoder:
    """Encodes batches as rows of the given columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.json_columns = [n for n, column in enumerate(columns) if column.type in JSON_TYPES]
        self.other_columns = [n for n, column in enumerate(columns) if column.type != "text"]
        # Empty strings that are kept are told from NULL value by value, never in plain lines.
        self.keeps_empty = [n for n, column in enumerate(columns) if column.keep_empty]
        # An INSERT needs one column; one with a default would get that instead of NULL.
        always = [n for n, column in enumerate(columns) if column.default or n == 0]
        self._written = _Written.of(always, len(columns))
        self._tokens = tokenizer(columns)
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
        if self.json_columns:
            lines, json_tokens = _with_placeholders(self.tokens(batch), self.json_columns)
            return self._rows(batch, lines, json_tokens, row_format)
        try:  # record by record, without holding all their tokens
            lines = list(map(SEPARATOR.join, self._tokens(batch.records)))
        except DECODE_ERRORS:
            self.tokens(batch)  # raises for the record
            raise
        return self._rows(batch, lines, [], row_format)

    def encode_filled(self, batch: Batch, row_format: RowFormat) -> tuple[Sequence[Column], bytes]:
        """The batch as rows of only those columns that were not NULL in all records so far.

        Gives these columns, too. A column with a default is always among them. They only become
        more, so that a load has few different statements: pg_stat_statements keeps each of them,
        and takes longer for a new one than its columns of NULL do.
        """
        if self.keeps_empty:
            return self.columns, self.encode(batch, row_format)
        written = self._written
        found = self._filled_lines(batch, written)
        if found is None:
            columns = list(zip(*self.tokens(batch), strict=True))
            filled = [n for n in written.others if not are_null(columns[n])]
            written = _Written.of([*written.columns, *filled], len(self.columns))
            self._written = written
            found = self._filled_lines(batch, written)
            assert found is not None
        return written.pick(self.columns), self._rows(batch, *found, row_format, written)

    def _filled_lines(
        self, batch: Batch, written: _Written
    ) -> tuple[list[bytes], list[list[bytes]]] | None:
        """The lines of the columns that are written, and what their placeholders stand for.

        None where another column is not NULL.
        """
        json_columns = [n for n, of in enumerate(written.columns) if of in self.json_columns]
        lines, json_tokens = list[bytes](), list[list[bytes]]()
        for part in batch.parts(RECORDS_AT_ONCE):
            tokens = self.tokens(part)
            if not are_null(chain.from_iterable(map(written.pick_others, tokens))):
                return None
            picked = map(written.pick, tokens)
            if json_columns:
                part_lines, part_json = _with_placeholders(picked, json_columns)
                lines += part_lines
                json_tokens += part_json
            else:
                lines += map(SEPARATOR.join, picked)
        return lines, json_tokens

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
        pairs = zip(self.columns, tokens, strict=True)
        return [self._value(batch, n, column, bytes(token)) for column, token in pairs]

    def column_values(self, batch: Batch, n: int, tokens: Tokens) -> Values:
        """The values of the `n`-th column (from 0) from its tokens in all records of the batch.

        Raises `RecordError` as `values` does.
        """
        column = self.columns[n]
        return [
            self._value(batch, record, column, bytes(token)) for record, token in enumerate(tokens)
        ]

    def check(self, batch: Batch) -> None:
        """Raise `RecordError` for the first record that PostgreSQL's text cannot hold."""
        self.tokens(batch)
        for n in range(len(batch.records)):
            self.values(batch, n)

    def _rows(
        self,
        batch: Batch,
        lines: list[bytes],
        json_tokens: list[list[bytes]],
        row_format: RowFormat,
        written: _Written | None = None,
    ) -> bytes:
        """The rows of lines; `json_tokens` are what their placeholders stand for, by record."""
        width = len(written.columns if written else self.columns)

        def plain(text: bytes, part: slice) -> bytes:
            rows = row_format.plain_rows(text, lines[part], len(lines[part]) * width)
            if not json_tokens:
                return rows
            return _with_json(rows, json_tokens[part], row_format.json)

        text = row_format.between.join(lines)
        if is_plain(text):
            return plain(text, slice(None))
        pieces: list[bytes] = []
        for are_plain, group in groupby(range(len(lines)), lambda n: is_plain(lines[n])):
            numbers = list(group)
            if are_plain:  # neighbours at once
                part = slice(numbers[0], numbers[-1] + 1)
                pieces.append(plain(row_format.between.join(lines[part]), part))
                continue
            for n in numbers:
                values = self.values(batch, n)
                pieces.append(row_format.row(list(written.pick(values)) if written else values))
        return row_format.between.join(pieces)

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


class _Written(NamedTuple):
    """Which columns of a table a statement writes, by their numbers."""

    columns: Sequence[int]
    others: Sequence[int]
    pick: Picker  # the items of these columns
    pick_others: Picker

    @classmethod
    def of(cls, columns: Iterable[int], count: int) -> _Written:
        written = sorted(columns)
        others = sorted(set(range(count)).difference(written))
        return cls(written, others, _picker(written), _picker(others))


def _picker(numbers: Sequence[int]) -> Picker:
    if len(numbers) > 1:
        return itemgetter(*numbers)
    return lambda items: [items[n] for n in numbers]


def _with_placeholders(
    tokens: Iterable[Tokens], json_columns: Sequence[int]
) -> tuple[list[bytes], list[list[bytes]]]:
    """The line of each record with placeholders in the json columns, and what these stand for."""
    lines, json_tokens = list[bytes](), list[list[bytes]]()
    for record in map(list, tokens):
        json_tokens.append([])
        for n in json_columns:
            token = bytes(record[n])
            if token not in NULLS:
                json_tokens[-1].append(token)
                record[n] = _PLACEHOLDER_TOKEN
        lines.append(SEPARATOR.join(record))
    return lines, json_tokens


def _with_json(
    text: bytes, json_tokens: Iterable[Iterable[bytes]], encode: Callable[[bytes], bytes]
) -> bytes:
    """The text with the encoded tokens in place of its placeholders, in order."""
    before, *after = text.split(_PLACEHOLDER)
    tokens = [encode(token) for record in json_tokens for token in record]
    pairs = zip(tokens, after, strict=True)
    return b"".join([before, *[piece for pair in pairs for piece in pair]])
