"""Records with the same key are in the same partition, however their JSON writes the key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pgload.errors import RecordError
from pgload.load.encode import RowEncoder
from pgload.migrate.writing.partitions import (
    UNDIVIDED,
    Partitioner,
    Partitioning,
    TableKey,
    key_of,
    read_divided,
)
from pgload.schema.keys import conflict_key
from pgload.schema.match import match_table
from pgload.schema.table import Table, input_type
from pgload.source.reader import Batch
from tests.support.loading import write_json

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SPACES = st.sampled_from(["", " ", "\t"])
NUMBERS = st.one_of(st.integers(-20, 20), st.integers(-(10**25), 10**25))


@st.composite
def integers(draw: st.DrawFn) -> str:
    """JSON of an integer, as a number or in one of the ways that PostgreSQL reads from text."""
    number = draw(NUMBERS)
    sign = "-" if number < 0 else draw(st.sampled_from(["", "+"]))
    digits = draw(st.sampled_from(["{}", "00{}", "{:#x}", "{:#o}", "{:_}"])).format(abs(number))
    text = draw(SPACES) + sign + digits + draw(SPACES)
    return draw(st.sampled_from([str(number), json.dumps(str(number)), json.dumps(text)]))


@st.composite
def numerics(draw: st.DrawFn) -> str:
    """JSON of a number with decimals: exponents, zeros at the end, rounding, NaN and infinity."""
    number = draw(st.decimals(-3, 3, places=draw(st.integers(0, 4))))
    text = draw(
        st.sampled_from(
            [
                str(number),
                f"{number}0",
                f"{number:E}",
                f"{number}e0",
                f"{number}e1",
                "-0.0",
                "1E-400",
            ]
        )
    )
    odd = st.sampled_from(['"NaN"', '"nan"', '"inf"', '"Infinity"', '" 1.5 "', "1.005", "1.0049"])
    return draw(st.one_of(st.just(text), st.just(json.dumps(text)), odd, integers()))


@st.composite
def texts(draw: st.DrawFn) -> str:
    """JSON of a short string with spaces, escaped or not; or of another value."""
    text = draw(st.text("aAé한\\ ", max_size=4)) + draw(st.sampled_from(["", " ", "   "]))
    other = st.sampled_from(["1", "1.0", '"1"', "true", '"true"', "null", '""', '{"a": 1}'])
    encoded = st.booleans().map(lambda ascii_: json.dumps(text, ensure_ascii=ascii_))
    escaped = st.just('"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"')
    return draw(st.one_of(encoded, escaped, other))


@st.composite
def uuids(draw: st.DrawFn) -> str:
    """JSON of one of two UUIDs, in one of the ways that PostgreSQL reads."""
    text = str(UUID(int=draw(st.integers(0xABC, 0xABD))))
    text = draw(st.sampled_from([text, text.upper(), "{" + text + "}", text.replace("-", "")]))
    return json.dumps(text)


JSON = {
    "integer": integers(),
    "bigint": integers(),
    "numeric": numerics(),
    "numeric(10,2)": numerics(),
    "numeric(30,0)": numerics(),
    "text": texts(),
    "varchar(3)": texts(),
    "char(3)": texts(),
    "uuid": uuids(),
}


@contextmanager
def keyed_table(connection: Connection, columns: str, *more: str) -> Iterator[Table]:
    """A table that records with the fields k, l and v fill, with the key by which they conflict."""
    with connection.cursor() as cursor:
        cursor.execute("; ".join([f"CREATE TEMPORARY TABLE keyed ({columns})", *more]))
        try:
            match = match_table(Table("keyed", schema="pg_temp"), ["k", "l", "v"], connection)
            if match is None:  # pg_temp is an alias
                cursor.execute("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")
                schema = cursor.fetchall()[0][0]
                match = match_table(Table("keyed", schema=schema), ["k", "l", "v"], connection)
            assert match is not None
            key = conflict_key(match.table, connection)
            yield Table("keyed", match.table.columns, key, match.table.schema)
        finally:
            cursor.execute("DROP TABLE keyed CASCADE")


def records(*texts: str) -> Batch:
    return Batch(Path("a.json"), 1, [Raw(text.encode()) for text in texts])


@pytest.mark.parametrize("type_", JSON)
def test_equal_on_the_server(connection: Connection, type_: str) -> None:
    """Values that the server takes and holds to be equal are in the same partition."""

    @settings(max_examples=10)
    @given(st.lists(JSON[type_], min_size=25, max_size=25))
    def check(values: list[str]) -> None:
        group = records(*(f'{{"k": {value}}}' for value in values))
        divided = partitioner.divide(group)
        partition_of = {number: batch.partition for batch in divided for number in batch.numbers}
        for numbers in equal_on_the_server(group):
            assert len({partition_of[n] for n in numbers}) == 1, [values[n - 1] for n in numbers]

    def equal_on_the_server(group: Batch) -> list[list[int]]:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE stored")
            for n, number in enumerate(group.numbers):
                with suppress(psycopg2.Error, RecordError):  # the server does not take the value
                    cursor.execute(insert, (encoder.values(group, n)[0], number))
            cursor.execute("SELECT array_agg(n) FROM stored WHERE k IS NOT NULL GROUP BY k")
            return [numbers for (numbers,) in cursor.fetchall()]

    with keyed_table(connection, f"k {type_} PRIMARY KEY") as table:
        key = key_of(table, connection, may_change=False).hashed
        partitioner, encoder = Partitioner(Partitioning(100_000, key)), RowEncoder(table.columns)
        insert = f"INSERT INTO stored SELECT %s::{input_type(table.columns[0])}, %s"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TEMPORARY TABLE stored (k {type_}, n int)")
        check()


@pytest.mark.parametrize(
    ("columns", "more", "hashed", "obstacle"),
    [
        ("k int PRIMARY KEY, v text", "", {"k": "integer"}, ""),
        ("k numeric(9,2), l text, PRIMARY KEY (k, l)", "", {"k": "numeric 2", "l": "text"}, ""),
        ("k timestamptz, l uuid, PRIMARY KEY (k, l)", "", {"l": "uuid"}, ""),
        ("k date PRIMARY KEY", "", {}, r"only the server .* \(k date\)"),
        ("k int[] PRIMARY KEY", "", {}, r"only the server .* \(k integer\[\]\)"),
        ("k int PRIMARY KEY, v text UNIQUE", "", {}, "unique index keyed_v_key"),
        ("k int PRIMARY KEY, v text", "CREATE UNIQUE INDEX x ON keyed (lower(v))", {}, "index x"),
        ("k int UNIQUE, id serial PRIMARY KEY", "", {"k": "integer"}, ""),
        ("k int, l int, UNIQUE (k, l), PRIMARY KEY (k)", "", {"k": "integer"}, ""),
        ("k int PRIMARY KEY, l int REFERENCES keyed", "", {}, "foreign key keyed_l_fkey"),
        ("k int PRIMARY KEY, EXCLUDE (k WITH =)", "", {}, "unique index keyed_k_excl"),
        (
            "k int PRIMARY KEY, v text, w text UNIQUE GENERATED ALWAYS AS (lower(v)) STORED",
            "",
            {},
            "unique index keyed_w_key",
        ),
    ],
)
def test_key_of(
    connection: Connection, columns: str, more: str, hashed: dict[str, str], obstacle: str
) -> None:
    """Columns are hashed whose equality is known here, unless records depend on one another."""
    with keyed_table(connection, columns, more) as table:
        found = key_of(table, connection, may_change=False)
        if obstacle:
            assert re.search(obstacle, found.obstacle)
        else:
            assert (dict(found.hashed), found.obstacle) == (hashed, "")
        assert "triggers" in key_of(table, connection, may_change=True).obstacle


def test_key_of_partitions(connection: Connection) -> None:
    """A partition may have a unique index of its own."""
    with keyed_table(connection, "k int PRIMARY KEY, v text) PARTITION BY RANGE (k") as table:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE part PARTITION OF keyed FOR VALUES FROM (0) TO (9)")
        assert key_of(table, connection, may_change=False).obstacle == ""
        with connection.cursor() as cursor:
            cursor.execute("CREATE UNIQUE INDEX ON part (v)")
        assert "unique index part_v_idx" in key_of(table, connection, may_change=False).obstacle


OWN_CLASS = """
    CREATE OPERATOR CLASS pg_temp.own FOR TYPE text USING btree AS OPERATOR 1 ~<~,
    OPERATOR 2 ~<=~, OPERATOR 3 =, OPERATOR 4 ~>=~, OPERATOR 5 ~>~,
    FUNCTION 1 bttext_pattern_cmp(text, text)"""
OWN_COLLATION = """
    CREATE COLLATION pg_temp.own FROM "C";
    UPDATE pg_collation SET collisdeterministic = false
    WHERE collnamespace = pg_my_temp_schema()"""


@pytest.mark.parametrize(
    ("create", "key"),
    [(OWN_CLASS, "k pg_temp.own"), (OWN_COLLATION, "k COLLATE pg_temp.own")],
    ids=["class", "collation"],
)
def test_own_equality(connection: Connection, create: str, key: str) -> None:
    """A column with a unique index by an operator class or a collation of its own is not hashed."""
    with connection.cursor() as cursor:
        cursor.execute(create)
    index = f"CREATE UNIQUE INDEX ON keyed ({key})"
    with keyed_table(connection, "k text PRIMARY KEY", index) as table:
        assert "(k text)" in key_of(table, connection, may_change=False).obstacle


def test_partitioning() -> None:
    """No more partitions than batches, or than connections; the ledger's text gives the same."""
    key = TableKey((("k", "integer"),))
    counts = [key.partitioning(n, 100, 4).count for n in (1, 100, 101, 400, 9999)]
    assert counts == [1, 1, 2, 4, 4]
    assert TableKey((), "why").partitioning(9999, 100, 4) is UNDIVIDED
    for each in (key.partitioning(9999, 100, 4), UNDIVIDED):
        assert Partitioning.from_ledger(each.to_ledger()) == each
    assert UNDIVIDED.to_ledger() == ""


def test_same_in_every_version() -> None:
    """Files that an earlier version has begun are divided as it divided them."""
    kinds = ("integer", "numeric", "numeric 2", "text", "uuid")
    partitioning = Partitioning(1000, tuple((kind, kind) for kind in kinds))
    uuid = "6F9619FF-8B86-D011-B42D-00CF4FC964FF"
    keys: list[tuple[object, ...]] = [
        (7, 0.5, 1.005, "가 ", uuid),
        ("0x1F", 100, "1e1", 7, uuid),
        (-5, -2, -1.5, True, None),
        ("five", None, "", {"a": [1]}, "none"),
        (None,) * 5,
    ]
    group = records(*(json.dumps(dict(zip(kinds, key, strict=True))) for key in keys))
    divided = Partitioner(partitioning).divide(group)
    partition_of = {n: batch.partition for batch in divided for n in batch.numbers}
    assert partition_of == {1: 759, 2: 800, 3: 23, 4: 226, 5: 763}


def test_read_divided(tmp_path: Path) -> None:
    """Every record is in one batch with its number, and batches are about as large as asked for."""
    path = write_json(tmp_path / "a.json", [{"k": n % 700} for n in range(2000)])
    batches = list(read_divided(path, 100, Partitioning(4, (("k", "integer"),))))
    assert sorted(n for batch in batches for n in batch.numbers) == list(range(1, 2001))
    partition_of: dict[int, set[int | None]] = {}
    for batch in batches:
        for number, record in zip(batch.numbers, batch.records, strict=True):
            key = json.loads(bytes(record))["k"]
            assert key == (number - 1) % 700
            partition_of.setdefault(key, set()).add(batch.partition)
    assert {len(each) for each in partition_of.values()} == {1}
    assert len(batches) == 20
    assert max(len(batch.records) for batch in batches) < 150


def test_one_key(tmp_path: Path) -> None:
    """Where all records have the same key, no batch has more than twice the batch size."""
    path = write_json(tmp_path / "a.json", [{"k": "x"}] * 1000)
    batches = list(read_divided(path, 50, Partitioning(8, (("k", "text"),))))
    assert {len(batch.records) for batch in batches} == {100}
    assert len({batch.partition for batch in batches}) == 1


def test_records_that_cannot_be_decoded() -> None:
    """They are in a partition all the same, as they become rejects."""
    bad = ["[1]", '{"k": "\\ud800"}', '{"k": nul}']
    group = records('{"k": 1}', bad[0], '{"k": 2}', *bad[1:], '{"k": 1}')
    batches = list(Partitioner(Partitioning(3, (("k", "integer"),))).divide(group))
    assert sorted(n for batch in batches for n in batch.numbers) == list(range(1, 7))
    (first,) = [batch for batch in batches if 1 in batch.numbers]
    assert 6 in first.numbers


def test_undivided(tmp_path: Path) -> None:
    """One partition is the file's batches, all to be written in order."""
    path = write_json(tmp_path / "a.json", [{"k": n} for n in range(25)])
    batches = list(read_divided(path, 10, UNDIVIDED))
    found = [(batch.first_record, len(batch.records), batch.partition) for batch in batches]
    assert found == [(1, 10, 0), (11, 10, 0), (21, 5, 0)]
    assert [batch.partition for batch in read_divided(path, 10, None)] == [None] * 3
