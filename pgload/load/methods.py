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
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


class Method(ABC):
    """One way to write batches into one table; used by one thread."""

    name: ClassVar[str]

    def __init__(self, table: Table, connection: Connection) -> None:
        self._rows = Rows(table.columns)
        self._table = qualified_name(table, connection)
        self._columns = ", ".join(column_names(table, connection))

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """The batch as `write` takes it. Raises `RecordError` for a record that cannot be one."""

    @abstractmethod
    def write(self, cursor: Cursor, payload: Any) -> None:
        """Send an encoded batch and wait until the server has taken it."""


class ExecuteMany(Method):
    """Row by row: `cursor.executemany`, the baseline that people start from."""

    name = "executemany"

    def __init__(self, table: Table, connection: Connection) -> None:
        super().__init__(table, connection)
        # The names stand in a %-format here.
        names = f"{self._table} ({self._columns})".replace("%", "%%")
        parameters = ", ".join(["%s"] * len(table.columns))
        self._statement = f"INSERT INTO {names} VALUES ({parameters})"

    def encode(self, batch: Batch) -> list[Values]:
        return list(self._rows.tuples(batch))

    def write(self, cursor: Cursor, payload: list[Values]) -> None:
        cursor.execute("BEGIN")
        cursor.executemany(self._statement, payload)


class MultiValues(Method):
    """One multi-row `INSERT … VALUES`, its literals made on the client."""

    name = "values"

    def __init__(self, table: Table, connection: Connection) -> None:
        super().__init__(table, connection)
        self._head = f"INSERT INTO {self._table} ({self._columns}) VALUES ".encode()

    def encode(self, batch: Batch) -> bytes:
        return self._head + self._rows.encode(
            batch, special=(b"'",), bulk=_value_lists, one=_value_list, between=b","
        )

    def write(self, cursor: Cursor, payload: bytes) -> None:
        cursor.execute(payload)


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

    def __init__(self, table: Table, connection: Connection) -> None:
        super().__init__(table, connection)
        self._statement = (
            f"COPY {self._table} ({self._columns}) FROM STDIN "
            f"(FORMAT text, DELIMITER '{SEPARATOR.decode()}', NULL '')"
        )

    def encode(self, batch: Batch) -> bytes:
        return self._rows.encode(batch, bulk=bytes, one=_copy_line, between=b"\n")

    def write(self, cursor: Cursor, payload: bytes) -> None:
        cursor.copy_expert(self._statement, _Chunks(payload, b"\n"), size=len(payload) + 1)


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\x1f": "\\x1f"})


def _copy_line(values: Values) -> bytes:
    return "\x1f".join([(value or "").translate(_COPY_ESCAPES) for value in values]).encode()


class _Chunks:
    """A file that hands its chunks over whole, so that nothing is copied on the way."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)

    def read(self, _size: int = -1) -> bytes:
        return next(self._chunks, b"")

    readline = read  # the driver looks for it and never calls it


METHODS: dict[str, type[Method]] = {
    method.name: method for method in (ExecuteMany, MultiValues, Copy)
}


def make_method(name: str, table: Table, connection: Connection) -> Method:
    """The method of that name. Raises `UsageError` for one that does not exist."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name](table, connection)
