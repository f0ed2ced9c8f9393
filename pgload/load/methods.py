"""The ways to write a batch. Each has two steps: `encode` on the client, `write` to the server.

`write` is one simple query on an autocommit connection wherever the method allows it, which makes
it a transaction of its own in one round trip; COPY takes two. Where `write` opens a transaction,
its caller commits it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pgload.contract import METHODS
from pgload.errors import UsageError
from pgload.load.encode import (
    EMPTY,
    SEPARATOR,
    RowEncoder,
    RowFormat,
    Values,
    all_in_quotes,
    is_plain,
    without_quotes,
)
from pgload.load.server_json import json_literal, rows_of_json
from pgload.schema.table import (
    OVERRIDING,
    Column,
    Table,
    column_names,
    input_type,
    qualified_name,
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


class Statement(NamedTuple):
    """A statement around the records of a batch: what comes before and after them."""

    head: bytes
    tail: bytes = b""


class Method(ABC):
    """One way to write batches into one table."""

    name: ClassVar[str]
    is_insert: ClassVar[bool] = True

    def __init__(self, table: Table) -> None:
        self.table = table
        self.encoder = RowEncoder(table.columns)
        self._statement: Statement | None = None

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

    @abstractmethod
    def build_statement(self, target: str, connection: Connection) -> Statement:
        """The method's statement; `target` is the quoted table with quoted columns."""

    def prepare(self, connection: Connection) -> Statement:
        """Build the statement, once for all batches; any connection will do."""
        if self._statement is None:
            columns = ", ".join(column_names(self.table, connection))
            table = qualified_name(self.table, connection)
            overriding = OVERRIDING if self.table.override_identity and self.is_insert else ""
            self._statement = self.build_statement(f"{table} ({columns}){overriding}", connection)
        return self._statement


class ExecuteMany(Method):
    """Row by row with `cursor.executemany`: the baseline."""

    name = "executemany"

    def build_statement(self, target: str, connection: Connection) -> Statement:  # noqa: ARG002
        parameters = ", ".join(["%s"] * len(self.table.columns))
        insert = f"INSERT INTO {target.replace('%', '%%')} VALUES ({parameters})"
        return Statement(insert.encode())

    def encode(self, batch: Batch) -> list[Values]:
        return list(self.encoder.tuples(batch))

    def write(
        self, cursor: Cursor, payload: list[Values], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        statement = self.prepare(cursor.connection)
        cursor.execute(_join_statements(b"BEGIN", before))
        cursor.executemany(statement.head, payload)
        if after:
            cursor.execute(after)


class MultiValues(Method):
    """Multi-row `INSERT … VALUES`, with literals made on the client.

    A batch is one simple query of statements of 70 rows each: 2 for 100 records, 15 for 1,000. They
    are one implicit transaction, and take one round trip.
    """

    name = "values"

    def build_statement(self, target: str, connection: Connection) -> Statement:  # noqa: ARG002
        return Statement(f"INSERT INTO {target} VALUES (".encode(), b")")

    def encode(self, batch: Batch) -> list[bytes]:
        return [self.encoder.encode(part, _VALUE_LISTS) for part in batch.parts(ROWS_PER_INSERT)]

    def write(
        self, cursor: Cursor, payload: list[bytes], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        head, tail = self.prepare(cursor.connection)
        lists = (tail + b";" + head).join(payload)
        cursor.execute(_join_statements(before, b"".join((head, lists, tail)), after))


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


_VALUE_LISTS = RowFormat(
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
        self._arrays = [_unnest_expression(column) for column in table.columns]
        self._not_text = [n for n, c in enumerate(table.columns) if c.type != "text"]

    def build_statement(self, target: str, connection: Connection) -> Statement:  # noqa: ARG002
        return Statement(f"INSERT INTO {target} SELECT ".encode())

    def encode(self, batch: Batch) -> bytes:
        parts = [self._elements(part) for part in batch.parts(ROWS_PER_CHUNK)]
        columns = map(b",".join, zip(*parts, strict=True))
        return b",".join(
            array % column for array, column in zip(self._arrays, columns, strict=True)
        )

    def _elements(self, batch: Batch) -> list[bytes]:
        """The elements of each column's array, between commas."""
        columns = list(zip(*self.encoder.tokens(batch), strict=True))
        texts = list(map(SEPARATOR.join, columns))
        # Those whose values are decoded one by one.
        decoded = {*self.encoder.json_columns, *self.encoder.keeps_empty}
        if not is_plain(b"\n".join([text for n, text in enumerate(texts) if n not in decoded])):
            decoded |= {n for n, text in enumerate(texts) if not is_plain(text)}
        for n in decoded:
            texts[n] = b""
        for n in self._not_text:
            texts[n] = texts[n].replace(EMPTY, b"NULL")
        # A plain JSON string is an array's element as it stands.
        elements = b"\n".join(texts).replace(b"'", b"''").replace(SEPARATOR, b",").split(b"\n")
        for n in decoded:
            values = self.encoder.column_values(batch, n, columns[n])
            elements[n] = b",".join(map(_element, values))
        return elements

    def write(
        self, cursor: Cursor, payload: bytes, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        statement = self.prepare(cursor.connection).head + payload
        cursor.execute(_join_statements(before, statement, after))


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

    def build_statement(self, target: str, connection: Connection) -> Statement:
        select, tail = rows_of_json(self.table, connection, stored=False)
        return Statement(f"INSERT INTO {target} {select}".encode(), tail.encode())

    def encode(self, batch: Batch) -> list[bytes]:
        return [json_literal(part.records) for part in batch.parts(ROWS_PER_ARRAY)]

    def write(
        self, cursor: Cursor, payload: list[bytes], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        head, tail = self.prepare(cursor.connection)
        cursor.execute(_join_statements(before, *[head + array + tail for array in payload], after))


class Copy(Method):
    """`COPY … FROM STDIN` in text format."""

    name = "copy"
    is_insert = False  # it always writes the values of identity columns

    def build_statement(self, target: str, connection: Connection) -> Statement:  # noqa: ARG002
        null = "\\N" if self.encoder.keeps_empty else ""
        options = f"FORMAT text, DELIMITER '{SEPARATOR.decode()}', NULL '{null}'"
        return Statement(f"COPY {target} FROM STDIN ({options})".encode())

    def encode(self, batch: Batch) -> bytes:
        lines = _COPY_LINES_WITH_EMPTY if self.encoder.keeps_empty else _COPY_LINES
        parts = [self.encoder.encode(part, lines) for part in batch.parts(ROWS_PER_CHUNK)]
        return b"\n".join([*parts, b""])

    def write(
        self, cursor: Cursor, payload: bytes, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        # Statements before COPY in its query share its transaction; none can follow it there.
        begin = b"BEGIN" if after else b""
        statement = _join_statements(begin, before, self.prepare(cursor.connection).head)
        # In one read: for each further one the driver would have to wait for the interpreter.
        cursor.copy_expert(statement, _PayloadFile(payload), size=len(payload))
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
