"""The ways to write a batch. Each is two steps: `encode` on the client, `write` on the server.

`write` is one simple query on an autocommit connection wherever the method allows it, which makes
it a transaction of its own in one round trip; COPY takes two. A method that opens a transaction
leaves it to its caller to commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pgload.errors import UsageError
from pgload.load.rows import SEPARATOR, Rows, Values
from pgload.source.files import Batch
from pgload.source.tables import Table, column_names, qualified_name

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
    def write(self, cursor: Cursor, payload: Any) -> None:
        """Send an encoded batch and wait until the server has taken it."""

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

    def write(self, cursor: Cursor, payload: list[Values]) -> None:
        statement = self.statement(cursor)
        cursor.execute("BEGIN")
        cursor.executemany(statement, payload)


# A server keeps some 400 bytes for each literal of a statement while it parses it: 40 MB for 1000
# rows of 100 columns, on every connection, touched and given back each time. Statements of 70 rows
# take a tenth to a fifth less time. They travel together and are one implicit transaction.
ROWS_PER_INSERT = 70
ROWS_PER_CHUNK = 100  # encoded at a time; larger pieces do not stay in the processor's cache


class MultiValues(Method):
    """Multi-row `INSERT … VALUES` in one simple query, its literals made on the client."""

    name = "values"

    def build(self, target: str) -> str:
        return f"INSERT INTO {target} VALUES "

    def encode(self, batch: Batch) -> list[bytes]:
        return [
            self.rows.encode(
                part, special=(b"'",), bulk=_value_lists, one=_value_list, between=b","
            )
            for part in batch.parts(ROWS_PER_INSERT)
        ]

    def write(self, cursor: Cursor, payload: list[bytes]) -> None:
        head = self.statement(cursor).encode()
        cursor.execute(head + (b";" + head).join(payload))


def _value_lists(text: bytes) -> bytes:
    rows = b"('" + text.replace(SEPARATOR, b"','").replace(b"\n", b"'),('") + b"')"
    return rows.replace(b"''", b"NULL")


def _value_list(values: Values) -> bytes:
    return f"({', '.join(map(_literal, values))})".encode()


def _literal(value: str | None) -> str:
    if value is None:
        return "NULL"
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


class Copy(Method):
    """`COPY … FROM STDIN` in text format."""

    name = "copy"

    def build(self, target: str) -> str:
        options = f"FORMAT text, DELIMITER '{SEPARATOR.decode()}', NULL ''"
        return f"COPY {target} FROM STDIN ({options})"

    def encode(self, batch: Batch) -> bytes:
        return b"".join(
            self.rows.encode(part, bulk=bytes, one=_copy_line, between=b"\n") + b"\n"
            for part in batch.parts(ROWS_PER_CHUNK)
        )

    def write(self, cursor: Cursor, payload: bytes) -> None:
        # In one piece: for every further one the driver would have to wait for the interpreter.
        cursor.copy_expert(self.statement(cursor), _Whole(payload), size=len(payload))


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


METHODS: dict[str, type[Method]] = {
    method.name: method for method in (ExecuteMany, MultiValues, Copy)
}


def make_method(name: str, table: Table) -> Method:
    """The method of that name. Raises `UsageError` for one that does not exist."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name](table)
