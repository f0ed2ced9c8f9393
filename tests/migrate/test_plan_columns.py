"""Which fields fill which columns: what the plan refuses, adds, and omits."""

from __future__ import annotations

from typing import Any

import pytest

from pgload.contract import METHODS
from tests.support.migrating import MigrationSandbox


def test_columns(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Fields match columns in snake_case; a mismatch is printed before anything is written."""
    sandbox.sql(
        "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, bid_ntce_no text, "
        "twice text GENERATED ALWAYS AS (bid_ntce_no || bid_ntce_no) STORED, must text NOT NULL)"
    )
    sandbox.file("orders.json", [{"bidNtceNo": "a", "id": 7, "twice": "x", "more": 1}])
    assert sandbox.migrate() == 2
    output = capsys.readouterr()
    assert "orders.json: table orders has no column for more" in output.out
    assert "orders.json: id of table orders is generated always as identity: write" in output.out
    assert "orders.json: table orders requires must, which no record has" in output.out
    assert output.err.startswith("pgload: nothing was written: orders.json: table orders")
    sandbox.sql("ALTER TABLE orders ALTER must SET DEFAULT 'done'")
    assert sandbox.migrate("--ignore-unknown") == 0
    assert sandbox.sql("SELECT * FROM orders") == [(1, "a", "aa", "done")]


@pytest.mark.parametrize("method", METHODS)
def test_override_identity(sandbox: MigrationSandbox, method: str) -> None:
    """With --override-identity the records keep their ids, and the server continues after them."""
    sandbox.sql("CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, a text)")
    sandbox.file("orders.json", [{"id": 7, "a": "x"}, {"id": 3, "a": "y"}])
    given = ("--method", method, "--override-identity")
    assert sandbox.migrate("--method", method) == 2
    assert sandbox.migrate(*given) == 0
    sandbox.sql("INSERT INTO orders (a) VALUES ('z')")
    rows = [(3, "y"), (7, "x"), (8, "z")]
    assert sandbox.sql("SELECT id, a FROM orders ORDER BY id") == rows
    assert sandbox.migrate(*given, "--resume") == 0  # the sequence is not set back
    sandbox.sql("INSERT INTO orders (a) VALUES ('z')")
    assert sandbox.sql("SELECT max(id) FROM orders") == [(9,)]


def test_override_identity_with_upsert(sandbox: MigrationSandbox) -> None:
    """--override-identity and --on-conflict go together where the identity is the key."""
    sandbox.sql("CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text)")
    sandbox.file("orders.json", [{"id": 7, "a": "x"}, {"id": 7, "a": "y"}])
    for _ in range(2):
        assert sandbox.migrate("--override-identity", "--on-conflict", "update") == 0
    sandbox.sql("INSERT INTO orders (a) VALUES ('z')")
    assert sandbox.sql("SELECT id, a FROM orders ORDER BY id") == [(7, "y"), (8, "z")]


@pytest.mark.parametrize("reverse", [False, True])
def test_added_columns(
    sandbox: MigrationSandbox, reverse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """--on-unknown add gives new fields a column, whatever the order of the files is."""
    records: list[dict[str, Any]] = [
        {"n": 1},
        {"n": 2, "new": 5, 'Odd "name" %s': "x"},
        {"n": 3, "amount": 1.5, "NEW": "y"},
    ]
    for number, record in enumerate(records[::-1] if reverse else records):
        sandbox.file(f"t_{number}.json", [record])
    (sandbox.data / "tables.toml").write_text(
        '[[table]]\nfiles = "t_*"\nname = "t"\ntypes = { amount = "numeric" }\n'
    )
    assert sandbox.migrate() == 2
    assert sandbox.migrate("--dry-run", "--on-unknown", "add") == 0
    output = capsys.readouterr().out
    assert "new columns of table t: " in output
    assert "amount numeric" in output
    assert sandbox.migrate("--on-unknown", "add", "--connections", "2") == 0
    name = "NEW" if reverse else "new"
    assert sandbox.sql(
        f'SELECT n, "{name}", "Odd ""name"" %s", amount::text FROM t ORDER BY n'
    ) == [
        (1, None, None, None),
        (2, "5", "x", None),
        (3, "y", None, "1.5"),
    ]
    assert sandbox.migrate("--on-unknown", "add", "--resume") == 0


def test_columns_that_cannot_be_added(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field that cannot be a column fails its file, and a file without a matching field all."""
    sandbox.file("t_1.json", [{"n": 1, "xmin": 2}])
    good = sandbox.file("t_2.json", [{"n": 3}])
    assert sandbox.migrate("--on-unknown", "add") == 1
    assert "not migrated: t_1.json: 'xmin' cannot be a column" in capsys.readouterr().out
    sandbox.check(good)
    sandbox.file("t_1.json", [{"other": 1}])
    assert sandbox.migrate("--on-unknown", "add", "--resume") == 2
    assert "none of its fields has a column in table t" in capsys.readouterr().out


def test_no_field_fits(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without a field that has a column in its table is refused."""
    sandbox.file("t.json", [{"x": 1}])
    assert sandbox.migrate("--ignore-unknown") == 2
    assert "none of its fields has a column in table t" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x" * 64, "가" * 22, ""])
def test_impossible_column_names(
    sandbox: MigrationSandbox, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field that cannot be a column fails its file, not the others; an existing table can omit
    it."""
    path = sandbox.numbers("t.json", 10)
    sandbox.file("new.json", [{name: 1, "a": 2}])
    assert sandbox.migrate("--create-tables") == 1
    assert "not migrated: new.json: " in capsys.readouterr().out
    sandbox.check(path)
    sandbox.sql("CREATE TABLE new (a text)")
    assert sandbox.migrate("--resume", "--ignore-unknown") == 0
    assert sandbox.sql("SELECT * FROM new") == [("2",)]


IMPOSSIBLE: dict[str, tuple[str, str]] = {
    "xmin": ("new.json", "'xmin' cannot be a column, as PostgreSQL has one of that name"),
    "ctid": ("new.json", "'ctid' cannot be a column"),
    "wide": ("new.json", "table new would have 1,601 columns, and PostgreSQL takes 1,600"),
    "ledger": ("pgload_ledger.json", "pgload_ledger is the table in which pgload records"),
    "digits": ("pgload_ledger_2.json", "pgload_ledger is the table in which pgload records"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_tables(
    sandbox: MigrationSandbox, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that no table can take is refused by name, in the dry run too; the others are
    migrated."""
    name, message = IMPOSSIBLE[case]
    fields = [f"f{n}" for n in range(1598)] if case == "wide" else [case]
    sandbox.file(name, [dict.fromkeys(fields, 1)])
    good = sandbox.numbers("t.json", 10)
    other = sandbox.file("other.json", [{"a": 1}])
    for options in (["--dry-run"], [], ["--resume"]):
        assert sandbox.migrate("--create-tables", *options) == 1
        assert f"not migrated: {name}: {message}" in capsys.readouterr().out
    sandbox.check(good)
    sandbox.check(other, table="other")


def test_widest_table(sandbox: MigrationSandbox) -> None:
    """A new table may have 1,597 fields, and the three columns that the server fills."""
    path = sandbox.file("new.json", [{f"f{n}": "" if n else 1 for n in range(1597)}])
    assert sandbox.migrate("--create-tables") == 0
    sandbox.check(path, table="new")


@pytest.mark.parametrize("on_conflict", ["error", "update"])
@pytest.mark.parametrize("method", METHODS)
def test_empty_strings(sandbox: MigrationSandbox, method: str, on_conflict: str) -> None:
    """With `empty = "keep"` an empty string stays one in a column of text; others become NULL."""
    sandbox.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, a text NOT NULL, b varchar(9), c int, d jsonb)"
    )
    sandbox.file(
        "orders.json",
        [
            {"id": 1, "a": "", "b": "", "c": "", "d": ""},
            {"id": 2, "a": "x", "b": None, "c": 5, "d": {"e": ""}},
            {"id": 3, "a": "\\N"},
        ],
    )
    mapping = sandbox.data / "tables.toml"
    rule = '[[table]]\nfiles = "orders*"\nname = "orders"\nempty = '
    given = ("--method", method, "--on-conflict", on_conflict)
    rest = [(2, "x", None, 5, {"e": ""}), (3, "\\N", None, None, None)]
    for empty, b in (('"keep"', ""), ('{ a = "keep" }', None)):
        mapping.write_text(rule + empty)
        sandbox.sql("TRUNCATE orders")
        assert sandbox.migrate(*given, "--restart") == 0
        rows = sandbox.sql("SELECT * FROM orders ORDER BY id")
        assert rows == [(1, "", b, None, None), *rest]
    mapping.unlink()
    sandbox.sql("TRUNCATE orders")
    assert sandbox.migrate(*given, "--restart") == 1  # NULL in a
