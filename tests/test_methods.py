"""All methods store the same rows, which are those that PostgreSQL's own JSON functions make."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.errors import LoadError, RecordError, UsageError
from pgload.load.methods import METHODS, make_method
from pgload.load.verify import expected_fingerprint, fingerprint
from pgload.source.files import read_batches
from pgload.source.sample import KINDS, write_sample
from pgload.source.tables import Table, qualified_name
from pgload.targets.target import Target
from tests.loading import empty, load, make_table, rows, write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

ODD = [
    "it's", 'a "quoted" word', "back\\slash", "\\", "\\.", "\\N", "tab\there", "line\nbreak",
    "return\r\n", "\x01\x1f\x7f", " edge ", "\u00a0no-break\u00a0", "emoji 😀 한글", "null", "NULL",
    "''", "','", "E'x'", "$$", "%s %(a)s", "{", "[1]", "{}", "(a,b)", "a,b", "\u2028", "", " ",
]  # fmt: skip


def check(path: Path, server: Target, schema: str, connection: Connection) -> Table:
    """Load a file by every method and compare what each left with what has to be there."""
    table = make_table(path, schema, connection)
    expected = expected_fingerprint(table, read_batches(path, 100), connection)
    for method in METHODS:
        empty(table, connection)
        load(path, table, server, method, batch_size=7, connections=2)
        assert fingerprint(table, connection) == expected, method
    return table


@pytest.mark.parametrize("kind", KINDS)
def test_sample(tmp_path: Path, server: Target, schema: str, connection: Connection, kind) -> None:
    """Generated notices of every kind, their oddities included, come through every method."""
    path = tmp_path / "sample.json"
    write_sample(path, kind, 200, indent=2)
    check(path, server, schema, connection)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_odd_strings(
    tmp_path: Path, server: Target, schema: str, connection: Connection, ascii_only: bool
) -> None:
    """Quotes, backslashes, tabs, newlines, control characters and emoji, escaped or as they are."""
    records = [{"a": "before", "b": odd, "c": "after"} for odd in ODD]
    path = write_json(tmp_path / "odd.json", records, ensure_ascii=ascii_only)
    table = check(path, server, schema, connection)
    stored = sorted(rows(table, connection), key=str)
    assert stored == sorted((("before", odd or None, "after") for odd in ODD), key=str)


def test_empty_values(tmp_path: Path, server: Target, schema: str, connection: Connection) -> None:
    """An empty string, null and a missing field all become NULL, wherever they stand."""
    records: list[dict[str, Any]] = [
        {"a": "", "b": "x", "c": ""},
        {"a": None, "b": None, "c": None},
        {},
        {"c": "x"},
    ]
    path = write_json(tmp_path / "empty.json", records)
    table = check(path, server, schema, connection)
    load_order = rows(table, connection)
    assert sorted(load_order, key=str) == sorted(
        [(None, "x", None), (None, None, None), (None, None, None), (None, None, "x")], key=str
    )


@pytest.mark.parametrize("value", ["", "x", None])
def test_single_column(
    tmp_path: Path, server: Target, schema: str, connection: Connection, value: str | None
) -> None:
    """A table of one column takes its rows, even one that holds nothing."""
    path = write_json(tmp_path / "one.json", [{"a": value}])
    table = check(path, server, schema, connection)
    assert rows(table, connection) == [(value or None,)]


def test_long_strings(tmp_path: Path, server: Target, schema: str, connection: Connection) -> None:
    """Strings of a megabyte, plain and full of characters that have to be escaped."""
    records = [{"a": "가" * 350_000}, {"a": "\\'\"\n" * 250_000}, {"a": "end"}]
    check(write_json(tmp_path / "long.json", records), server, schema, connection)


def test_types(tmp_path: Path, server: Target, schema: str, connection: Connection) -> None:
    """Numbers, booleans and nested values reach columns of every type exactly as written."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "typed.json"\nname = "typed"\n[table.types]\n'
        'i = "integer"\nl = "bigint"\nn = "numeric"\nd = "double precision"\nb = "boolean"\n'
        'day = "date"\nat = "timestamp"\ntz = "timestamptz"\nj = "jsonb"\nraw = "json"\n'
    )
    text = (
        '{"i": 1, "l": "9223372036854775807", "n": 1.50, "d": 1e3, "b": true, "day": "2025-06-01",'
        ' "at": "2025-06-01 10:00", "tz": "2025-06-01T10:00:00+09:00", "j": {"a": [1, "x\\n"]},'
        ' "raw": {"b" : 1.0}, "t": 1e5, "u": {"c": "d"}}'
    )
    (tmp_path / "typed.json").write_text(f'[{text}, {{"i": null, "j": "x", "raw": ""}}, {{}}]')
    table = check(tmp_path / "typed.json", server, schema, connection)
    first = max(rows(table, connection), key=lambda row: row[0] is not None)
    assert first[:5] == (1, 2**63 - 1, Decimal("1.50"), 1000.0, True)
    assert str(first[2]) == "1.50"
    assert first[8:10] == ({"a": [1, "x\n"]}, {"b": 1.0})
    assert first[10:] == ("1e5", '{"c": "d"}')


def test_json_columns_keep_their_text(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """A json column holds a value's text to the letter: escapes, white space, number forms."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "raw.json"\nname = "raw"\ntypes = { j = "json" }\n'
    )
    path = tmp_path / "raw.json"
    path.write_text(r'[{"j": "https:\/\/x \u0041"}, {"j": {"a" : 1.0}}, {"j": null}, {"j": ""}]')
    table = check(path, server, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT j::text FROM {qualified_name(table, connection)}")
        stored = [text for (text,) in cursor.fetchall()]
    assert sorted(map(str, stored)) == sorted(
        [r'"https:\/\/x \u0041"', '{"a" : 1.0}', "None", "None"]
    )


@settings(max_examples=60)
@given(
    records=st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
            | st.sampled_from(ODD)
            | st.none()
            | st.integers()
            | st.booleans()
            | st.decimals(allow_nan=False, allow_infinity=False).map(float)
            | st.lists(st.text("[]{},'\"\\", max_size=3), max_size=2)
            | st.dictionaries(st.text("ab", max_size=1), st.none(), max_size=2),
            min_size=1,
        ),
        min_size=1,
        max_size=20,
    ),
    indent=st.sampled_from([None, 1]),
)
def test_any_value(
    tmp_path: Path, server: Target, schema: str, connection: Connection, records, indent
) -> None:
    """Whatever JSON can hold and PostgreSQL's text can take is stored alike by every method."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "any.json"\nname = "anything"\n[table.types]\nc = "json"\n'
    )
    path = write_json(tmp_path / "any.json", records, indent=indent)
    check(path, server, schema, connection)


@pytest.mark.parametrize("method", METHODS)
def test_nul(
    tmp_path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """A NUL, which PostgreSQL's text cannot hold, is refused with file, record and field."""
    records = [{"a": "fine"}] * 4 + [{"a": "not\0fine"}]
    path = write_json(tmp_path / "nul.json", records)
    table = make_table(path, schema, connection)
    with pytest.raises(RecordError, match=r'^nul\.json: record 5: field "a" holds \\u0000'):
        load(path, table, server, method, batch_size=3)
    assert rows(table, connection) == [("fine",)] * 3
    with pytest.raises(RecordError, match=r"^nul\.json: record 5 cannot become a row"):
        expected_fingerprint(table, read_batches(path, 10), connection)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_encoding(
    tmp_path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """Bytes that are no UTF-8 are refused with file and record."""
    path = write_json(tmp_path / "cp949.json", [{"a": "x"}])
    table = make_table(path, schema, connection)
    path.write_bytes(b'[{"a": "x"}, {"a": "' + "가나".encode("cp949") + b'"}]')
    with pytest.raises(RecordError, match=r"^cp949\.json: record 2"):
        load(path, table, server, method)
    assert rows(table, connection) == []


def test_value_that_does_not_fit(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """A value that a column refuses ends the load with file, records, table and SQLSTATE."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "x.json"\nname = "x"\ntypes = { a = "integer" }\n'
    )
    path = write_json(tmp_path / "x.json", [{"a": "1"}, {"a": "one"}])
    table = make_table(path, schema, connection)
    for method in METHODS:
        with pytest.raises(
            LoadError, match=r'^x\.json: records 1–2 into x: .*"one" \(SQLSTATE 22P02\)'
        ):
            load(path, table, server, method)
    assert rows(table, connection) == []


def test_unknown_method() -> None:
    """A method that does not exist is an error that names those that do."""
    with pytest.raises(UsageError, match="unknown method 'cpoy': choose from executemany"):
        make_method("cpoy", Table("x"))
