"""All methods store the same rows: those that PostgreSQL's own JSON functions make.

The test of the methods' names needs no server.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.contract import METHODS
from pgload.errors import UsageError
from pgload.load import methods
from pgload.load.methods import make_method
from pgload.load.verify import expected_fingerprint, fingerprint
from pgload.sample.generator import KINDS, write_sample
from pgload.schema.match import match_table
from pgload.schema.table import Column, Table, qualified_name
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import empty, load, make_table, new_table, rows, write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

ODD = [
    "it's", 'a "quoted" word', "back\\slash", "\\", "\\.", "\\N", "tab\there", "line\nbreak",
    "return\r\n", "\x01\x1f\x7f", " edge ", "\u00a0no-break\u00a0", "emoji 😀 한글", "null", "NULL",
    "''", "','", "E'x'", "$$", "%s %(a)s", "{", "[1]", "{}", "(a,b)", "a,b", "\u2028", "", " ",
]  # fmt: skip


def as_text(value: Any) -> str:
    """A JSON value as a string that a column of its type takes."""
    return value if isinstance(value, str) else json.dumps(value)


def test_names() -> None:
    """Every method of the contract exists, and only these."""
    assert set(methods._CLASSES) == set(METHODS)
    with pytest.raises(UsageError, match="unknown method 'cpoy': choose from values, unnest, json"):
        make_method("cpoy", Table("x"))


def compare_methods(
    path: Path, table: Table, server: Target, connection: Connection, *, connections: int = 1
) -> None:
    """Load a file by every method, and compare what each left with the expected fingerprint."""
    expected = expected_fingerprint(table, read_batches(path, 100), connection)
    for method in METHODS:
        empty(table, connection)
        load(path, table, server, method, batch_size=7, connections=connections)
        assert fingerprint(table, connection) == expected, method


def check(path: Path, server: Target, schema: str, connection: Connection) -> Table:
    """The planned table of a file, after `compare_methods`."""
    table = make_table(path, schema, connection)
    compare_methods(path, table, server, connection, connections=2)
    return table


@pytest.mark.parametrize("kind", KINDS)
def test_sample(tmp_path: Path, server: Target, schema: str, connection: Connection, kind) -> None:
    """Generated notices of every kind are stored alike by every method."""
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
    """An empty string, null and a missing field all become NULL, wherever they are."""
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
    """A table of one column takes its rows, even one that is NULL."""
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
        '[[table]]\nfiles = "typed.json"\nname = "typed"\ninfer = false\n[table.types]\n'
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


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
SCALARS = (
    TEXT
    | st.sampled_from(ODD)
    | st.none()
    | st.integers()
    | st.booleans()
    | st.decimals(allow_nan=False, allow_infinity=False).map(float)
)
NESTED = st.recursive(
    SCALARS | st.text("[]{},'\"\\\n", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=50)
@given(
    records=st.lists(
        st.dictionaries(st.sampled_from("abcj"), NESTED, min_size=1), min_size=1, max_size=20
    ),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_any_value(
    tmp_path: Path, server: Target, schema: str, connection: Connection, records, indent, ascii_only
) -> None:
    """Whatever JSON can hold and PostgreSQL's text can take is stored alike by every method."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "any.json"\nname = "anything"\n[table.types]\nc = "json"\nj = "jsonb"\n'
    )
    path = write_json(tmp_path / "any.json", records, indent=indent, ensure_ascii=ascii_only)
    compare_methods(path, make_table(path, schema, connection), server, connection)


MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30))
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str),
    "double precision": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "date": MOMENTS.map(lambda moment: f"{moment:%d %b}" + f" {moment.year:04}"),
    "timestamp": MOMENTS.map(lambda moment: moment.isoformat(" ")),
    "timestamptz": MOMENTS.map(lambda moment: f"{moment.isoformat()}+09:00"),
    "jsonb": NESTED,
}


@settings(max_examples=30)
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {"text": SCALARS},
            optional={
                name: values | st.sampled_from([None, ""]) | values.map(as_text)
                for name, values in TYPED.items()
            },
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_typed_value(
    tmp_path: Path, server: Target, schema: str, connection: Connection, records
) -> None:
    """Values of every type, as JSON's own or as strings, are stored alike by every method."""
    path = write_json(tmp_path / "typed.json", records)
    columns = [Column(type_, type_) for type_ in ("text", *TYPED)]
    table = new_table(Table("typed", tuple(columns), schema=schema), connection)
    compare_methods(path, table, server, connection)


def test_types_of_the_server(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Types with a length, domains, enums and arrays are stored alike by every method."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TYPE {schema}.mood AS ENUM ('so so', 'it''s \"fine\"')")
        cursor.execute(f"CREATE DOMAIN {schema}.amount AS numeric(10, 2) CHECK (VALUE >= 0)")
    stored = {
        "character varying(5)": ("five!", "five!"),
        "character(3)": ("a", "a  "),
        "bit(3)": ("101", "101"),
        "numeric(6,2)": (12.345, Decimal("12.35")),
        "timestamp(0) without time zone": ("2025-06-01 10:00:00.7", datetime(2025, 6, 1, 10, 0, 1)),
        f"{schema}.mood": ('it\'s "fine"', 'it\'s "fine"'),
        f"{schema}.amount": ("10.005", Decimal("10.01")),
        "text[]": ('{a,"b, c",NULL}', ["a", "b, c", None]),
        "integer[]": ("{{1,2},{3,4}}", [[1, 2], [3, 4]]),
        "bytea": ("\\x00ff", b"\x00\xff"),
        '"char"': ("x", "x"),
    }
    columns = tuple(Column(f"c{n}", type_) for n, type_ in enumerate(stored))
    table = new_table(Table("special", columns, schema=schema), connection)
    given = {f"c{n}": value for n, (value, _) in enumerate(stored.values())}
    path = write_json(tmp_path / "special.json", [given, {"c0": ""}])
    for method in METHODS:
        empty(table, connection)
        load(path, table, server, method)
        full, nothing = rows(table, connection)
        full = tuple(bytes(each) if isinstance(each, memoryview) else each for each in full)
        assert full == tuple(kept for _, kept in stored.values()), method
        assert set(nothing) == {None}, method


def test_json_columns_beside_others(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Records with json columns may have escapes, quotes and NULLs in all of their columns."""
    records = [
        {"a": odd, "j": {"odd": odd, "list": [odd]}, "b": "after"} if n % 3 else {"b": odd}
        for n, odd in enumerate(ODD)
    ]
    path = write_json(tmp_path / "nested.json", records, indent=1)
    columns = (Column("a"), Column("j", "jsonb"), Column("b"), Column("k", "json", field="j"))
    table = new_table(Table("nested", columns, schema=schema), connection)
    compare_methods(path, table, server, connection)


def test_duplicate_keys(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Of a field that is given twice the last value counts, as for PostgreSQL; a json column keeps
    the text of what is within it.
    """
    path = tmp_path / "x.json"
    path.write_text(
        r'[{"a": 1, "j": 1, "a": "x\n", "\u0061": "last", "j": {"k": 1, "k": 2}},'
        '{"a": 1, "a": null}, {"a": "", "a": "x"}, {"jb": {"k": 1, "k": 2}, "i": 1, "i": 2}]'
    )
    columns = (Column("a"), Column("j", "json"), Column("jb", "jsonb"), Column("i", "integer"))
    table = new_table(Table("t", columns, schema=schema), connection)
    compare_methods(path, table, server, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT a, j::text, jb::text, i FROM {schema}.t ORDER BY id")
        assert cursor.fetchall() == [
            ("last", '{"k": 1, "k": 2}', None, None),
            (None, None, None, None),
            ("x", None, None, None),
            (None, None, '{"k": 2}', 2),
        ]


def test_long_record(tmp_path: Path, server: Target, schema: str, connection: Connection) -> None:
    """A record may be of 10 MB, between nested values that are stored as their JSON."""
    path, long = tmp_path / "x.json", "x" * (10 << 20)
    path.write_text(f'[{{"a": {{"b": [1, "x"]}}}}, {{"a": "{long}"}}, {{"a": [1.0]}}]', "utf-8")
    table = new_table(Table("t", (Column("a"),), schema=schema), connection)
    with connection.cursor() as cursor:  # uncompressed, which is faster
        cursor.execute(f"ALTER TABLE {schema}.t ALTER a SET STORAGE EXTERNAL")
    compare_methods(path, table, server, connection)
    assert rows(table, connection) == [('{"b": [1, "x"]}',), (long,), ("[1.0]",)]


@pytest.mark.parametrize("method", METHODS)
def test_defaults(
    tmp_path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """NULL stays NULL in a column with a default, in a table whose columns are in another order."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path TO {schema}")
        cursor.execute("CREATE DOMAIN answer AS int DEFAULT 42")
        cursor.execute(
            "CREATE TABLE t (d text DEFAULT 'd', never text, late text, n answer, a text,"
            " id int GENERATED BY DEFAULT AS IDENTITY,"
            " twice text GENERATED ALWAYS AS (a || a) STORED)"
        )
    records = [{"a": f"{i}", "d": None, "n": "", "never": "", "id": i} for i in range(300)]
    records[250] |= {"late": "x", "d": "y"}
    path = write_json(tmp_path / "t.json", records)
    match = match_table(Table("t"), [*records[0], "late"], connection)
    assert match is not None
    load(path, match.table, server, method, batch_size=100)
    expected = expected_fingerprint(match.table, read_batches(path, 100), connection)
    assert fingerprint(match.table, connection) == expected
    with connection.cursor() as cursor:
        cursor.execute("SELECT d, never, late, n, a, twice FROM t ORDER BY id")
        stored = cursor.fetchall()
    assert stored[3] == (None, None, None, None, "3", "33")
    assert stored[250] == ("y", None, "x", None, "250", "250250")
