"""What is checked, and printed, before anything is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.migrating import MigrationSandbox


def everything(sandbox: MigrationSandbox) -> list[Any]:
    """The content of the database: relations, columns, and the rows of t."""
    return sandbox.sql(
        "SELECT c.relname::text, a.attname::text, a.atttypid::int FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE relnamespace = 'public'::regnamespace "
        "ORDER BY 1, 2"
    ) + sandbox.sql("SELECT * FROM t ORDER BY id")


def test_dry_run(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run prints which file would go where, and changes neither server nor disk."""
    sandbox.file("t.json", [{"n": 1, "A": "x", "strange": 1}])
    sandbox.file("new.json", [{"x": 1, "y": {"z": 2}}])
    before = everything(sandbox)
    assert sandbox.migrate("--dry-run") == 2
    output = capsys.readouterr().out
    assert "table t has no column for strange: add it (--on-unknown add)" in output
    assert "table new does not exist: create it with --create-tables" in output
    assert sandbox.migrate("--dry-run", "--create-tables", "--ignore-unknown") == 0
    output = capsys.readouterr().out
    assert "new table new: 1 bigint, 1 jsonb\n" in output
    assert "t.json: 1 records, 0.0 MB into t, 2 columns\n" in output
    assert "  omitted, no column: strange\n" in output
    assert "  renamed: A → a\n" in output
    assert everything(sandbox) == before
    assert not sandbox.outputs.exists()


def test_created_tables(sandbox: MigrationSandbox) -> None:
    """Missing tables are created with --create-tables, and found by later runs."""
    new = sandbox.file("new.json", [{"x": n, "y": {"z": n}} for n in range(100)])
    assert sandbox.migrate() == 2
    assert sandbox.migrate("--create-tables") == 0
    sandbox.check(new, table="new")
    assert sandbox.migrate("--create-tables", "--resume") == 0
    sandbox.check(new, table="new")
    assert sandbox.migrate("--create-tables") == 2  # all of it is committed already
    # A table that was dropped is empty, whatever the ledger says.
    sandbox.sql("DROP TABLE new")
    assert sandbox.migrate("--create-tables", "--resume") == 0
    sandbox.check(new, table="new")


def test_digits_at_the_end_of_names(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digits are part of a new table's name unless the files' fields agree, and it is reported; a
    table that exists takes the file with or without them."""
    sandbox.sql("CREATE TABLE old (n int)", "CREATE TABLE old_2 (n int)")
    for name in ("old_1", "old_2", "sales_202501", "sales_202502"):
        sandbox.file(f"{name}.json", [{"n": int(name[-1])}])
    sandbox.file("report1.json", [{"a": "2025-06-01"}])
    sandbox.file("report2.json", [{"b": 1}])
    assert sandbox.migrate("--create-tables") == 0
    output = capsys.readouterr().out
    assert "old_1.json: 1 records, 0.0 MB into old (the file's name without the digits)" in output
    assert "into old_2, 1 columns" in output
    assert "into sales (the file's name without the digits)" in output
    assert "into report1 (the file's name with the digits)" in output
    counts = {"old": [(1,)], "old_2": [(2,)], "sales": [(1,), (2,)]}
    for table, rows in counts.items():
        assert sandbox.sql(f"SELECT n FROM {table} ORDER BY 1") == rows
    assert sandbox.sql("SELECT a::text, pg_typeof(a)::text FROM report1") == [
        ("2025-06-01", "date")
    ]
    assert sandbox.sql("SELECT b FROM report2") == [(1,)]


def test_schemas(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A table is named with its schema in tables.toml, or by a file if it exists."""
    sandbox.sql("CREATE SCHEMA shop", "CREATE TABLE shop.items (n int)")
    sandbox.file("x.json", [{"n": 1}])
    sandbox.file("shop.items.json", [{"n": 2}])
    mapping = sandbox.data / "tables.toml"
    mapping.write_text('[[table]]\nfiles = "x*"\nname = "store.orders"\n')
    assert sandbox.migrate("--create-tables") == 2
    assert "x.json: schema store does not exist: create it" in capsys.readouterr().err
    mapping.write_text('[[table]]\nfiles = "x*"\nname = "shop.orders"\n')
    assert sandbox.migrate("--create-tables") == 0
    assert sandbox.sql("SELECT n FROM shop.orders") == [(1,)]
    assert sandbox.sql("SELECT n FROM shop.items") == [(2,)]


def test_emptied_table(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that is empty although the ledger has records of it is an error."""
    path = sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 0
    sandbox.sql("TRUNCATE t")
    assert sandbox.migrate("--resume") == 2
    assert (
        "according to the ledger 100 of its records are in t, which is empty"
        in capsys.readouterr().out
    )
    assert sandbox.migrate("--restart") == 0
    sandbox.check(path)


def test_once(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Committed records are not loaded again without an option, even from a renamed file."""
    path = sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 0
    path.rename(sandbox.data / "t_20250101.json")
    capsys.readouterr()
    assert sandbox.migrate() == 2
    assert (
        "t_20250101.json: 100 of its 100 records are in t already: load the others with --resume, "
        "or all of them again with --restart" in capsys.readouterr().out
    )
    assert sandbox.sql("SELECT count(*) FROM t") == [(100,)]
    assert sandbox.migrate("--restart") == 0
    assert sandbox.sql("SELECT count(*) FROM t") == [(200,)]


def test_changed_file(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A file whose content has changed is another file, and the plan points that out."""
    sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 0
    sandbox.numbers("t.json", 110)
    capsys.readouterr()
    assert sandbox.migrate("--dry-run") == 0
    assert (
        "100 records of another version of this file are committed already, and stay; "
        "all records of this file are added to them" in capsys.readouterr().out
    )
    assert sandbox.migrate("--resume") == 2
    assert (
        "t.json: 100 records of another version of this file are in t, and could be loaded twice"
        in capsys.readouterr().err
    )
    assert sandbox.sql("SELECT count(*) FROM t") == [(100,)]


def test_duplicates(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two files with the same content one is loaded, with or without a ledger."""
    path = sandbox.numbers("t.json", 100)
    sandbox.numbers("t_2.json", 100)
    for ledger in ((), ("--no-ledger",)):
        sandbox.sql("TRUNCATE t")
        assert sandbox.migrate(*ledger) == 0
        assert "t_2.json: skipped, it has the same content as t.json" in capsys.readouterr().out
        sandbox.check(path)
        assert sandbox.output("migration_results.json")["successful"] == 2


def test_name_that_is_taken(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A sequence, index or type with a new table's name is an error of one line."""
    sandbox.sql("CREATE SEQUENCE orders")
    sandbox.file("orders.json", [{"a": 1}])
    assert sandbox.migrate("--create-tables") == 2
    assert "pgload: the name orders is taken by a sequence" in capsys.readouterr().err


def test_no_unique_key(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """--on-conflict needs a unique key that the records fill."""
    sandbox.numbers("t.json", 10)
    assert sandbox.migrate("--on-conflict", "skip") == 2
    assert "table t has no unique key" in capsys.readouterr().out


INPUTS: dict[str, tuple[bytes, str]] = {
    "broken": (b'{"items": [{"n": 1}, {"n": 2]}', "broken JSON at byte 28"),
    "cut": (b'[{"n": 1}, {"n": 2', "the file ends too early; get the whole file"),
    "two": (b'{"n": 1}{"n": 2}', "a second document begins"),
    "cp949": ('[{"이름": "가"}]'.encode("cp949"), "is not UTF-8 but seems to be CP949"),
    "utf16": ('[{"n": 1}]'.encode("utf-16"), "is UTF-16: convert it to UTF-8 first"),
    "nothing": (b"", "is empty"),
    "error": (
        b'{"nkoneps.com.response.ResponseError": {"header": {"resultCode": "07"}}}',
        "is an error reply, not data: 07",
    ),
    "xml": (b"<a/>", "is XML, not JSON"),
    "plain": (b"API quota exceeded", "is not JSON but begins with 'API quota exceeded'"),
    "fieldless": (b"[{}, {}]", "its records have no field"),
}


def test_bad_files(
    sandbox: MigrationSandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each bad file is one line with its name and the fix, and the others are migrated."""
    good = sandbox.numbers("t_20250101.json", 100)
    for name, (content, _) in INPUTS.items():
        (sandbox.data / f"t_{name}.json").write_bytes(content)
    (sandbox.data / "t_0_bom.json").write_bytes(b"\xef\xbb\xbf" + b'[{"n": 7, "a": "bom"}]')
    (sandbox.data / "t_1_none.json").write_text("[]")
    (sandbox.data / "t_lost.json").symlink_to(tmp_path / "nowhere")
    (sandbox.data / "t_folder.json").mkdir()
    os.mkfifo(sandbox.data / "t_pipe.json")
    (sandbox.data / "tables.toml").write_text('[[table]]\nfiles = "t_*"\nname = "t"\n')
    assert sandbox.migrate("--dry-run") == 1
    capsys.readouterr()
    assert sandbox.migrate() == 1
    lines = capsys.readouterr().out.splitlines()
    reasons = {name: text for name, (_, text) in INPUTS.items()}
    reasons |= {
        "lost": "is a broken link",
        "folder": "is a folder, not a file",
        "pipe": "is a pipe or a device",
    }
    for name, text in reasons.items():
        found = [line for line in lines if f"t_{name}.json" in line]
        assert len(found) == 1, found
        (line,) = found
        assert line.startswith("not migrated: ")
        assert text in line
    sandbox.check(good, sandbox.data / "t_0_bom.json")
    results = sandbox.output("migration_results.json")
    assert (results["successful"], results["failed"]) == (3, len(reasons))
    assert results["total_files"] == 3 + len(reasons)


def test_unreadable_folder(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without JSON files is a usage error."""
    assert sandbox.migrate() == 2
    assert "holds no file that ends in .json" in capsys.readouterr().err
    sandbox.data.rmdir()
    assert sandbox.migrate() == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without permission is reported, and the others are migrated."""
    path = sandbox.numbers("t.json", 10)
    sandbox.numbers("t_2.json", 10).chmod(0)
    assert sandbox.migrate() == 1
    assert "t_2.json: cannot be read: permission denied" in capsys.readouterr().out
    sandbox.check(path)
