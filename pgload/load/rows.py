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


class Rows:
    """Turns batches into rows of the given columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._has_json = any(column.type in JSON_TYPES for column in columns)
        self._tokens = _tokens_of([column.source for column in columns])
        self._decode_string = msgspec.json.Decoder(str).decode

    def lines(self, batch: Batch) -> list[bytes]:
        """One line of tokens for each record, between `SEPARATOR`s."""
        try:
            return [SEPARATOR.join(tokens) for tokens in self._tokens(batch.records)]
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
        special: Sequence[bytes] = (),
        bulk: Callable[[bytes], bytes],
        one: Callable[[Values], bytes],
        between: bytes,
    ) -> bytes:
        """The whole batch in a method's own notation.

        `bulk` changes plain lines, `one` makes a row from values; rows are joined by `between`.
        A line with one of the `special` bytes counts as not plain.
        """
        lines = self.lines(batch)
        is_plain = self._plainness(lines, special)
        if is_plain is None:
            return bulk(self._unquoted(lines))
        pieces: list[bytes] = []
        # Neighbours that are plain stay together.
        for plain, numbers in groupby(range(len(lines)), lambda n: is_plain(lines[n])):
            if plain:
                pieces.append(bulk(self._unquoted([lines[n] for n in numbers])))
            else:
                pieces += [one(self.values(batch, n, lines[n])) for n in numbers]
        return between.join(pieces)

    def tuples(self, batch: Batch) -> Iterator[Values]:
        """The rows as Python strings, for drivers that adapt parameters by themselves."""
        lines = self.lines(batch)
        is_plain = self._plainness(lines)
        for n, line in enumerate(lines):
            if is_plain is None or is_plain(line):
                try:
                    text = self._unquoted([line]).decode()
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

    def _plainness(
        self, lines: list[bytes], special: Sequence[bytes] = ()
    ) -> Callable[[bytes], bool] | None:
        """A test whether each `"` in a line only begins or ends a string; None when all are so."""
        text = b"\n".join(lines)
        marks = [mark for mark in (b"\\", *special) if mark in text]
        nested = _has_token(text, b"{") or _has_token(text, b"[")
        if self._has_json:
            return lambda _: False
        if nested:
            return lambda line: (
                not (
                    any(mark in line for mark in marks)
                    or _has_token(line, b"{")
                    or _has_token(line, b"[")
                )
            )
        if marks:
            return lambda line: not any(mark in line for mark in marks)
        return None

    def _unquoted(self, lines: list[bytes]) -> bytes:
        """Plain lines without the quotes of their tokens, and with nothing for null."""
        text = b"\n".join(lines)
        stripped = text.translate(None, b'"')
        if len(text) - len(stripped) == 2 * len(lines) * len(self._columns):
            return stripped  # two quotes for each token: all are strings, there is no null
        return _NULL.sub(b"", text).translate(None, b'"')


def _tokens_of(
    names: Sequence[str],
) -> Callable[[Iterable[Raw]], Iterator[tuple[bytes | Raw, ...]]]:
    """A function from records to the tokens of the named fields, `""` for a missing one."""
    missing = Raw(b'""')
    if any(char in '"\\' or char < " " for name in names for char in name):
        # msgspec's Structs refuse such names.
        fields_of = msgspec.json.Decoder(dict[str, Raw]).decode

        def by_name(records: Iterable[Raw]) -> Iterator[tuple[bytes | Raw, ...]]:
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
