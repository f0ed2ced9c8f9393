"""The ways to write a batch. Each has two steps: `encode` on the client, `write` to the server.

`write` is one simple query on an autocommit connection wherever the method allows it, which makes
it a transaction of its own in one round trip; COPY takes two. Where `write` opens a transaction,
its caller commits it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pgload.contract import METHODS
from pgload.errors import UsageError
from pgload.load.encode import RowEncoder, RowFormat, TableEncoder, Values
from pgload.load.server_json import json_literal, rows_of_json
from pgload.load.tokens import EMPTY, SEPARATOR, all_in_quotes, is_plain, without_quotes
from pgload.schema.table import (
    OVERRIDING,
    Column,
    Table,
    input_type,
    qualified_name,
    quoted,
)
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# A server keeps some 400 bytes for each literal of a statement while it parses it: 40 MB for 1000
# rows of 100 columns, on every connection, allocated and freed each time. Statements of 70 rows
# take 10 to 20% less time. They are sent in one query, which is one implicit transaction.
ROWS_PER_INSERT = 70
ROWS_PER_ARRAY = 250  # of JSON; an array of 1000 records takes the server a sixth more time
ROWS_PER_CHUNK = 50  # encoded at a time; larger chunks do not stay in the processor's cache


class Encoded(NamedTuple):
    """Encoded records, and the columns of their values."""

    columns: Sequence[Column]
    rows: Any


class Method(ABC):
    """One way to write batches into one table."""

    name: ClassVar[str]
    is_insert: ClassVar[bool] = True

    def __init__(self, table: Table) -> None:
        self.table = table
        self.encoder = TableEncoder(table.columns)
        self._names: dict[str, str] = {}  # the table's columns, quoted

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """The batch as `write` takes it; needs no connection.

        Raises `RecordError` for a record that cannot become a row.
        """

    @abstractmethod
    def write(
        self, cursor: Cursor, payload: Any, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        """Send an encoded batch and wait until the server has processed it.

        `before` and `after` are SQL statements for the same transaction. Raises `psycopg2.Error`.
        """

    def prepare(self, connection: Connection) -> None:
        """Make what statements need, once for all batches; any connection will do."""
        self._target = qualified_name(self.table, connection)
        names = [column.name for column in self.table.columns]
        self._names = dict(zip(names, quoted(names, connection), strict=True))

    def into(self, columns: Iterable[Column], connection: Connection) -> str:
        """The quoted table with these columns, as INSERT and COPY name them."""
        if not self._names:
            self.prepare(connection)
        overriding = OVERRIDING if self.table.override_identity and self.is_insert else ""
        names = ", ".join([self._names[column.name] for column in columns])
        return f"{self._target} ({names}){overriding}"


class ExecuteMany(Method):
    """Row by row with `cursor.executemany`: the baseline."""

    name = "executemany"

    def encode(self, batch: Batch) -> Encoded:
        encoder = self.encoder.for_batch(batch)
        return Encoded(encoder.columns, list(encoder.tuples(batch)))

    def write(
        self, cursor: Cursor, payload: Encoded, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        into = self.into(payload.columns, cursor.connection).replace("%", "%%")
        parameters = ", ".join(["%s"] * len(payload.columns))
        cursor.execute(_join_statements(b"BEGIN", before))
        cursor.executemany(f"INSERT INTO {into} VALUES ({parameters})", payload.rows)
        if after:
            cursor.execute(after)


class MultiValues(Method):
    """Multi-row `INSERT … VALUES`, with literals made on the client.

    A batch is one simple query of statements of 70 rows each: 2 for 100 records, 15 for 1,000. They
    are one implicit transaction, and take one round trip.
    """

    name = "values"

    def encode(self, batch: Batch) -> list[Encoded]:
        encoder = self.encoder.for_batch(batch)
        parts = batch.parts(ROWS_PER_INSERT)
        return [Encoded(*encoder.encode_filled(part, VALUE_LISTS)) for part in parts]

    def write(
        self, cursor: Cursor, payload: list[Encoded], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        pieces = [before, b";"] if before else []
        for columns, rows in payload:
            into = self.into(columns, cursor.connection)
            pieces += (f"INSERT INTO {into} VALUES (".encode(), rows, b");")
        cursor.execute(b"".join([*pieces, after]))


_TOKENS_TO_LITERALS = bytes.maketrans(b'"' + SEPARATOR, b"',")


def _plain_value_lists(text: bytes, lines: list[bytes], tokens: int) -> bytes:
    if text.count(b'"') != 2 * tokens:
        text = b"),(".join([all_in_quotes(line, tokens // len(lines)) for line in lines])
    text = b"NULL".join(text.split(EMPTY))  # takes a fifth less time than `replace`
    return text.replace(b"'", b"''").translate(_TOKENS_TO_LITERALS)


def _value_list(values: Values) -> bytes:
    return ",".join(map(_literal, values)).encode()


def _literal(value: str | None) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'"


VALUE_LISTS = RowFormat(
    plain_rows=_plain_value_lists,
    row=_value_list,
    json=lambda text: text.replace(b"'", b"''"),
    between=b"),(",
)


class Unnest(Method):
    """`INSERT … SELECT unnest(…), unnest(…)`: one array literal for each column.

    In the select list the arrays are expanded in parallel; in FROM, as it is often written, the
    server would first store the elements of each array as a table of its own.
    """

    name = "unnest"

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._arrays = {column.name: _unnest_expression(column) for column in table.columns}

    def encode(self, batch: Batch) -> Encoded:
        encoder = self.encoder.for_batch(batch)
        parts = [_elements(encoder, part) for part in batch.parts(ROWS_PER_CHUNK)]
        elements = map(b",".join, zip(*parts, strict=True))
        arrays = [
            self._arrays[column.name] % each
            for column, each in zip(encoder.columns, elements, strict=True)
        ]
        return Encoded(encoder.columns, b",".join(arrays))

    def write(
        self, cursor: Cursor, payload: Encoded, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        into = self.into(payload.columns, cursor.connection)
        statement = f"INSERT INTO {into} SELECT ".encode() + payload.rows
        cursor.execute(_join_statements(before, statement, after))


def _elements(encoder: RowEncoder, batch: Batch) -> list[bytes]:
    """The elements of each column's array, between commas."""
    columns = list(zip(*encoder.tokens(batch), strict=True))
    texts = list(map(SEPARATOR.join, columns))
    # Those whose values are decoded one by one.
    decoded = {*encoder.json_columns, *encoder.keeps_empty}
    if not is_plain(b"\n".join([text for n, text in enumerate(texts) if n not in decoded])):
        decoded |= {n for n, text in enumerate(texts) if not is_plain(text)}
    for n in decoded:
        texts[n] = b""
    for n in encoder.other_columns:
        texts[n] = texts[n].replace(EMPTY, b"NULL")
    # A plain JSON string is an array's element as it stands.
    elements = b"\n".join(texts).replace(b"'", b"''").replace(SEPARATOR, b",").split(b"\n")
    for n in decoded:
        values = encoder.column_values(batch, n, columns[n])
        elements[n] = b",".join(map(_element, values))
    return elements


def _unnest_expression(column: Column) -> bytes:
    """The column's values in the select list, with `%s` for the elements of its array."""
    type_ = input_type(column)
    if type_ == "text" and not column.keep_empty:
        # To turn '' into NULL costs the server a fifth of what it costs here.
        return b"nullif(unnest('{%s}'::text[]),'')"
    if type_.endswith("]"):  # PostgreSQL has no arrays of arrays
        return f"unnest('{{%s}}'::text[])::{type_}".encode()
    return f"unnest('{{%s}}'::{type_}[])".encode()


def _element(value: str | None) -> bytes:
    if value is None:
        return b"NULL"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")
    return f'"{escaped}"'.encode()


class Json(Method):
    """`INSERT … SELECT` from the raw records as JSON arrays, which the server turns into rows."""

    name = "json"
    _statement: tuple[bytes, bytes] | None = None  # before and after an array

    def prepare(self, connection: Connection) -> None:
        super().prepare(connection)
        select, tail = rows_of_json(self.table, connection, stored=False)
        insert = f"INSERT INTO {self.into(self.table.columns, connection)} {select}"
        self._statement = insert.encode(), tail.encode()

    def encode(self, batch: Batch) -> list[bytes]:
        return [json_literal(part.records) for part in batch.parts(ROWS_PER_ARRAY)]

    def write(
        self, cursor: Cursor, payload: list[bytes], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        if self._statement is None:
            self.prepare(cursor.connection)
            assert self._statement is not None
        head, tail = self._statement
        cursor.execute(_join_statements(before, *[head + array + tail for array in payload], after))


class Copy(Method):
    """`COPY … FROM STDIN` in text format."""

    name = "copy"
    is_insert = False  # it always writes the values of identity columns

    def encode(self, batch: Batch) -> Encoded:
        encoder = self.encoder.for_batch(batch)
        lines = _COPY_LINES_WITH_EMPTY if encoder.keeps_empty else _COPY_LINES
        parts = [encoder.encode(part, lines) for part in batch.parts(ROWS_PER_CHUNK)]
        return Encoded(encoder.columns, b"\n".join([*parts, b""]))

    def statement(self, columns: Sequence[Column], connection: Connection) -> str:
        """The COPY for rows of these columns."""
        null = "\\N" if any(column.keep_empty for column in columns) else ""
        options = f"FORMAT text, DELIMITER '{SEPARATOR.decode()}', NULL '{null}'"
        return f"COPY {self.into(columns, connection)} FROM STDIN ({options})"

    def write(
        self, cursor: Cursor, payload: Encoded, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        # Statements before COPY in its query share its transaction; none can follow it there.
        begin = b"BEGIN" if after else b""
        copy = self.statement(payload.columns, cursor.connection).encode()
        # In one read: for each further one the driver would have to wait for the interpreter.
        file, size = _PayloadFile(payload.rows), len(payload.rows)
        cursor.copy_expert(_join_statements(begin, before, copy), file, size=size)
        if after:
            cursor.execute(after)


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\x1f": "\\x1f"})


def _copy_line(values: Values) -> bytes:
    return "\x1f".join([(value or "").translate(_COPY_ESCAPES) for value in values]).encode()


def _copy_line_with_empty(values: Values) -> bytes:
    return "\x1f".join(
        ["\\N" if value is None else value.translate(_COPY_ESCAPES) for value in values]
    ).encode()


def _copy_json(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


_COPY_LINES = RowFormat(
    plain_rows=lambda text, _, tokens: without_quotes(text, tokens),
    row=_copy_line,
    json=_copy_json,
    between=b"\n",
)


# Empty strings are kept in some columns, so NULL has a sign of its own.
_COPY_LINES_WITH_EMPTY = replace(_COPY_LINES, row=_copy_line_with_empty)


class _PayloadFile:
    """A file whose first `read` returns the whole payload, without a copy."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def read(self, _size: int = -1) -> bytes:
        payload, self._payload = self._payload, b""
        return payload

    readline = read  # the driver requires the attribute and never calls it


def _join_statements(*statements: bytes) -> bytes:
    """One simple query, which is one round trip and one implicit transaction."""
    return b";".join(filter(None, statements))


_CLASSES: dict[str, type[Method]] = {
    method.name: method for method in (MultiValues, Unnest, Json, Copy, ExecuteMany)
}


def make_method(name: str, table: Table) -> Method:
    """The method of that name for a table. Raises `UsageError` for an unknown name."""
    if name not in _CLASSES:
        raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return _CLASSES[name](table)
