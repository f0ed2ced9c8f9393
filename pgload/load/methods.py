"""The ways to write a batch. Each is two steps: `encode` on the client, `write` on the server.

`write` is one simple query on an autocommit connection wherever the method allows it, which makes
it a transaction of its own in one round trip; COPY takes two. A method that opens a transaction
leaves it to its caller to commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pgload.errors import UsageError
from pgload.load.rows import SEPARATOR, Rows, Values, all_in_quotes, without_quotes
from pgload.load.server_json import json_literal, rows_of_json
from pgload.source.files import Batch
from pgload.source.tables import Table, column_names, input_type, qualified_name

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
ROWS_PER_CHUNK = 50  # encoded at a time; larger pieces do not stay in the processor's cache


class MultiValues(Method):
    """Multi-row `INSERT … VALUES` in one simple query, its literals made on the client."""

    name = "values"

    def build(self, target: str) -> str:
        return f"INSERT INTO {target} VALUES "

    def encode(self, batch: Batch) -> list[bytes]:
        return [
            self.rows.encode(part, bulk=_value_lists, one=_value_list, between=b",")
            for part in batch.parts(ROWS_PER_INSERT)
        ]

    def write(
        self, cursor: Cursor, payload: list[bytes], *, before: bytes = b"", after: bytes = b""
    ) -> None:
        head = self.statement(cursor).encode()
        cursor.execute(_together(before, *[head + rows for rows in payload], after))


_TOKENS_TO_LITERALS = bytes.maketrans(b'"' + SEPARATOR, b"',")


def _value_lists(text: bytes, tokens: int) -> bytes:
    rows = all_in_quotes(text, tokens).replace(b'""', b"NULL").replace(b"'", b"''")
    return b"(" + rows.translate(_TOKENS_TO_LITERALS).replace(b"\n", b"),(") + b")"


def _value_list(values: Values) -> bytes:
    return f"({', '.join(map(_literal, values))})".encode()


def _literal(value: str | None) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'"


class Unnest(Method):
    """`INSERT … SELECT FROM unnest(…)`: one array literal for each column."""

    name = "unnest"

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        # An array of arrays is no array of its elements: those go as text.
        self._arrays = ["text" if c.type.endswith("]") else input_type(c) for c in table.columns]

    def build(self, target: str) -> str:
        names = [f"c{n}" for n in range(len(self.table.columns))]
        values = [
            name if array == input_type(column) else f"{name}::{input_type(column)}"
            for name, array, column in zip(names, self._arrays, self.table.columns, strict=True)
        ]
        rows = f"unnest(%s) AS r({', '.join(names)})"
        return f"INSERT INTO {target} SELECT {', '.join(values)} FROM {rows}"

    def encode(self, batch: Batch) -> bytes:
        parts = [self._columns(part) for part in batch.parts(ROWS_PER_CHUNK)]
        return b",".join(
            b"'{%s}'::%s[]" % (b",".join(pieces), array.encode())
            for array, pieces in zip(self._arrays, zip(*parts, strict=True), strict=True)
        )

    def _columns(self, batch: Batch) -> list[bytes]:
        """The elements of each column's array, between commas."""
        tokens = self.rows.tokens(batch)
        columns = [SEPARATOR.join(column) for column in zip(*tokens, strict=True)]
        if self.rows.plainness(columns) is None:  # a JSON string is an array's element as it is
            text = b"\n".join(columns).replace(b'""', b"NULL").replace(b"'", b"''")
            return text.replace(SEPARATOR, b",").split(b"\n")
        lines = [SEPARATOR.join(record) for record in tokens]
        is_plain = self.rows.plainness(lines)
        rows = [
            line.replace(b'""', b"NULL").split(SEPARATOR)
            if is_plain is None or is_plain(line)
            else [_element(value) for value in self.rows.values(batch, n, line)]
            for n, line in enumerate(lines)
        ]
        return [b",".join(column).replace(b"'", b"''") for column in zip(*rows, strict=True)]

    def write(
        self, cursor: Cursor, payload: bytes, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        head, _, tail = self.statement(cursor).encode().rpartition(b"%s")
        cursor.execute(_together(before, head + payload + tail, after))


def _element(value: str | None) -> bytes:
    if value is None:
        return b"NULL"
    return ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"').encode()


class Json(Method):
    """`INSERT … SELECT` from the raw records as one JSON array, which the server takes apart."""

    name = "json"

    def build(self, target: str) -> str:
        return f"INSERT INTO {target} "

    def encode(self, batch: Batch) -> bytes:
        return json_literal(batch.records)

    def write(
        self, cursor: Cursor, payload: bytes, *, before: bytes = b"", after: bytes = b""
    ) -> None:
        head = self.statement(cursor)
        select, tail = rows_of_json(self.table, cursor.connection, stored=False)
        statement = (head + select).encode() + payload + tail.encode()
        cursor.execute(_together(before, statement, after))


class Copy(Method):
    """`COPY … FROM STDIN` in text format."""

    name = "copy"

    def build(self, target: str) -> str:
        options = f"FORMAT text, DELIMITER '{SEPARATOR.decode()}', NULL ''"
        return f"COPY {target} FROM STDIN ({options})"

    def encode(self, batch: Batch) -> bytes:
        return b"".join(
            self.rows.encode(part, bulk=without_quotes, one=_copy_line, between=b"\n") + b"\n"
            for part in batch.parts(ROWS_PER_CHUNK)
        )

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


METHODS: dict[str, type[Method]] = {
    method.name: method for method in (ExecuteMany, MultiValues, Unnest, Json, Copy)
}


def make_method(name: str, table: Table) -> Method:
    """The method of that name. Raises `UsageError` for one that does not exist."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name](table)
