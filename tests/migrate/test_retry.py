"""Trouble on the way: bad records, bad files, and servers that refuse for a while or for good."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgload.contract import METHODS
from pgload.targets.target import Target
from tests.support.migrating import Site, site

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

TYPED = """CREATE TABLE typed (
    id serial PRIMARY KEY, n int NOT NULL CHECK (n < 1000), v varchar(3), d date,
    parent int REFERENCES typed DEFERRABLE INITIALLY DEFERRED)"""
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.v = 'bad' THEN RAISE 'no % here', new.v USING ERRCODE = '45000'; END IF;
    IF new.v = 'ill' THEN RAISE 'this one is ill'; END IF;
    RETURN new;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON typed FOR EACH ROW EXECUTE FUNCTION refuse()"""
# Record → column, SQLSTATE, beginning of the message. Methods may find another fault of a record.
BAD: dict[str, tuple[str | None, str | None, str]] = {
    '{"v": "abc"}': ("n", "23502", "null value in column"),
    '{"n": "x"}': ("n", "22P02", "invalid input syntax for type integer"),
    '{"n": 3000000000}': ("n", "22003", "value .* is out of range for type integer"),
    '{"n": 1, "v": "abcd"}': ("v", "22001", r"value too long for type character varying\(3\)"),
    '{"n": 1, "d": "2025-02-30"}': ("d", "22008", "date/time field value out of range"),
    '{"n": 1000}': (None, "23514", "new row for relation"),
    '{"n": 1, "parent": -7}': (None, "23503", "insert or update on table"),
    '{"n": 1, "v": "bad"}': (None, "45000", "no bad here"),
    '{"n": 1, "v": "ill"}': (None, "P0001", "this one is ill"),
}
UNREADABLE = {
    '{"n": 1, "v": "\\ud800"}': "holds half of a surrogate pair|invalid input syntax for type json",
    '{"n": 1, "v": "\\u0000"}': r"holds \\u0000|unsupported Unicode escape",
    '{"n": NaN}': "holds NaN|invalid input syntax for type json",
    '["n"]': "is no JSON object|argument of json|cannot call json",
}


@pytest.fixture
def here(server: Target, tmp_path: Path) -> Iterator[Site]:
    """A database and a folder."""
    with site(server, tmp_path) as found:
        yield found


def rejects(here: Site) -> list[dict[str, Any]]:
    return here.output("rejects.jsonl")


@pytest.mark.parametrize("method", METHODS)
def test_rejects(here: Site, method: str) -> None:
    """By every method the good records go in, and each bad one is kept with place and reason."""
    here.sql(TYPED, REFUSE)
    good = [json.dumps({"n": n, "v": "가'" if n % 2 else None}) for n in range(100)]
    bad = {**BAD, **{text: (None, None, said) for text, said in UNREADABLE.items()}}
    texts = list(good)
    for n, text in enumerate(bad):
        texts.insert(n * 7 + 3, text)
    path = here.data / "typed.json"
    path.write_text("[" + ",\n".join(texts) + "]", "utf-8")
    assert here.migrate("--method", method, "--batch-size", "50", "--connections", "2") == 1
    assert here.sql("SELECT count(*), count(DISTINCT n), max(n) FROM typed") == [(100, 100, 99)]
    found = {each["record"]: each for each in rejects(here)}
    assert len(found) == len(rejects(here)) == len(bad)
    whole = path.read_bytes()
    for text, (column, state, said) in bad.items():
        reject = found[texts.index(text) + 1]
        assert (reject["file"], reject["table"]) == ("typed.json", "typed")
        assert whole[reject["offset"] :].startswith(text.encode())
        assert re.search(said, reject["message"]), reject
        if state is not None:
            assert (reject["column"], reject["sqlstate"]) == (column, state), reject
    results = here.output("migration_results.json")
    assert (results["status"], results["rejects"]) == ("completed_with_errors", len(bad))
    assert (results["total_records"], results["records_failed"]) == (100, len(bad))
    counts = here.sql("SELECT sum(records), sum(rejected) FROM pgload_ledger")
    assert counts == [(len(texts), len(bad))]
    # What was rejected stays out, and is not forgotten.
    assert here.migrate("--resume") == 1
    assert here.sql("SELECT count(*) FROM typed") == [(100,)]


def test_max_rejects(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """With more rejects than allowed the run ends; what is committed stays, and can be resumed."""
    here.sql(TYPED)
    records = [{"n": n if n % 10 else "bad"} for n in range(1, 101)]
    here.file("typed.json", records)
    assert here.migrate("--batch-size", "10", "--max-rejects", "3") == 1
    said = capsys.readouterr().out
    assert "record 40 is reject number 4, and --max-rejects is 3" in said
    assert "go on with: python -m pgload migrate" in said
    assert here.sql("SELECT count(*) FROM typed") == [(27,)]
    assert here.output("migration_results.json")["status"] == "failed"
    assert here.migrate("--resume", "--max-rejects", "7") == 1
    assert here.output("migration_results.json")["status"] == "completed_with_errors"
    assert here.sql("SELECT count(*) FROM typed") == [(90,)]


def wait_for_lock(cursor: Cursor, process: subprocess.Popen[str], mode: str = "%") -> None:
    """Until the migration waits for a lock on t."""
    while process.poll() is None:
        cursor.execute(
            "SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass AND mode LIKE %s",
            (mode,),
        )
        if cursor.fetchall():
            return
    raise AssertionError(process.communicate()[0])


def wait_for_log(here: Site, process: subprocess.Popen[str], said: str) -> None:
    """Until the log says so."""
    while process.poll() is None:
        log = here.outputs / "migration.log"
        if log.exists() and said in log.read_text("utf-8"):
            return
    raise AssertionError(process.communicate()[0])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lock_timeout", "canceling statement due to lock timeout (SQLSTATE 55P03)"),
        ("statement_timeout", "canceling statement due to statement timeout (SQLSTATE 57014)"),
    ],
)
def test_timeouts(here: Site, setting: str, said: str) -> None:
    """A lock that others hold for long, and a server that gives up meanwhile, are outlasted."""
    path = here.numbers("t.json", 100)
    here.sql(f"ALTER DATABASE {here.name} SET {setting} = '300ms'")
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        with here.start("--method", "copy", "--batch-size", "10") as process:
            wait_for_log(here, process, said)
            cursor.execute("ROLLBACK")
            assert process.communicate()[0] is not None
    assert process.returncode == 0
    here.check(path)
    assert here.output("migration_results.json")["retries"] > 0


def test_deadlock(here: Site) -> None:
    """A migration that is ended for a deadlock's sake tries again."""
    path = here.numbers("t.json", 100)
    here.sql(f"ALTER DATABASE {here.name} SET deadlock_timeout = '200ms'")
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SET deadlock_timeout = '1h'")
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        with here.start("--batch-size", "10") as process:
            wait_for_lock(cursor, process)
            # It holds the row of its first batch in the ledger, and waits for us.
            cursor.execute(
                "INSERT INTO pgload_ledger SELECT file, \"table\", 1, 0, 0, 1, '', '' "
                "FROM pgload_ledger WHERE first_record = 0"
            )
            wait_for_log(here, process, "deadlock detected (SQLSTATE 40P01)")
            cursor.execute("ROLLBACK")
            process.communicate()
    assert process.returncode == 0
    here.check(path)


def test_patience(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not pass ends the run with one line after as long as was said."""
    here.numbers("t.json", 100)
    here.sql(f"ALTER DATABASE {here.name} SET lock_timeout = '100ms'")
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        assert here.migrate("--patience", "1") == 1
    said = capsys.readouterr().out
    assert "pgload: t.json: records 1–100 into t: canceling statement due to lock timeout" in said
    assert here.migrate("--resume") == 0


@pytest.fixture
def loader(here: Site) -> Iterator[Site]:
    """The same, for a user without rights but those on t."""
    role = here.name
    here.sql(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT ON t TO {role}",
        f"GRANT USAGE ON SEQUENCE t_id_seq TO {role}",
    )
    parameters = {**here.target.parameters, "user": role}
    yield replace(here, target=replace(here.target, parameters=parameters))
    here.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_too_many_clients(here: Site, loader: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that gives fewer connections is used with these, and it is said; with none it is
    not usable."""
    path = here.numbers("t.json", 100)
    here.sql(
        f"GRANT CREATE ON SCHEMA public TO {here.name}",
        f"ALTER ROLE {here.name} CONNECTION LIMIT 3",
    )
    assert loader.migrate("--connections", "8", "--batch-size", "10") == 0
    said = "TESTED: the server gave 2 of 8 connections: going on with these"
    assert said in capsys.readouterr().out
    assert said in (here.outputs / "migration.log").read_text("utf-8")
    here.check(path)
    here.sql(f"ALTER ROLE {here.name} CONNECTION LIMIT 0")
    assert loader.migrate("--resume") == 2
    assert "the server has no connection left" in capsys.readouterr().err


def test_rights(here: Site, loader: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the right to make the ledger nothing is written, and the way out is named."""
    path = here.numbers("t.json", 100)
    assert loader.migrate() == 2
    said = capsys.readouterr()
    assert "permission denied for schema public" in said.out + said.err
    assert "--no-ledger does without" in said.out + said.err
    assert here.sql("SELECT count(*) FROM t") == [(0,)]
    assert loader.migrate("--no-ledger") == 0
    here.check(path)
    here.sql(f"REVOKE INSERT ON t FROM {here.name}")
    assert loader.migrate("--no-ledger") == 1
    assert "permission denied for table t (SQLSTATE 42501)" in capsys.readouterr().out


def test_read_only_server(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that takes no writes is one line and no more; later the run goes on."""
    path = here.numbers("t.json", 100)
    here.sql(f"ALTER DATABASE {here.name} SET default_transaction_read_only = on")
    for _ in range(2):
        assert here.migrate("--resume") == 1
        said = capsys.readouterr().out
        assert "read-only transaction (SQLSTATE 25006); the server takes no writes" in said
        with closing(here.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute("CREATE TABLE IF NOT EXISTS pgload_ledger_was_not_made ()")
    here.sql(
        "SET default_transaction_read_only = off",
        f"ALTER DATABASE {here.name} RESET default_transaction_read_only",
    )
    assert here.migrate("--resume") == 0
    here.check(path)


@pytest.fixture
def small_disk(here: Site) -> Iterator[Path]:
    """A file system of 2 MB with table t on it."""
    folder = Path(here.target.parameters["host"]) / "disk"  # where the server may go
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        owner = Path(here.target.parameters["host"]).stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        here.sql(
            f"CREATE TABLESPACE {here.name} LOCATION '{folder}'",
            f"ALTER TABLE t SET TABLESPACE {here.name}",
        )
        yield folder
        here.sql("DROP TABLE t", f"DROP TABLESPACE {here.name}")
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(here: Site, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk ends the run with one line; with more room it goes on."""
    path = here.file("t.json", [{"n": n, "a": str(n) + "x" * 1500} for n in range(4000)])
    assert here.migrate("--batch-size", "50", "--connections", "4") == 1
    said = capsys.readouterr().out
    assert said.count("No space left on device (SQLSTATE 53100)") == 1, said
    assert "make room on the server's disk" in said
    committed = here.sql("SELECT count(*) FROM t")[0][0]
    assert 0 < committed < 4000
    assert here.output("migration_progress.json")["total_records_processed"] == committed
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert here.migrate("--resume", "--connections", "4") == 0
    here.check(path)


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


def test_bad_files(here: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each bad file is one line with its name and the mend, and the others are migrated."""
    good = here.numbers("t_20250101.json", 100)
    for name, (content, _) in INPUTS.items():
        (here.data / f"t_{name}.json").write_bytes(content)
    (here.data / "t_0_bom.json").write_bytes(b"\xef\xbb\xbf" + b'[{"n": 7, "a": "bom"}]')
    (here.data / "t_1_none.json").write_text("[]")
    outside = tmp_path / "outside.json"
    outside.write_text("[]")
    (here.data / "t_link.json").symlink_to(outside)
    (here.data / "t_lost.json").symlink_to(tmp_path / "nowhere")
    (here.data / "t_folder.json").mkdir()
    os.mkfifo(here.data / "t_pipe.json")
    (here.data / "tables.toml").write_text('[[table]]\nfiles = "t_*"\nname = "t"\n')
    assert here.migrate("--dry-run") == 1
    capsys.readouterr()
    assert here.migrate() == 1
    lines = capsys.readouterr().out.splitlines()
    said = {name: text for name, (_, text) in INPUTS.items()}
    said |= {"link": "is a link out of the folder", "lost": "is a broken link"}
    said |= {"folder": "is a folder, not a file", "pipe": "is a pipe or a device"}
    for name, text in said.items():
        found = [line for line in lines if f"t_{name}.json" in line]
        assert len(found) == 1, found
        (line,) = found
        assert line.startswith("not migrated: ")
        assert text in line
    here.check(good, here.data / "t_0_bom.json")
    results = here.output("migration_results.json")
    assert (results["successful"], results["failed"]) == (3, len(said))
    assert results["total_files"] == 3 + len(said)


def test_unreadable_folder(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without JSON is a wrong use."""
    assert here.migrate() == 2
    assert "holds no file that ends in .json" in capsys.readouterr().err
    here.data.rmdir()
    assert here.migrate() == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without permission is told, and the others are migrated."""
    path = here.numbers("t.json", 10)
    here.numbers("t_2.json", 10).chmod(0)
    assert here.migrate() == 1
    assert "t_2.json: cannot be read: permission denied" in capsys.readouterr().out
    here.check(path)


@pytest.mark.parametrize("fate", ["grows", "vanishes"])
def test_file_that_changes(here: Site, fate: str) -> None:
    """A file that changes while it is loaded fails with a line; the next one is loaded."""
    first = here.file("t_1.json", [{"n": n, "a": "x" * 20_000} for n in range(1000)])
    here.numbers("t_2.json", 50)
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        with here.start("--batch-size", "10") as process:
            wait_for_lock(cursor, process)
            if fate == "grows":
                with first.open("a") as file:
                    file.write(" ")
            else:
                first.unlink()
            cursor.execute("ROLLBACK")
            said, _ = process.communicate()
    assert process.returncode == 1, said
    assert f"pgload: t_1.json: {'changed' if fate == 'grows' else 'vanished'}" in said
    assert here.sql("SELECT count(*) FROM t WHERE a !~ '^x'") == [(50,)]
    results = here.output("migration_results.json")
    assert [file["status"] for file in results["files"]] == ["failed", "completed"]


def test_table_dropped_meanwhile(here: Site) -> None:
    """A table that is dropped under a migration ends it with a line."""
    here.numbers("t.json", 1000)
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t")
        with here.start("--batch-size", "10") as process:
            wait_for_lock(cursor, process)
            cursor.execute("DROP TABLE t; COMMIT")
            said, _ = process.communicate()
    assert process.returncode == 1
    assert 'relation "public.t" does not exist (SQLSTATE 42P01)' in said
    here.sql("CREATE TABLE t (n int, a text)")
    assert here.migrate("--resume") == 0
    assert here.sql("SELECT count(*) FROM t") == [(1000,)]
