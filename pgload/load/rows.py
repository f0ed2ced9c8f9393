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
from itertools import groupby

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from pgload.source.files import Batch
from pgload.source.record import DECODE_ERRORS, field_error, record_error
from pgload.source.tables import JSON_TYPES, Column

SEPARATOR = b"\x1f"

_NULL = re.compile(rb"(?<![^\x1f\n])null(?![^\x1f\n])")

Values = list[str | None]
Tokens = tuple[bytes | Raw, ...]


class Rows:
    """Turns batches into rows of the given columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._has_json = any(column.type in JSON_TYPES for column in columns)
        self._tokens = _tokens_of([column.source for column in columns])
        self._decode_string = msgspec.json.Decoder(str).decode

    def lines(self, batch: Batch) -> list[bytes]:
        """One line of tokens for each record, between `SEPARATOR`s."""
        return [SEPARATOR.join(tokens) for tokens in self.tokens(batch)]

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

    def encode(
        self,
        batch: Batch,
        *,
        bulk: Callable[[bytes, int], bytes],
        one: Callable[[Values], bytes],
        between: bytes,
    ) -> bytes:
        """The whole batch in a method's own notation.

        `bulk` changes plain lines, which hold so many tokens; `one` makes a row from values; rows
        are joined by `between`.
        """
        lines = self.lines(batch)
        is_plain = self.plainness(lines)
        width = len(self._columns)
        if is_plain is None:
            return bulk(b"\n".join(lines), len(lines) * width)
        pieces: list[bytes] = []
        # Neighbours that are plain stay together.
        for plain, group in groupby(range(len(lines)), lambda n: is_plain(lines[n])):
            numbers = list(group)
            if plain:
                text = b"\n".join([lines[n] for n in numbers])
                pieces.append(bulk(text, len(numbers) * width))
            else:
                pieces += [one(self.values(batch, n, lines[n])) for n in numbers]
        return between.join(pieces)

    def tuples(self, batch: Batch) -> Iterator[Values]:
        """The rows as Python strings, for drivers that adapt parameters by themselves."""
        lines = self.lines(batch)
        is_plain = self.plainness(lines)
        for n, line in enumerate(lines):
            if is_plain is None or is_plain(line):
                try:
                    text = without_quotes(line, len(self._columns)).decode()
                    yield [value or None for value in text.split("\x1f")]
                    continue
                except UnicodeDecodeError:
                    pass
            yield self.values(batch, n, line)

    def values(self, batch: Batch, n: int, line: bytes) -> Values:
        """The values of the batch's `n`-th record, decoded one by one.

        Raises `RecordError` for a value that PostgreSQL's text cannot hold.
        """
        values: Values = []
        for column, token in zip(self._columns, line.split(SEPARATOR), strict=True):
            try:
                value = self._value(token, column)
                if value is not None and "\0" in value:
                    raise ValueError("holds \\u0000, which PostgreSQL's text cannot hold")
            except ValueError as error:  # msgspec's and Unicode's errors are ValueErrors, too
                number = batch.first_record + n
                raise field_error(
                    batch.path, number, column.source, column.name, token, error
                ) from None
            values.append(value)
        return values

    def check(self, batch: Batch) -> None:
        """Raise `RecordError` for the first record that PostgreSQL's text cannot hold."""
        for n, line in enumerate(self.lines(batch)):
            self.values(batch, n, line)

    def _value(self, token: bytes, column: Column) -> str | None:
        if token in (b'""', b"null"):
            return None
        if token.startswith(b'"') and column.type not in JSON_TYPES:
            return self._decode_string(token)
        return token.decode()

    def plainness(self, lines: Sequence[bytes]) -> Callable[[bytes], bool] | None:
        """A test whether each `"` in a line only begins or ends a string; None when all are so."""
        if self._has_json:
            return lambda _: False
        text = b"\n".join(lines)
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
    if any(char in '"\\' or char < " " for name in names for char in name):
        # msgspec's Structs refuse such names.
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
    """Whether a token begins with that byte."""
    at = text.find(first)
    while at > 0 and text[at - 1] not in b"\x1f\n":
        at = text.find(first, at + 1)
    return at >= 0
