"""The ways to write a batch. Each is two steps: `encode` on the client, `write` on the server.

`write` is one simple query on an autocommit connection wherever the method allows it, which makes
it a transaction of its own in one round trip; COPY takes two. A method that opens a transaction
leaves it to its caller to commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pgload.contract import METHODS
from pgload.errors import UsageError
from pgload.load.encode import (
    EMPTY,
    SEPARATOR,
    Notation,
    Rows,
    Values,
    all_in_quotes,
    plainness,
    without_quotes,
)
from pgload.load.server_json import json_literal, rows_of_json
from pgload.schema.table import Column, Table, column_names, input_type, qualified_name
from pgload.source.reader import Batch

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


class Method(ABC):
    """One way to write batches into one table."""

    name: ClassVar[str]

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = Rows(table.columns)
        self._statement: str | None = None

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """The batch as `write` takes it; no connection is needed.

        Raises `RecordError` for a record that cannot become a row.
        """

    @abstractmethod
    def write(
        self, cursor: Cursor, payload: Any, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        """Send an encoded batch and wait until the server has taken it.

        `before` and `after` are statements that belong into the same transaction.
        """

    @abstractmethod
    def build(self, target: str) -> str:
        """The statement; `target` is the quoted table with its quoted columns."""

    def statement(self, cursor: Cursor) -> str:
        """The statement, built on first use."""
        if self._statement is None:
            columns = ", ".join(column_names(self.table, cursor.connection))
            table = qualified_name(self.table, cursor.connection)
            self._statement = self.build(f"{table} ({columns})")
        return self._statement


class ExecuteMany(Method):
    """Row by row: `cursor.executemany`, the baseline that people start from."""

    name = "executemany"

    def build(self, target: str) -> str:
        parameters = ", ".join(["%s"] * len(self.table.columns))
        return f"INSERT INTO {target.replace('%', '%%')} VALUES ({parameters})"

    def encode(self, batch: Batch) -> list[Values]:
        return list(self.rows.tuples(batch))

    def write(
        self, cursor: Cursor, payload: list[Values], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        statement = self.statement(cursor)
        cursor.execute(_together(b"BEGIN", before))
        cursor.executemany(statement, payload)
        if after:
            cursor.execute(after)


# A server keeps some 400 bytes for each literal of a statement while it parses it: 40 MB for 1000
# rows of 100 columns, on every connection, touched and given back each time. Statements of 70 rows
# take a tenth to a fifth less time. They travel together and are one implicit transaction.
ROWS_PER_INSERT = 70
ROWS_PER_ARRAY = 250  # of JSON; the server takes a sixth more time for one of 1000 records
ROWS_PER_CHUNK = 50  # encoded at a time; larger pieces do not stay in the processor's cache


class MultiValues(Method):
    """Multi-row `INSERT … VALUES` in one simple query, its literals made on the client."""

    name = "values"

    def build(self, target: str) -> str:
        return f"INSERT INTO {target} VALUES ("

    def encode(self, batch: Batch) -> list[bytes]:
        return [self.rows.encode(part, _VALUE_LISTS) for part in batch.parts(ROWS_PER_INSERT)]

    def write(
        self, cursor: Cursor, payload: list[bytes], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        head = self.statement(cursor).encode()
        lists = (b");" + head).join(payload)
        cursor.execute(_together(before, b"".join((head, lists, b")")), after))


_TOKENS_TO_LITERALS = bytes.maketrans(b'"' + SEPARATOR, b"',")


def _value_lists(text: bytes, lines: list[bytes], tokens: int) -> bytes:
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


_VALUE_LISTS = Notation(
    plain=_value_lists, one=_value_list, json=lambda text: text.replace(b"'", b"''"), between=b"),("
)


class Unnest(Method):
    """`INSERT … SELECT unnest(…), unnest(…)`: one array literal for each column.

    In the select list the arrays are walked side by side; in FROM, as it is often written, the
    server would first store each array's elements as a table of its own.
    """

    name = "unnest"

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._arrays = [_unnested(column) for column in table.columns]
        self._not_text = [n for n, c in enumerate(table.columns) if c.type != "text"]

    def build(self, target: str) -> str:
        return f"INSERT INTO {target} SELECT "

    def encode(self, batch: Batch) -> bytes:
        parts = [self._columns(part) for part in batch.parts(ROWS_PER_CHUNK)]
        columns = map(b",".join, zip(*parts, strict=True))
        return b",".join(
            array % column for array, column in zip(self._arrays, columns, strict=True)
        )

    def _columns(self, batch: Batch) -> list[bytes]:
        """The elements of each column's array, between commas."""
        columns = list(zip(*self.rows.tokens(batch), strict=True))
        texts = list(map(SEPARATOR.join, columns))
        odd = set(self.rows.json_at)
        if plainness(b"\n".join([text for n, text in enumerate(texts) if n not in odd])):
            odd |= {n for n, text in enumerate(texts) if plainness(text)}
        for n in odd:
            texts[n] = b""
        for n in self._not_text:
            texts[n] = texts[n].replace(EMPTY, b"NULL")
        # A JSON string is an array's element as it is.
        plain = b"\n".join(texts).replace(b"'", b"''").replace(SEPARATOR, b",").split(b"\n")
        for n in odd:
            values = self.rows.column(batch, n, columns[n])
            plain[n] = b",".join(map(_element, values))
        return plain

    def write(
        self, cursor: Cursor, payload: bytes, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        cursor.execute(_together(before, self.statement(cursor).encode() + payload, after))


def _unnested(column: Column) -> bytes:
    """The column's values in the select list, with `%s` for the elements of its array."""
    type_ = input_type(column)
    if type_ == "text":  # the server turns '' into NULL for a fifth of what it costs here
        return b"nullif(unnest('{%s}'::text[]),'')"
    if type_.endswith("]"):  # an array of arrays is no array of its elements
        return f"unnest('{{%s}}'::text[])::{type_}".encode()
    return f"unnest('{{%s}}'::{type_}[])".encode()


def _element(value: str | None) -> bytes:
    if value is None:
        return b"NULL"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")
    return f'"{escaped}"'.encode()


class Json(Method):
    """`INSERT … SELECT` from the raw records as one JSON array, which the server takes apart."""

    name = "json"

    def build(self, target: str) -> str:
        return f"INSERT INTO {target} "

    def encode(self, batch: Batch) -> list[bytes]:
        return [json_literal(part.records) for part in batch.parts(ROWS_PER_ARRAY)]

    def write(
        self, cursor: Cursor, payload: list[bytes], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        select, tail = rows_of_json(self.table, cursor.connection, stored=False)
        head, end = (self.statement(cursor) + select).encode(), tail.encode()
        cursor.execute(_together(before, *[head + array + end for array in payload], after))


class Copy(Method):
    """`COPY … FROM STDIN` in text format."""

    name = "copy"

    def build(self, target: str) -> str:
        options = f"FORMAT text, DELIMITER '{SEPARATOR.decode()}', NULL ''"
        return f"COPY {target} FROM STDIN ({options})"

    def encode(self, batch: Batch) -> bytes:
        parts = [self.rows.encode(part, _COPY_LINES) for part in batch.parts(ROWS_PER_CHUNK)]
        return b"\n".join([*parts, b""])

    def write(
        self, cursor: Cursor, payload: bytes, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        # What stands before a COPY in its query is in its transaction; after it nothing can stand.
        begin = b"BEGIN" if after else b""
        statement = _together(begin, before, self.statement(cursor).encode())
        # In one piece: for every further one the driver would have to wait for the interpreter.
        cursor.copy_expert(statement, _Whole(payload), size=len(payload))
        if after:
            cursor.execute(after)


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\x1f": "\\x1f"})


def _copy_line(values: Values) -> bytes:
    return "\x1f".join([(value or "").translate(_COPY_ESCAPES) for value in values]).encode()


def _copy_json(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


_COPY_LINES = Notation(
    plain=lambda text, _, tokens: without_quotes(text, tokens),
    one=_copy_line,
    json=_copy_json,
    between=b"\n",
)


class _Whole:
    """A file that gives all it has in one read, without a copy."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def read(self, _size: int = -1) -> bytes:
        payload, self._payload = self._payload, b""
        return payload

    readline = read  # the driver looks for it and never calls it


def _together(*statements: bytes) -> bytes:
    """One simple query, which is one round trip and one implicit transaction."""
    return b";".join(filter(None, statements))


_CLASSES: dict[str, type[Method]] = {
    method.name: method for method in (MultiValues, Unnest, Json, Copy, ExecuteMany)
}


def make_method(name: str, table: Table) -> Method:
    """The method of that name. Raises `UsageError` for one that does not exist."""
    if name not in _CLASSES:
        raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return _CLASSES[name](table)
