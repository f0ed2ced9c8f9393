"""All methods store the same rows, which are those that PostgreSQL's own JSON functions make."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pgload.contract import METHODS
from pgload.errors import LoadError, RecordError, UsageError
from pgload.load.loader import Loader
from pgload.load.methods import make_method
from pgload.load.verify import expected_fingerprint, fingerprint
from pgload.sample.generator import KINDS, write_sample
from pgload.schema.table import Column, Table, create_table, qualified_name
from pgload.source.reader import Batch, read_batches
from pgload.targets.target import Target
from tests.support.loading import empty, load, make_table, rows, write_json

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


def new_table(table: Table, connection: Connection) -> Table:
    """The table, created empty."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {qualified_name(table, connection)}")
        cursor.execute(create_table(table, connection, unique_key=False))
    return table


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
    check(path, server, schema, connection)


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
    expected = expected_fingerprint(table, read_batches(path, 100), connection)
    for method in METHODS:
        empty(table, connection)
        load(path, table, server, method, batch_size=7)
        assert fingerprint(table, connection) == expected, method


def test_types_of_the_server(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """Types with a length, domains, enums and arrays take what they hold, by every method."""
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("character varying(5)", "longer"),
        ("character(3)", "four"),
        ("bit(3)", "1010"),
        ("bit(3)", "10"),
        ("numeric(4,2)", "100.00"),
        ("integer", str(2**31)),
        ("domain", "-1"),
        ("enum", "sad"),
    ],
)
def test_too_long(
    tmp_path: Path,
    server: Target,
    schema: str,
    connection: Connection,
    method: str,
    type_: str,
    value: str,
) -> None:
    """A value that a column cannot hold is refused by every method, never cut."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TYPE {schema}.enum AS ENUM ('glad')")
        cursor.execute(f"CREATE DOMAIN {schema}.domain AS integer CHECK (VALUE >= 0)")
    if type_ in ("domain", "enum"):
        type_ = f"{schema}.{type_}"
    path = write_json(tmp_path / "x.json", [{"a": ""}, {"a": value}])
    table = new_table(Table("x", (Column("a", type_),), schema=schema), connection)
    with pytest.raises(LoadError, match=r"^x\.json: records 1–2 into x: "):
        load(path, table, server, method)
    assert rows(table, connection) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("type_", ["text", "jsonb"])
@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00x", r"\u0000", r"\\\u0000"])
def test_no_text(
    server: Target, schema: str, connection: Connection, method: str, type_: str, escape: str
) -> None:
    """Half a surrogate pair and \\u0000 are refused with file and record."""
    records = [r'{"a": "fine \\u0000"}', f'{{"a": "{escape}"}}']
    batch = Batch(Path("no.json"), 1, [Raw(record.encode()) for record in records])
    table = new_table(Table("no", (Column("a", type_),), schema=schema), connection)
    with (
        Loader(server.connect, method) as loader,
        pytest.raises(RecordError, match=r"^no\.json: record 2: "),
    ):
        loader.run([(table, batch)])
    assert rows(table, connection) == []


def test_one_nested_column(
    tmp_path: Path, server: Target, schema: str, connection: Connection
) -> None:
    """A json column leaves records with escapes, quotes and nothing beside it as they are."""
    records = [
        {"a": odd, "j": {"odd": odd, "list": [odd]}, "b": "after"} if n % 3 else {"b": odd}
        for n, odd in enumerate(ODD)
    ]
    path = write_json(tmp_path / "nested.json", records, indent=1)
    columns = (Column("a"), Column("j", "jsonb"), Column("b"), Column("k", "json", field="j"))
    table = new_table(Table("nested", columns, schema=schema), connection)
    expected = expected_fingerprint(table, read_batches(path, 100), connection)
    for method in METHODS:
        empty(table, connection)
        load(path, table, server, method, batch_size=7)
        assert fingerprint(table, connection) == expected, method


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
