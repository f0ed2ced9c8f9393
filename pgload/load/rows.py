"""Raw records → rows, with as little Python as possible for each record and none for each field.

A record is taken apart into its values' JSON text (*tokens*) in the order of the table's columns;
msgspec does that without decoding them. Joined by a control character, which JSON text cannot hold
unescaped, the tokens of a whole batch are one byte string that is searched and changed in bulk: a
batch without a backslash and without nested values becomes COPY text by deleting every `"`. Only a
record for which that would be wrong is taken apart in Python (`values`).

What a value becomes is the same for every method, and the same as in `json_to_recordset`: a string
its characters; a number, a boolean and a nested value their JSON text; null, a missing field and
the empty string NULL. A json or jsonb column keeps the JSON text of every other value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from pgload.errors import RecordError
from pgload.source.files import Batch
from pgload.source.tables import Column

SEPARATOR = b"\x1f"

Values = list[str | None]


class Rows:
    """Turns batches into rows of the given columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._all_plain = all(column.type not in ("json", "jsonb") for column in columns)
        self._tokens = _tokens_of([column.name for column in columns])
        self._decode_string = msgspec.json.Decoder(str).decode

    def lines(self, batch: Batch) -> list[bytes]:
        """One line of tokens for each record, between `SEPARATOR`s."""
        try:
            return [SEPARATOR.join(tokens) for tokens in self._tokens(batch.records)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            for number, record in enumerate(batch.records, batch.first_record):
                try:
                    list(self._tokens([record]))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise RecordError(f"{batch.path.name}: record {number}: {error}") from None
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
        text = b"\n".join(lines)
        if self._is_plain(text, special):
            return bulk(unquoted(text, len(lines) * len(self._columns)))
        return between.join(
            bulk(unquoted(line, len(self._columns)))
            if self._is_plain(line, special)
            else one(self.values(batch, n, line))
            for n, line in enumerate(lines)
        )

    def tuples(self, batch: Batch) -> Iterator[Values]:
        """The rows as Python strings, for drivers that adapt parameters by themselves."""
        for n, line in enumerate(self.lines(batch)):
            if self._is_plain(line):
                text = unquoted(line, len(self._columns))
                try:
                    yield [value or None for value in text.decode().split("\x1f")]
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
                raise RecordError(
                    f"{batch.path.name}: record {batch.first_record + n}: "
                    f'field "{column.name}" {error}; mend or remove the record'
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
        if token.startswith(b'"') and column.type not in ("json", "jsonb"):
            return self._decode_string(token)
        return token.decode()

    def _is_plain(self, text: bytes, special: Sequence[bytes] = ()) -> bool:
        """Whether each `"` in the text only marks the beginning or end of a string."""
        return (
            self._all_plain
            and b"\\" not in text
            and not any(byte in text for byte in special)
            and not _has_token(text, b"{")
            and not _has_token(text, b"[")
        )


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
    """Whether a token begins with that byte; the quick test comes first."""
    return first in text and (
        SEPARATOR + first in text or b"\n" + first in text or text.startswith(first)
    )


def unquoted(text: bytes, tokens: int) -> bytes:
    """Plain lines of tokens without their quotes, and with nothing for null.

    Two quotes for each of the `tokens` mean that all are strings, and no null has to be looked for.
    """
    stripped = text.translate(None, b'"')
    if len(text) - len(stripped) == 2 * tokens or b"null" not in text:
        return stripped
    bounded = b"\x1f" + text.replace(b"\n", b"\x1f\n\x1f") + b"\x1f"
    for _ in range(2):  # two nulls side by side share a separator
        bounded = bounded.replace(b"\x1fnull\x1f", b"\x1f\x1f")
    return bounded[1:-1].replace(b"\x1f\n\x1f", b"\n").translate(None, b'"')
