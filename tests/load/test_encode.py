"""Records become the same values by every way of encoding them; needs no server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pgload.contract import METHODS
from pgload.errors import RecordError
from pgload.load.encode import RowEncoder, Values
from pgload.load.methods import VALUE_LISTS, Copy, make_method
from pgload.schema.table import Column, Table
from pgload.source.reader import Batch

COLUMNS = (Column("a"), Column("b"), Column("j", "jsonb"))
COPY_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\x1f": "\x1f"}
ENCODING = ("values", "unnest", "copy", "executemany")  # json leaves it to the server


def make_batch(*records: str | bytes) -> Batch:
    """A batch of records given as JSON text; the first one has number 5."""
    texts = [record.encode() if isinstance(record, str) else record for record in records]
    return Batch(Path("x.json"), 5, [Raw(text) for text in texts])


def copied(columns: Sequence[Column], batch: Batch) -> list[Values]:
    """The rows in the text that COPY is sent, read as PostgreSQL documents its format."""
    encoded = Copy(Table("t", tuple(columns))).encode(batch)
    text = encoded.rows.decode()
    assert text.endswith("\n")
    lines = [map(unescape, line.split("\x1f")) for line in text[:-1].split("\n")]
    rows = [dict(zip(encoded.columns, line, strict=True)) for line in lines]
    return [[row[column] for column in columns] for row in rows]


def unescape(field: str) -> str | None:
    """A field of COPY's text without its escapes; None where it is empty."""
    pieces, at = [], 0
    while at < len(field):
        escape = next((e for e in COPY_ESCAPES if field.startswith(e, at)), None)
        assert escape or field[at] != "\\", field
        pieces.append(COPY_ESCAPES[escape] if escape else field[at])
        at += len(escape or "x")
    return "".join(pieces) or None


def expected(record: dict[str, Any], columns: Sequence[Column]) -> Values:
    """The values of a record, from Python's own reading of it."""
    row: Values = []
    for column in columns:
        value = record.get(column.source)
        if value in (None, ""):
            row.append(None)
        elif isinstance(value, str) and column.type == "text":
            row.append(value)
        else:
            row.append(json.dumps(value))
    return row


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
VALUES = st.recursive(
    TEXT
    | st.sampled_from(["it's", "\\", "\\N", '"', "),(", "),({", "[", "{}", "null", "\x1f", "\n"])
    | st.none()
    | st.integers()
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "j", "z"]), VALUES), min_size=1))
def test_any_value(records: list[dict[str, Any]]) -> None:
    """COPY's text and the tuples of `executemany` have the values of the records."""
    batch = make_batch(*map(json.dumps, records))
    for columns in (COLUMNS[:2], COLUMNS):
        rows = [expected(record, columns) for record in records]
        assert copied(columns, batch) == rows
        assert list(RowEncoder(columns).tuples(batch)) == rows


@pytest.mark.parametrize(
    ("record", "values"),
    [
        ('{"a": "x", "b": 1.50}', ["x", "1.50", None]),
        ('{"a": "", "b": null}', [None, None, None]),
        ('{"a": 1, "a": "last", "\\u0061": "x"}', ["x", None, None]),
        ('{"a": [1,  2.0], "b": {"k" : 1e5}}', ["[1,  2.0]", '{"k" : 1e5}', None]),
        ('{"j": "x \\u0041"}', [None, None, '"x \\u0041"']),
        ('{"j": ""}', [None, None, None]),
        ('{"a": true, "j": {"a": "\\n\'"}}', ["true", None, '{"a": "\\n\'"}']),
    ],
)
def test_values(record: str, values: Values) -> None:
    """Null, a missing field and '' are NULL; the last of two equal fields counts; the rest is text.

    A json column has the JSON text to the letter.
    """
    batch = make_batch(record)
    assert RowEncoder(COLUMNS).values(batch, 0) == values
    assert list(RowEncoder(COLUMNS).tuples(batch)) == [values]
    assert copied(COLUMNS, batch) == [values]


def test_unusual_field_names() -> None:
    """Fields may have any name, and one field may fill two columns."""
    names = ['quote"', "back\\slash", "line\nbreak", "가", "", "x" * 100]
    columns = [Column(f"c{n}", field=name) for n, name in enumerate([*names, names[0]])]
    record = {name: str(n) for n, name in enumerate(names)}
    assert copied(columns, make_batch(json.dumps(record))) == [["0", "1", "2", "3", "4", "5", "0"]]


def test_payloads() -> None:
    """What each method sends for a plain record, one with escapes and one with nothing."""
    batch = make_batch('{"a": "it\'s", "b": 1}', '{"a": "\\"x\\\\"}', "{}")
    payload = {
        name: make_method(name, Table("t", (Column("a"), Column("b", "integer")))).encode(batch)
        for name in METHODS
    }
    columns = (Column("a"), Column("b", "integer"))
    assert payload == {
        "values": [(columns, b"'it''s','1'),('\"x\\',NULL),(NULL,NULL")],
        "unnest": (
            columns,
            b"nullif(unnest('{\"it''s\",\"\\\"x\\\\\",NULL}'::text[]),''),"
            b"unnest('{1,NULL,NULL}'::integer[])",
        ),
        "json": [b'\'[{"a": "it\'\'s", "b": 1},{"a": "\\"x\\\\"},{}]\''],
        "copy": (columns, b"it's\x1f1\n\"x\\\\\x1f\n\x1f\n"),
        "executemany": (columns, [["it's", "1"], ['"x\\', None], [None, None]]),
    }


def test_file_order() -> None:
    """The columns are encoded in the order of the fields in each file, the others at the end."""
    copy = Copy(Table("t", tuple(map(Column, "abcd"))))
    batch = make_batch('{"c": "3"}', "5", '{"c": "3", "b": "2", "z": "0", "a": "1"}')
    assert [column.name for column in copy.encoder.for_batch(batch).columns] == list("cbad")
    assert copy.encode(make_batch('{"c": "3", "a": "1"}')).rows == b"3\x1f1\x1f\x1f\n"
    assert copy.encode(make_batch("{}")).columns == tuple(map(Column, "abcd"))


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b", "j", "z"]), VALUES), min_size=1),
    st.permutations(COLUMNS),
)
def test_any_order(records: list[dict[str, Any]], columns: Sequence[Column]) -> None:
    """Rows are the same for any order of the table's columns and of a record's fields."""
    batch = make_batch(*map(json.dumps, records))
    assert copied(columns, batch) == [expected(record, columns) for record in records]
    tuples = make_method("executemany", Table("t", tuple(columns))).encode(batch)
    rows = [dict(zip(tuples.columns, row, strict=True)) for row in tuples.rows]
    assert [[row[column] for column in COLUMNS] for row in rows] == [
        expected(record, COLUMNS) for record in records
    ]


BATCHES = st.lists(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "j", "k", "z"]),
            VALUES | st.sampled_from(["", "null", "nul", None]),
        ),
        min_size=1,
    ),
    max_size=4,
)


@given(BATCHES, st.sets(st.sampled_from(["a", "b", "j", "k"])))
def test_null_columns(batches: list[list[dict[str, Any]]], defaults: set[str]) -> None:
    """`values` omits columns that were NULL so far, but none with a default; no value is lost."""
    columns = [
        Column(name, "jsonb" if name == "j" else "text", default=name in defaults)
        for name in ("a", "b", "j", "k")
    ]
    encoder = RowEncoder(columns)
    filled = {columns[0]} | {column for column in columns if column.default}
    for records in batches:
        rows = [expected(record, columns) for record in records]
        filled |= {columns[n] for row in rows for n, value in enumerate(row) if value is not None}
        written, text = encoder.encode_filled(make_batch(*map(json.dumps, records)), VALUE_LISTS)
        assert list(written) == [column for column in columns if column in filled]
        values = [[row[columns.index(column)] for column in written] for row in rows]
        assert text == b"),(".join(map(VALUE_LISTS.row, values))


BAD = {
    '{"a": "\\ud800"}': "holds half of a surrogate pair",
    '{"other": NaN}': "holds NaN",
    '{"a": "tab\there"}': "holds a control character that is not escaped",
    '{"a": "x" "b"}': "JSON is malformed",
    '["a"]': "JSON object",
    '{"a": "가"}': "is not UTF-8 but seems to be CP949",
    '{"j": {"a": "가"}}': "is not UTF-8 but seems to be CP949",
    '{"a": "x\\u0000"}': "holds \\u0000, which PostgreSQL's text cannot hold",
    '{"j": {"a": "\\u0000"}}': "holds \\u0000, which jsonb cannot hold",
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_record(bad: str) -> None:
    """The error names file, record and reason, and the field where only its value is at fault."""
    batch = make_batch('{"a": "fine \\\\u0000", "j": "\\\\u0000"}', bad.encode("cp949"), '{"a": 1}')
    encoder = RowEncoder(COLUMNS)
    with pytest.raises(RecordError, match=r"^x\.json: record 6: ") as caught:
        encoder.check(batch)
    error = caught.value
    assert (error.path, error.record) == (batch.path, 6)
    assert error.reason is not None
    assert BAD[bad] in error.reason
    assert error.reason in str(error)
    assert str(error).endswith("or remove the record")
    if error.field is not None:
        assert error.field == error.column == next(iter(json.loads(bad)))


@pytest.mark.parametrize("method", ENCODING)
def test_method_refuses_a_bad_record(method: str) -> None:
    """A record with text that PostgreSQL cannot hold is refused while it is encoded."""
    batch = make_batch('{"a": "1"}', '{"a": "\\u0000"}')
    with pytest.raises(RecordError, match=r'^x\.json: record 6: field "a" holds \\u0000'):
        make_method(method, Table("t", COLUMNS)).encode(batch)
