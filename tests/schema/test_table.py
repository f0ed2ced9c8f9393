"""Names as SQL, and the DDL of a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.schema.mapping import read_mapping
from pgload.schema.table import Column, Table, create_table, describe, input_type, snake_case
from tests.support.loading import make_table, plan, write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("bidNtceNo", "bid_ntce_no"),
        ("bid_ntce_no", "bid_ntce_no"),
        ("BidNtceNo", "bid_ntce_no"),
        ("VAT", "vat"),
        ("VATAmount", "vat_amount"),
        ("d2bMngNo", "d2b_mng_no"),
        ("bid-ntce no", "bid_ntce_no"),
        ("공고 번호", "공고_번호"),
        ("--", ""),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    """Names in any usual form have the same snake_case."""
    assert snake_case(name) == snake


def test_create_table(tmp_path: Path, connection: Connection, schema: str) -> None:
    """Columns have the fields' exact names; the server fills id, createdAt and updatedAt."""
    records = [{"bidNtceNo": "1", 'a "b"; --': "2", "updatedAt": "x", "%s": 1}]
    path = write_json(tmp_path / "x.json", records)
    table = make_table(path, schema, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s ORDER BY ordinal_position",
            (schema,),
        )
        assert cursor.fetchall() == [
            ("id", "bigint"),
            ("createdAt", "timestamp with time zone"),
            ("bidNtceNo", "text"),
            ('a "b"; --', "text"),
            ("updatedAt", "text"),
            ("%s", "bigint"),
        ]
    assert "UNIQUE" not in create_table(table, connection, unique_key=True)


def test_unique_key(tmp_path: Path, connection: Connection) -> None:
    """The key becomes a constraint only with `unique_key`."""
    path = write_json(
        tmp_path / "BidPublicInfoService_BID_THNG_1.json", [{"bidNtceNo": "1", "bidNtceOrd": "0"}]
    )
    table = plan(path, rules=read_mapping(tmp_path))[path]
    constraint = 'UNIQUE ("bidNtceNo", "bidNtceOrd")'
    assert constraint in create_table(table, connection, unique_key=True)
    assert constraint not in create_table(table, connection, unique_key=False)


def test_describe() -> None:
    """A table's columns are counted by type, pgload's own types first."""
    columns = (Column("a"), Column("b", "uuid"), Column("c", "bigint"), Column("d"))
    assert describe(Table("t", columns)) == "t: 2 text, 1 bigint, 1 uuid"


@pytest.mark.parametrize(
    ("type_", "cast"),
    [
        ("character varying(10)", "character varying"),
        ("character(4)", "bpchar"),
        ("bit(3)", "bit varying"),
        ("timestamp(0) without time zone", "timestamp without time zone"),
        ("numeric(15,2)", "numeric"),
        ("text", "text"),
    ],
)
def test_input_type(type_: str, cast: str) -> None:
    """Text is cast without a length, which would truncate it."""
    assert input_type(Column("a", type_)) == cast
