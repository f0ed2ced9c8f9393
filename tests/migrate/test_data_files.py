"""Which records a migration finds in a file, by its suffix, its content, and `tables.toml`."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.support.migrating import MigrationSandbox


@pytest.mark.parametrize("records", [1, 2])
def test_lines_with_fields_of_envelopes(sandbox: MigrationSandbox, records: int) -> None:
    """A line of a .jsonl file is a record, even if its fields are called items and header."""
    sandbox.sql("CREATE TABLE orders (n int, items jsonb, header jsonb)")
    lines = [{"n": n, "items": [{"a": 1}], "header": {"resultCode": "07"}} for n in range(records)]
    (sandbox.data / "orders.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert sandbox.migrate() == 0
    assert sandbox.sql("SELECT * FROM orders ORDER BY n") == [
        (n, [{"a": 1}], {"resultCode": "07"}) for n in range(records)
    ]


DOCUMENTS: dict[str, tuple[Any, str]] = {
    "features": ({"type": "FeatureCollection", "features": [{"n": 1}, {"n": 2}]}, "features"),
    "data": ({"data": [{"n": 1}, {"n": 2}]}, "data"),
    "nested": ({"reply": {"rows": [{"n": 1}, {"n": 2}]}, "id": 7}, "reply.rows"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_object_around_a_list(
    sandbox: MigrationSandbox, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An object around a list is one refused file until `items` in tables.toml names the list."""
    document, items = DOCUMENTS[name]
    sandbox.file("t_1.json", document)
    good = sandbox.file("t_2.json", [{"n": 3}])
    if name != "nested":  # one of many fields may well be a short list
        assert sandbox.migrate() == 1
        assert f'set items = "{items}" for the file in tables.toml' in capsys.readouterr().out
        sandbox.check(good)
    (sandbox.data / "tables.toml").write_text(
        f'[[table]]\nfiles = "t_*"\nname = "t"\nitems = "{items}"\n'
    )
    assert sandbox.migrate("--resume") == 0
    assert sandbox.sql("SELECT n FROM t ORDER BY n") == [(1,), (2,), (3,)]


def test_object_as_a_record(sandbox: MigrationSandbox) -> None:
    """With `format = "object"` a file is one record."""
    sandbox.sql("CREATE TABLE docs (data jsonb)")
    sandbox.file("docs.json", {"data": [{"n": 1}]})
    (sandbox.data / "tables.toml").write_text(
        '[[table]]\nfiles = "docs*"\nname = "docs"\nformat = "object"\n'
    )
    assert sandbox.migrate() == 0
    assert sandbox.sql("SELECT data FROM docs") == [([{"n": 1}],)]


@pytest.mark.parametrize("bad", ['{"n": NaN}', '{"n": 1,}', "7"])
def test_bad_first_line(sandbox: MigrationSandbox, bad: str) -> None:
    """A bad line of JSON Lines is one reject, the first one too."""
    (sandbox.data / "t.jsonl").write_text(f'{bad}\n{{"n": 1}}\n{bad}\n{{"n": 2}}\n')
    assert sandbox.migrate() == 1
    assert sandbox.sql("SELECT n FROM t ORDER BY n") == [(1,), (2,)]
    assert [reject["record"] for reject in sandbox.output("rejects.jsonl")] == [1, 3]


def test_files_that_are_not_read(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan names what it does not read, and an unknown compression as what it is."""
    path = sandbox.file("t.json", [{"n": 1}])
    for name in ("rest.csv", "t_2.json.zip", ".hidden", "tables.toml"):
        (sandbox.data / name).touch()
    (sandbox.data / "tables.toml").write_text('[[table]]\nfiles = "x"\nname = "t"\n')
    (sandbox.data / "more").mkdir()
    assert sandbox.migrate() == 0
    output = capsys.readouterr().out
    assert (
        "not read, as only files that end in .json, .jsonl, .ndjson are: "
        "more/, rest.csv, t_2.json.zip\n" in output
    )
    (sandbox.data / "t_3.json").write_bytes(b"PK\x03\x04\x14\0")
    (sandbox.data / "t_4.json").write_bytes(bytes(100))
    assert sandbox.migrate("--resume") == 1
    output = capsys.readouterr().out
    assert "not migrated: t_3.json: is compressed (zip): decompress it first" in output
    assert "not migrated: t_4.json: begins with NUL bytes only" in output
    sandbox.check(path)


def test_compressed_file(sandbox: MigrationSandbox) -> None:
    """A compressed file goes to the table of its name without suffixes, and is known again."""
    path = sandbox.file("t.json", [{"n": n} for n in range(20)])
    packed = path.with_name("t.json.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert sandbox.migrate("--create-tables", "--batch-size", "6") == 0
    assert sandbox.migrate("--resume", "--batch-size", "6") == 0  # and writes nothing
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert sandbox.migrate("--resume", "--batch-size", "6") == 0  # nor from the plain file
    sandbox.check(path)


def test_reject_of_a_compressed_file(sandbox: MigrationSandbox) -> None:
    """A reject of a compressed file has the byte of the decompressed content."""
    text = b'[{"n": 1}, {"n": }, {"n": 3}]'
    (sandbox.data / "t.json.gz").write_bytes(gzip.compress(text))
    assert sandbox.migrate("--create-tables") == 1
    (reject,) = sandbox.output("rejects.jsonl")
    assert (reject["file"], reject["record"], reject["offset"]) == ("t.json.gz", 2, 11)
