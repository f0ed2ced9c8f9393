"""A file finds its table by a mapping that users extend, or by its own name and values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.errors import SourceError, UsageError
from pgload.schema.mapping import Rule, format_for, name_tables, read_mapping, table_for
from pgload.schema.table import Column, Table, describe
from pgload.source.reader import Format
from tests.support.loading import plan, write_json

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("BidPublicInfoService_BID_CNSTWK_202506010000.json", "bid_pblanclistinfo_cnstwk"),
        ("BidPublicInfoService_BID_SERVC_202506010000.json", "bid_pblanclistinfo_servc"),
        ("BidPublicInfoService_BID_THNG_202506010000.json", "bid_pblanclistinfo_thng"),
        ("BidPublicInfoService_BID_FRGCPT_202506010000.json", "bid_pblanclistinfo_frgcpt"),
        ("PubDataOpnStdService_ScsBidInfo_202506010000.json", "opn_std_scsbid_info"),
        ("PubDataOpnStdService_ScsBidInfo__202506010000.json", "opn_std_scsbid_info"),
    ],
)
def test_known_files(tmp_path: Path, file: str, table: str) -> None:
    """The five kinds of notices go to their tables, the double underscore included."""
    found, rule = table_for(tmp_path / file, read_mapping(tmp_path))
    assert found.name == table
    assert rule is not None
    assert not rule.infer
    assert found.key[:2] == ("bidNtceNo", "bidNtceOrd")


def test_own_mapping(tmp_path: Path) -> None:
    """A `tables.toml` beside the data maps new files, and wins over pgload's own."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "order*"\nname = "orders"\nkey = ["no"]\ntypes = { sum = "numeric" }\n'
        '[[table]]\nfiles = "BidPublicInfoService_BID_THNG_*"\nname = "goods"\n'
    )
    rules = read_mapping(tmp_path)
    assert rules[0] == Rule("order*", "orders", ("no",), {"sum": "numeric"})
    assert table_for(tmp_path / "BidPublicInfoService_BID_THNG_1.json", rules)[0].name == "goods"
    path = write_json(tmp_path / "orders_1.json", [{"no": "1", "sum": "2.50", "note": 3}])
    table = plan(path, rules=rules)[path]
    assert table.columns == (Column("no"), Column("sum", "numeric"), Column("note", "bigint"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[table]\n", r"tables\.toml: Expected"),
        ('[[table]]\nname = "x"\n', "missing required field `files`"),
        ('[[table]]\nfiles = ["x"]\nname = "x"\n', r"Expected `str`, got `array` - at .*files"),
        ('[[table]]\nfiles = "x"\nname = "x"\nkey = "no"\n', "Expected `array`, got `str`"),
        ('[[table]]\nfiles = "x"\nname = "x"\ncolour = 1\n', "unknown field `colour`"),
        ('[[table]]\nfiles = "x"\nname = "x"\nitems = "a..b"\n', '"a..b" is not the path of a'),
        (
            '[[table]]\nfiles = "x"\nname = "x"\nitems = "a"\nformat = "object"\n',
            "has items and format: choose one",
        ),
        ('[[table]]\nfiles = "x"\nname = "x"\ntypes = { a = "int" }\n', "Invalid enum value 'int'"),
    ],
)
def test_wrong_mapping(tmp_path: Path, text: str, message: str) -> None:
    """A mistake in a mapping file is an error that names the file."""
    (tmp_path / "tables.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_mapping(tmp_path)


def test_unreadable_mapping(tmp_path: Path) -> None:
    """A mapping that is there but cannot be read is an error, not ignored."""
    path = tmp_path / "tables.toml"
    path.mkdir()
    with pytest.raises(UsageError, match=r"tables\.toml is not a file: remove it"):
        read_mapping(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(UsageError, match=r"tables\.toml is not a file: remove it"):
        read_mapping(tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"tables\.toml cannot be read: no such file"):
        read_mapping(tmp_path)
    path.unlink()
    path.write_bytes("# 가".encode("cp949"))
    with pytest.raises(UsageError, match=r"tables\.toml is not UTF-8: convert it"):
        read_mapping(tmp_path)


def test_formats(tmp_path: Path) -> None:
    """A rule says where the records are in an object, or that each file or line is one."""
    (tmp_path / "tables.toml").write_text(
        '[[table]]\nfiles = "a*"\nname = "a"\nitems = "rows.row"\n'
        '[[table]]\nfiles = "b*"\nname = "b"\nformat = "object"\n'
        '[[table]]\nfiles = "c*"\nname = "c"\n'
    )
    rules = read_mapping(tmp_path)
    found = [
        format_for(tmp_path / name, rules) for name in ("a.json", "b.json", "c.json", "d.json")
    ]
    assert found == [Format(items=("rows", "row")), Format("object"), None, None]


def test_inferred_table(tmp_path: Path) -> None:
    """Without a mapping the file names the table, and values that agree on a type give it."""
    records = [
        {"i": 1, "n": 1, "b": True, "j": {"x": 1}, "t": "1", "mix": 1, "none": None, "empty": ""},
        {"i": None, "n": 1.5, "b": "", "j": [1], "t": "x", "mix": "x", "big": 2**63, "new": False},
    ]
    path = write_json(tmp_path / "Orders-2025_0601.json", records)
    table = plan(path)[path]
    assert table.name == "orders_2025_0601"
    assert {column.name: column.type for column in table.columns} == {
        "i": "bigint",
        "n": "numeric",
        "b": "boolean",
        "j": "jsonb",
        "t": "text",
        "mix": "text",
        "none": "text",
        "empty": "text",
        "big": "numeric",
        "new": "boolean",
    }
    assert describe(table) == "orders_2025_0601: 4 text, 1 bigint, 2 numeric, 2 boolean, 1 jsonb"


def test_columns_of_all_files(tmp_path: Path) -> None:
    """A table has a column for every field of any of its files."""
    paths = [
        write_json(tmp_path / "x_202501.json", [{"a": "1"}, {"a": "1", "b": "2"}]),
        write_json(tmp_path / "x_202502.json", [{"b": "1", "c": "2"}]),
    ]
    tables = plan(*paths)
    assert tables[paths[0]] == tables[paths[1]]
    assert [column.name for column in tables[paths[0]].columns] == ["a", "b", "c"]


def test_types_of_a_rule(tmp_path: Path) -> None:
    """Types that a rule does not give come from the values, unless it says `infer = false`."""
    mapping = tmp_path / "tables.toml"
    path = write_json(tmp_path / "x.json", [{"a": 1, "b": 1, "c": "2025-06-01"}])
    for more, types in (
        ("", ["numeric", "bigint", "date"]),
        ("infer = false", ["numeric", "text", "text"]),
    ):
        mapping.write_text(
            f'[[table]]\nfiles = "x*"\nname = "x"\ntypes = {{ a = "numeric" }}\n{more}\n'
        )
        table = plan(path, rules=read_mapping(tmp_path))[path]
        assert [column.type for column in table.columns] == types


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (["2025-06-01", "", None], "date"),
        (["2025-06-01", "2025-06-01 10:00"], "timestamp"),
        (["2025-06-01T10:00:00.123456", "2025-06-01 10:00:00"], "timestamp"),
        (["2025-06-01T10:00:00Z", "2025-06-01 10:00+09:00"], "timestamptz"),
        (["2025-06-01", "2025-02-30"], "text"),
        (["2025-06-01T10:00:00", "2025-06-01T10:00:00Z"], "text"),
        (["2025-06-01T10:00:00.1234567"], "text"),
        (["2025-06-01T10:00:00+16:00"], "text"),
        (["20250601"], "text"),
        (["2025-06-01", 5], "text"),
    ],
)
def test_dates(tmp_path: Path, values: list[object], type_: str) -> None:
    """A column whose values are all ISO dates or times has their type, if nothing is lost."""
    path = write_json(tmp_path / "x.json", [{"a": value} for value in values])
    assert plan(path)[path].columns == (Column("a", type_),)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("shop.orders", Table("orders", schema="shop")),
        ('\\"shop.orders\\"', Table("shop.orders")),
        ("orders", Table("orders")),
    ],
)
def test_schema_of_a_rule(tmp_path: Path, name: str, table: Table) -> None:
    """A rule may name a table with its schema; a name in quotes is taken as it is."""
    mapping = tmp_path / "tables.toml"
    mapping.write_text(f'[[table]]\nfiles = "x*"\nname = "{name}"\n')
    assert table_for(tmp_path / "x.json", read_mapping(tmp_path))[0] == table
    mapping.write_text('[[table]]\nfiles = "x*"\nname = "a.b.c"\n')
    with pytest.raises(UsageError, match="has more than a schema and a table"):
        read_mapping(tmp_path)


def test_digits_at_the_end(tmp_path: Path) -> None:
    """Digits at the end of a file's name are part of the table's unless the files' fields agree."""
    files: dict[str, dict[str, set[str]]] = {
        "sales_202501.json": {"a": set(), "b": set()},
        "sales_202502.json": {"b": set(), "a": set(), "c": set()},
        "report1.json": {"a": set()},
        "report2.json": {"x": set()},
        "주문 내역 2025.json": {"a": set()},
        "2025.json": {"a": set()},
    }
    tables = name_tables({tmp_path / name: fields for name, fields in files.items()}, [])
    names = [table.name for table in tables.values()]
    assert names == ["sales", "sales", "report1", "report2", "주문_내역_2025", "2025"]


@pytest.mark.parametrize("name", ["x" * 64, "가" * 22, "nul\0"], ids=ascii)
def test_impossible_names(tmp_path: Path, name: str) -> None:
    """A field that PostgreSQL would truncate or refuse as a column's name is an error."""
    path = write_json(tmp_path / "x.json", [{name: "1"}])
    with pytest.raises(SourceError, match=r"x\.json: .* cannot be a name in PostgreSQL"):
        plan(path)


def test_record_not_an_object(tmp_path: Path) -> None:
    """Every record has to be an object."""
    path = write_json(tmp_path / "x.json", [{"a": "1"}, 5])
    with pytest.raises(SourceError, match=r"x\.json: record 2: '5' is not a JSON object; fix"):
        plan(path)


def test_huge_number(tmp_path: Path) -> None:
    """A number of more digits than Python would convert is still a number."""
    path = tmp_path / "x.json"
    path.write_text(f'[{{"a": {"9" * 5000}}}]')
    assert plan(path)[path].columns == (Column("a", "numeric"),)
