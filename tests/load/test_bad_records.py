"""Records that are odd or bad meet the same fate by every method, and the good ones go in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.contract import METHODS
from pgload.errors import LoadError, RecordError
from pgload.load.verify import expected_fingerprint, fingerprint
from pgload.schema.match import match_table
from pgload.schema.table import Table
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from pgload.targets.target import Target
from tests.support.loading import empty, load, rows

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.fixture
def table(connection: Connection, schema: str) -> Table:
    """An existing table with columns of several types."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {schema}.t (id serial, a text STORAGE EXTERNAL, j json, jb jsonb,"
            " d float8, i int, v varchar(3))"
        )
    found = match_table(Table("t", schema=schema), ["a", "j", "jb", "d", "i", "v"], connection)
    assert found is not None
    return found.table


def check(path: Path, table: Table, server: Target, connection: Connection) -> None:
    """Load the file by every method, and compare with what the server makes of its records."""
    expected = expected_fingerprint(table, read_batches(path, 10), connection)
    for method in METHODS:
        empty(table, connection)
        load(path, table, server, method)
        assert fingerprint(table, connection) == expected, method


def test_duplicate_keys(
    tmp_path: Path, server: Target, connection: Connection, table: Table
) -> None:
    """Of a field that is given twice the last value counts, as for PostgreSQL; a json column keeps
    the text of what is within it."""
    path = tmp_path / "x.json"
    path.write_text(
        r'[{"a": 1, "j": 1, "a": "x\n", "\u0061": "last", "j": {"k": 1, "k": 2}},'
        '{"a": 1, "a": null}, {"a": "", "a": "x"}, {"jb": {"k": 1, "k": 2}, "i": 1, "i": 2}]'
    )
    check(path, table, server, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT a, j::text, jb::text, i FROM {table.schema}.t ORDER BY id")
        assert cursor.fetchall() == [
            ("last", '{"k": 1, "k": 2}', None, None),
            (None, None, None, None),
            ("x", None, None, None),
            (None, None, '{"k": 2}', 2),
        ]


def test_nested_values_and_long_records(
    tmp_path: Path, server: Target, connection: Connection, table: Table
) -> None:
    """A nested value is stored as its JSON in a text column; a record may be of 20 MB."""
    path = tmp_path / "x.json"
    long = "x" * (20 << 20)
    path.write_text(f'[{{"a": {{"b": [1, "x"]}}}}, {{"a": "{long}"}}, {{"a": [1.0]}}]', "utf-8")
    check(path, table, server, connection)
    stored = [row[0] for row in rows(table, connection)]
    assert stored == ['{"b": [1, "x"]}', long, "[1.0]"]


BAD = {
    '{"a": "\\ud800"}': "holds half of a surrogate pair",
    '{"j": "\\ude00"}': "holds half of a surrogate pair",
    '{"other": NaN}': "holds NaN, which is no JSON",
    '{"d": Infinity}': "holds Infinity, which is no JSON",
    '{"a": "tab\there"}': "holds a control character that is not escaped",
    '{"a": "x" "b"}': "JSON is malformed",
    '["a"]': "'[\"a\"]' is no JSON object",
    '"a"': "'\"a\"' is no JSON object",
    '{"a": "가"}': "is not UTF-8 but seems to be CP949",
    '{"jb": {"a": "가"}}': "is not UTF-8 but seems to be CP949",
    '{"a": "x\\u0000"}': "holds \\u0000, which PostgreSQL's text cannot hold",
    '{"jb": {"a": "\\u0000"}}': "holds \\u0000, which jsonb cannot hold",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_record(
    tmp_path: Path, server: Target, connection: Connection, table: Table, bad: str, method: str
) -> None:
    """The error tells file, record and reason, for whoever goes on; batches before it are in."""
    path = tmp_path / "x.json"
    texts = ['{"a": "1"}', '{"a": "2"}', '{"a": "3"}', bad, '{"a": "5"}']
    path.write_bytes(f"[{', '.join(texts)}]".encode("cp949"))
    with pytest.raises(RecordError) as caught:
        load(path, table, server, method, batch_size=2)
    error = caught.value
    assert (error.path, error.record) == (path, 4)
    assert str(error).startswith("x.json: record 4: ")
    assert str(error).endswith("; mend or remove the record")
    assert error.reason is not None
    assert error.reason in str(error)
    assert BAD[bad] in error.reason
    if error.field is not None:
        assert error.field == error.column == next(iter(json.loads(bad)))
    assert [row[0] for row in rows(table, connection)] == ["1", "2"]


REFUSED = {
    '{"d": 1e400}': "22003",
    '{"i": 2147483648}': "22003",
    '{"i": "1.5"}': "22P02",
    '{"v": "long"}': "22001",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", REFUSED)
def test_values_beyond_the_column(
    tmp_path: Path, server: Target, connection: Connection, table: Table, bad: str, method: str
) -> None:
    """What only the server can judge is refused by it, never cut or bent to fit."""
    path = tmp_path / "x.json"
    path.write_text(f'[{{"a": "x"}}, {bad}]')
    assert scan(path).unreadable == 0
    with pytest.raises(LoadError, match=rf"\(SQLSTATE {REFUSED[bad]}\)"):
        load(path, table, server, method)
    assert rows(table, connection) == []
