"""Partitions: the records of a file divided by their key, for `--on-conflict update`.

Records with the same key have to be written in the files' order. So they all belong to one
partition, whose batches the loader writes in order; partitions are written side by side.

Keys that are equal on the server have to be in one partition, even if their JSON differs: 7,
"7" and " 07 " in an integer column. Different ones may be in one, too. So a column whose equality
only the server knows is left out, and a value that the server would refuse may be anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from pgload.errors import RecordError
from pgload.load.encode import RowEncoder
from pgload.load.tokens import NULLS, SEPARATOR, Tokens
from pgload.schema.table import Column, Table, qualified_name
from pgload.source.reader import Batch, Format, read_batches
from pgload.source.stores import Source

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

UNEVEN = 2  # times the batch size that a batch may have where the keys are divided unevenly

# The key columns whose equality is that of an own collation or operator class; the unique indexes
# and the foreign keys by which records with different keys depend on one another. Partitions of
# the table may have more of each.
_DEPENDENCIES = """
WITH RECURSIVE relations AS (
    SELECT %(table)s::regclass::oid AS oid
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN relations r ON i.inhparent = r.oid
), filled AS (
    SELECT %(columns)s || ARRAY(SELECT attname::text FROM pg_attribute
        WHERE attrelid = %(table)s::regclass AND attgenerated <> '') AS columns
), indexes AS (
    SELECT i.*, ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, at)
                      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
                      WHERE k.at <= i.indnkeyatts) AS columns
    FROM pg_index i JOIN relations r ON r.oid = i.indrelid WHERE i.indisunique OR i.indisexclusion
), own AS (
    SELECT a.attname::text AS name
    FROM indexes i CROSS JOIN LATERAL
        unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[]) AS k(n, coll, class)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
    LEFT JOIN pg_collation c ON c.oid = k.coll LEFT JOIN pg_opclass o ON o.oid = k.class
    WHERE NOT c.collisdeterministic OR o.opcnamespace <> 'pg_catalog'::regnamespace
)
SELECT
    current_setting('server_encoding') IN ('UTF8', 'SQL_ASCII'),
    ARRAY(SELECT name FROM own),
    ARRAY(SELECT 'unique index ' || indexrelid::regclass::text FROM indexes, filled f
          WHERE (indisexclusion OR NOT indexes.columns @> %(key)s)
            AND (indexes.columns && f.columns OR 0 = ANY(indkey::int2[])))
    || ARRAY(SELECT 'foreign key ' || quote_ident(conname) FROM pg_constraint
             WHERE conrelid IN (SELECT oid FROM relations)
               AND confrelid IN (SELECT oid FROM relations) AND contype = 'f')
"""


class Partitioning(msgspec.Struct, frozen=True):
    """How the records of a file are divided.

    The ledger keeps it, since every run has to divide the file in the same way. `key` has a JSON
    field and its kind (see `_canonical`) for each column that is hashed.
    """

    count: int
    key: tuple[tuple[str, str], ...]

    def to_ledger(self) -> str:
        """The text that the ledger keeps; "" for a file that is not divided."""
        return msgspec.json.encode(self).decode() if self.count > 1 else ""

    @classmethod
    def from_ledger(cls, text: str) -> Partitioning:
        """The partitioning that `to_ledger` has turned into a text."""
        return msgspec.json.decode(text, type=cls) if text else UNDIVIDED


UNDIVIDED = Partitioning(1, ())  # one partition: all batches in order


@dataclass(frozen=True, slots=True)
class TableKey:
    """By what the records of a table can be divided."""

    hashed: tuple[tuple[str, str], ...]  # as in `Partitioning.key`
    obstacle: str = ""  # why all records have to be written in order; "": they need not

    def partitioning(self, records: int, batch_size: int, connections: int) -> Partitioning:
        """How to divide a file of that many records: no smaller batches than asked for."""
        count = min(connections, ceil(records / batch_size))
        return UNDIVIDED if self.obstacle or count < 2 else Partitioning(count, self.hashed)

    def divides(self, recorded: Partitioning) -> bool:
        """Whether records with the same key are in the same partition."""
        return not self.obstacle and set(recorded.key) <= set(self.hashed)


def key_of(table: Table, connection: Connection, *, may_change: bool) -> TableKey:
    """By what the records of a table with a conflict key can be divided.

    `may_change`: the table has triggers or rules that may change what is written.
    """
    with connection.cursor() as cursor:
        names = [column.name for column in table.columns]
        parameters = {"key": list(table.key), "columns": names}
        cursor.execute(_DEPENDENCIES, parameters | {"table": qualified_name(table, connection)})
        ((unicode, own, dependencies),) = cursor.fetchall()
    key = [column for column in table.columns if column.name in table.key]
    hashed = tuple(
        (column.source, kind)
        for column in key
        if column.name not in own
        if (kind := _kind(column.type)) and (unicode or kind != "text")
    )
    obstacle = ""
    if may_change:
        obstacle = "its triggers or rules may change a record's key"
    elif dependencies:
        obstacle = f"its records depend on one another by {dependencies[0]}"
    elif not hashed:
        types = ", ".join(f"{column.name} {column.type}" for column in key)
        obstacle = f"only the server can tell which keys are equal ({types or 'with defaults'})"
    return TableKey(hashed, obstacle)


def read_divided(
    source: Source | Path,
    batch_size: int,
    partitioning: Partitioning | None,
    stamp: Any = None,
    form: Format | None = None,
) -> Iterator[Batch]:
    """The file's batches as `read_batches` yields them, or by partition, each in order.

    A number of partitions times `batch_size` records are read and divided at a time, so that each
    partition has about one batch of them. No partitioning: batches in any order.
    """
    if partitioning is None:
        yield from read_batches(source, batch_size, stamp, form)
        return
    if partitioning.count == 1:
        for batch in read_batches(source, batch_size, stamp, form):
            yield Batch(batch.path, batch.first_record, batch.records, batch.windows, partition=0)
        return
    partitioner = Partitioner(partitioning)
    for group in read_batches(source, batch_size * partitioning.count, stamp, form):
        for batch in partitioner.divide(group):
            yield from batch.parts(UNEVEN * batch_size)


class Partitioner:
    """Divides records by the hash of their key."""

    def __init__(self, partitioning: Partitioning) -> None:
        self._count = partitioning.count
        self._encoder = RowEncoder([Column(field) for field, _ in partitioning.key])
        self._canonical = [_canonical(kind) for _, kind in partitioning.key]

    def divide(self, group: Batch) -> Iterator[Batch]:
        """The records of each partition that has some."""
        positions: list[list[int]] = [[] for _ in range(self._count)]
        for position, tokens in enumerate(self._tokens(group)):
            positions[self._partition(tokens)].append(position)
        for partition, chosen in enumerate(positions):
            if chosen:
                yield group.select(chosen, partition)

    def _tokens(self, group: Batch) -> Sequence[Tokens]:
        """The tokens of each record's key; none of a record that cannot be decoded."""
        try:
            return self._encoder.tokens(group)
        except RecordError:
            if len(group.records) == 1:
                return [()]
        middle = len(group.records) // 2
        halves = (range(middle), range(middle, len(group.records)))
        return [tokens for half in halves for tokens in self._tokens(group.select(half))]

    def _partition(self, tokens: Tokens) -> int:
        values = [
            _canonical_value(bytes(token), canonical)
            for token, canonical in zip(tokens, self._canonical, strict=bool(tokens))
        ]
        return crc32(SEPARATOR.join(values)) % self._count


def _canonical_value(token: bytes, canonical: Callable[[str], str]) -> bytes:
    """The text that represents all equal values; empty for NULL and for what is not a value.

    The server may hold NULLs to be equal (NULLS NOT DISTINCT).
    """
    if token in NULLS:
        return b""
    try:
        return canonical(_decode(token) if token.startswith(b'"') else token.decode()).encode()
    except (ValueError, ArithmeticError):
        return b""


_decode = msgspec.json.Decoder(str).decode


def _kind(type_: str) -> str:
    """The kind of a column's type, as the ledger keeps it; "" where the server alone compares."""
    if re.fullmatch(r"smallint|integer|bigint", type_):
        return "integer"
    if found := re.fullmatch(r"numeric(\(\d+,(-?\d+)\))?", type_):
        return "numeric" if found[2] is None else f"numeric {found[2]}"
    if re.fullmatch(r"text|character varying(\(\d+\))?|character(\(\d+\))?|bpchar", type_):
        return "text"
    return "uuid" if type_ == "uuid" else ""


def _canonical(kind: str) -> Callable[[str], str]:
    """The function that turns equal values of a kind into the same text, and perhaps others too.

    Raises `ValueError` or `ArithmeticError` for text that is not a value. A change of its results
    needs a new name of the kind, since ledgers have the old one.
    """
    name, _, scale = kind.partition(" ")
    if name == "numeric" and scale:
        step = Decimal((0, (1,), -int(scale)))
        return lambda text: _numeric(text, step)
    return _KINDS[name]


def _integer(text: str) -> str:
    return str(_int(text))


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(text, 0)  # PostgreSQL 16 takes 0x1F, 0o17 and 0b11


# More digits than `numeric(p, s)` can have. The precision changes nothing for equal values.
_CONTEXT = Context(prec=2100, rounding=ROUND_HALF_UP)


def _numeric(text: str, step: Decimal | None = None) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(_int(text))
    if step is not None:
        value = value.quantize(step, context=_CONTEXT)
    return str(_CONTEXT.normalize(_CONTEXT.abs(value)))  # -0 is 0


def _text(text: str) -> str:
    return text.rstrip(" ")  # which char(n) ignores, and varchar(n) cuts off beyond n


def _uuid(text: str) -> str:
    return text.lower().translate(_UUID_PUNCTUATION)


_UUID_PUNCTUATION = str.maketrans("", "", "{}-")
_KINDS: Mapping[str, Callable[[str], str]] = {
    "integer": _integer,
    "numeric": _numeric,
    "text": _text,
    "uuid": _uuid,
}
