"""`python -m pgload migrate` from its options to its tables, files, messages and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import psutil
import pytest

from pgload.contract import METHODS
from pgload.source import reader as files
from pgload.targets.target import Target
from tests.support.migrating import DDL, SECRET, Site, site

JSON_FILES = ("migration_progress.json", "migration_stats.json", "migration_results.json")
KEYED = """CREATE TABLE keyed (
    id serial PRIMARY KEY, a text, b text, v text, UNIQUE (a, b),
    "updatedAt" timestamptz DEFAULT clock_timestamp())"""


@pytest.fixture
def here(server: Target, tmp_path: Path) -> Iterator[Site]:
    """A database and a folder."""
    with site(server, tmp_path) as found:
        yield found


def everything(here: Site) -> list[Any]:
    """What there is in the database: relations, columns, and the rows of t."""
    return here.sql(
        "SELECT c.relname::text, a.attname::text, a.atttypid::int FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE relnamespace = 'public'::regnamespace "
        "ORDER BY 1, 2"
    ) + here.sql("SELECT * FROM t ORDER BY id")


@pytest.mark.parametrize("ledger", [(), ("--no-ledger",)], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("method", METHODS)
def test_complete(here: Site, method: str, ledger: tuple[str, ...]) -> None:
    """Every record of every file is in its table, whatever the method and the connections."""
    here.sql(DDL.format("other"))
    paths = [here.numbers(f"t_{n}.json", 997, start=1000 * n) for n in range(3)]
    others = here.numbers("other.json", 5)
    given = ("--method", method, "--batch-size", "50", "--connections", "4", *ledger)
    assert here.migrate(*given) == 0
    here.check(*paths)
    here.check(others, table="other")
    assert (here.committed() == 0) == bool(ledger)
    results = here.output("migration_results.json")
    assert (results["status"], results["total_records"]) == ("completed", 2996)
    assert (results["successful"], results["failed"], results["total_files"]) == (4, 0, 4)
    progress = here.output("migration_progress.json")
    assert (progress["status"], progress["percent"]) == ("completed", 100)
    stats = here.output("migration_stats.json")
    assert sum(batch["records_count"] for batch in stats["batches"]) == 2996


def test_dry_run(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run says where everything would go, and leaves server and disk as they are."""
    here.file("t.json", [{"n": 1, "A": "x", "strange": 1}])
    here.file("new.json", [{"x": 1, "y": {"z": 2}}])
    before = everything(here)
    assert here.migrate("--dry-run") == 2
    said = capsys.readouterr().out
    assert "table t has no column for strange: add one" in said
    assert "there is no table new: --create-tables makes it" in said
    assert here.migrate("--dry-run", "--create-tables", "--ignore-unknown") == 0
    said = capsys.readouterr().out
    assert "new table new: 1 bigint, 1 jsonb\n" in said
    assert "t.json: 1 records, 0.0 MB into t, 2 columns\n" in said
    assert "  left out, no column: strange\n" in said
    assert "  named otherwise: A → a\n" in said
    assert everything(here) == before
    assert not here.outputs.exists()


def test_created_tables(here: Site) -> None:
    """Tables that are missing are made when that is asked for, and found again later."""
    new = here.file("new_20250101.json", [{"x": n, "y": {"z": n}} for n in range(100)])
    assert here.migrate() == 2
    assert here.migrate("--create-tables") == 0
    here.check(new, table="new")
    assert here.migrate("--create-tables", "--resume") == 0
    here.check(new, table="new")
    assert here.migrate("--create-tables") == 2  # all of it is there
    # A table that is gone holds nothing, whatever the ledger says.
    here.sql("DROP TABLE new")
    assert here.migrate("--create-tables", "--resume") == 0
    here.check(new, table="new")


def test_emptied_table(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Records that should be there and are not are no reason to go on as if they were."""
    path = here.numbers("t.json", 100)
    assert here.migrate() == 0
    here.sql("TRUNCATE t")
    assert here.migrate("--resume") == 2
    assert "by the ledger 100 of its records are in t, which is empty" in capsys.readouterr().out
    assert here.migrate("--restart") == 0
    here.check(path)


def test_columns(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Fields find columns in snake_case; what does not fit is said before anything is written."""
    here.sql(
        "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, bid_ntce_no text, "
        "twice text GENERATED ALWAYS AS (bid_ntce_no || bid_ntce_no) STORED, must text NOT NULL)"
    )
    here.file("orders.json", [{"bidNtceNo": "a", "id": 7, "twice": "x", "more": 1}])
    assert here.migrate() == 2
    said = capsys.readouterr()
    assert "orders.json: table orders has no column for more" in said.out
    assert "orders.json: table orders requires must, which no record has" in said.out
    assert said.err.startswith("pgload: nothing was written: orders.json: table orders")
    here.sql("ALTER TABLE orders ALTER must SET DEFAULT 'done'")
    assert here.migrate("--ignore-unknown") == 0
    assert here.sql("SELECT * FROM orders") == [(1, "a", "aa", "done")]


def test_no_field_fits(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that has nothing in common with its table is for another one."""
    here.file("t.json", [{"x": 1}])
    assert here.migrate("--ignore-unknown") == 2
    assert "no field of it has a column in table t" in capsys.readouterr().out


def test_once(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there already is not loaded again unasked, under whatever name it comes."""
    path = here.numbers("t.json", 100)
    assert here.migrate() == 0
    path.rename(here.data / "t_20250101.json")
    capsys.readouterr()
    assert here.migrate() == 2
    assert (
        "t_20250101.json: 100 of its 100 records are in t already: --resume goes on with the rest, "
        "--restart loads all of them once more" in capsys.readouterr().out
    )
    assert here.sql("SELECT count(*) FROM t") == [(100,)]
    assert here.migrate("--restart") == 0
    assert here.sql("SELECT count(*) FROM t") == [(200,)]


def test_changed_file(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that has other content than before is another file, and that is said."""
    here.numbers("t.json", 100)
    assert here.migrate() == 0
    here.numbers("t.json", 110)
    capsys.readouterr()
    assert here.migrate("--dry-run") == 0
    assert (
        "100 records of other content under this name are there already, and stay; "
        "all of these are written beside them" in capsys.readouterr().out
    )
    assert here.migrate("--resume") == 2
    assert (
        "t.json: 100 records of other content under this name are in t, and would be there twice"
        in capsys.readouterr().err
    )
    assert here.sql("SELECT count(*) FROM t") == [(100,)]


def test_twins(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files with the same content are one, with or without a ledger."""
    path = here.numbers("t.json", 100)
    here.numbers("t_2.json", 100)
    for ledger in ((), ("--no-ledger",)):
        here.sql("TRUNCATE t")
        assert here.migrate(*ledger) == 0
        assert "t_2.json: left out, it holds the same as t.json" in capsys.readouterr().out
        here.check(path)
        assert here.output("migration_results.json")["successful"] == 2


@pytest.mark.parametrize(
    ("method", "connections"), [*((method, "1") for method in METHODS), ("copy", "4")]
)
@pytest.mark.parametrize("how", ["skip", "update"])
def test_on_conflict(here: Site, how: str, method: str, connections: str) -> None:
    """A record whose key is there is skipped or updates the row, within a batch, too; a key with
    a NULL in it is never there."""
    here.sql(
        KEYED, "INSERT INTO keyed (a, b, v, \"updatedAt\") VALUES ('1', 'x', 'old', '2000-1-1')"
    )
    records = [{"a": str(n % 40), "b": "x", "v": f"{n}"} for n in range(80)] + [
        {"a": None, "b": "x", "v": "null"}
    ] * 3
    here.file("keyed.json", records)
    given = ("--method", method, "--batch-size", "60", "--connections", connections)
    assert here.migrate("--on-conflict", how, *given) == 0
    assert here.sql("SELECT count(*), count(a) FROM keyed") == [(43, 40)]
    (v, touched), *_ = here.sql("SELECT v, \"updatedAt\" > '2001-1-1' FROM keyed WHERE a = '1'")
    assert touched == (how == "update")
    assert v in ({"old"} if how == "skip" else {"41", "1"} if connections == "4" else {"41"})
    if connections == "1":
        (v,) = here.sql("SELECT v FROM keyed WHERE a = '5'")[0]
        assert v == ("5" if how == "skip" else "45")
    assert here.migrate("--on-conflict", how, "--resume", *given) == 0
    assert here.sql("SELECT count(*) FROM keyed") == [(43,)]


def test_update_keeps_the_last_of_the_files(here: Site) -> None:
    """Of records with one key the last stays, however many connections were asked for."""
    here.sql("CREATE TABLE k (k int PRIMARY KEY, v int)")
    here.file("k.json", [{"k": n % 50, "v": n} for n in range(2000)])
    options = ("--on-conflict", "update", "--connections", "5", "--batch-size", "50")
    assert here.migrate(*options) == 0
    assert here.sql("SELECT count(*), min(v), max(v) FROM k") == [(50, 1950, 1999)]


def test_a_name_that_is_taken(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A sequence, index or type of a new table's name is one line, and nothing is written."""
    here.sql("CREATE SEQUENCE orders")
    here.file("orders.json", [{"a": 1}])
    assert here.migrate("--create-tables") == 2
    assert "something else is called orders" in capsys.readouterr().out


def test_rejects_of_an_earlier_run(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of which an earlier run rejected a record is not successful, and it is said where."""
    here.file("t.json", [{"n": 1}, {"n": "one"}])
    assert here.migrate() == 1
    assert here.migrate("--resume", "--keep-runs", "1") == 1
    results = json.loads((here.outputs / "migration_results.json").read_bytes())
    assert (results["successful"], results["failed"]) == (0, 1)
    assert "1 of its records were rejected before" in capsys.readouterr().out
    kept = [path for path in here.outputs.glob("runs/2*/rejects.jsonl") if path.stat().st_size]
    assert len(kept) == 1


def test_on_conflict_with_bad_records(here: Site) -> None:
    """Rejects are found among records that are merged, too."""
    here.sql(KEYED, "ALTER TABLE keyed ADD CHECK (v <> 'bad')")
    records = [{"a": str(n % 20), "b": "x", "v": "bad" if n == 27 else str(n)} for n in range(40)]
    here.file("keyed.json", records)
    assert here.migrate("--on-conflict", "update", "--batch-size", "40") == 1
    assert here.sql("SELECT count(*), min(v::int), max(v::int) FROM keyed") == [(20, 7, 39)]
    (reject,) = here.output("rejects.jsonl")
    assert (reject["record"], reject["sqlstate"]) == (28, "23514")


def test_no_key_to_tell_by(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A conflict needs a key that the server keeps and the records have."""
    here.numbers("t.json", 10)
    assert here.migrate("--on-conflict", "skip") == 2
    assert "table t has no unique key" in capsys.readouterr().out


def test_batches_are_capped(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long records make batches of fewer of them, the same ones in every run."""
    monkeypatch.setattr(files, "BATCH_BYTES", 1000)
    path = here.file("t.json", [{"n": n, "a": "x" * (300 * (n % 5))} for n in range(50)])
    assert here.migrate("--batch-size", "20") == 0
    batches = here.output("migration_stats.json")["batches"]
    assert len(batches) > 10
    assert all(each["bytes"] <= 1000 or each["records_count"] == 1 for each in batches)
    here.check(path)
    here.sql("DELETE FROM pgload_ledger WHERE first_record BETWEEN 10 AND 20")
    monkeypatch.setattr(files, "BATCH_BYTES", 900)
    assert here.migrate("--resume") == 1  # cut otherwise, nothing would fit
    here.check(path)


HOSTILE = ['a"b', "a'b", "a;b--", "%s", "{0}", "a\\b", "a\nb", "가나다", " ", "select", "\u202e"]


def test_hostile_names(here: Site) -> None:
    """Whatever fields, tables and files are called: it is data; and a log line is one line."""
    record = dict.fromkeys(HOSTILE, "v")
    paths = []
    for n, name in enumerate(HOSTILE):
        file = here.data / f"{name}{n:02}.json"
        file.write_text(json.dumps([{**record, "n": n}]), "utf-8")
        paths.append(file)
    rules = "".join(
        f"[[table]]\nfiles = {json.dumps(f'*{n:02}.json')}\nname = {json.dumps(name)}\n"
        for n, name in enumerate(HOSTILE)
    )
    (here.data / "tables.toml").write_text(rules, "utf-8")
    assert here.migrate("--create-tables") == 0
    for name, path in zip(HOSTILE, paths, strict=True):
        here.check(path, table=name)
    assert here.migrate("--resume") == 0
    line = re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (INFO|WARNING|ERROR) - [^\x00-\x1f\u202e]*"
    )
    log = (here.outputs / "migration.log").read_text("utf-8")
    assert all(line.fullmatch(each) for each in log.splitlines())


@pytest.mark.parametrize("name", ["x" * 64, "가" * 22, ""])
def test_names_that_cannot_be(here: Site, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A field that cannot be a column fails its file; the others go in. A table that is there
    can do without it."""
    path = here.numbers("t.json", 10)
    here.file("new.json", [{name: 1, "a": 2}])
    assert here.migrate("--create-tables") == 1
    assert "not migrated: new.json: " in capsys.readouterr().out
    here.check(path)
    here.sql("CREATE TABLE new (a text)")
    assert here.migrate("--resume", "--ignore-unknown") == 0
    assert here.sql("SELECT * FROM new") == [("2",)]


def read_on(folder: Path, over: Event, trouble: list[object]) -> None:
    """Read the JSON files in a loop."""
    while not over.is_set():
        for name in JSON_FILES:
            try:
                msgspec.json.decode((folder / name).read_bytes())
            except FileNotFoundError:
                pass
            except BaseException as error:
                trouble.append((name, error))
                return


@pytest.mark.parametrize("end", ["completed", "failed", "interrupted", "killed"])
def test_files_are_valid_at_any_moment(here: Site, end: str) -> None:
    """Whoever reads the JSON files of a run, however it ends, never finds half of one."""
    here.file("t.json", [{"n": "x" if end == "failed" and n > 400 else n} for n in range(600)])
    over, trouble = Event(), list[object]()
    reader = Thread(target=read_on, args=(here.outputs, over, trouble))
    reader.start()
    try:
        with here.start("--batch-size", "1", "--max-rejects", "0") as process:
            if end in ("interrupted", "killed"):
                while process.poll() is None and here.committed() < 200:
                    pass
                process.send_signal(signal.SIGINT if end == "interrupted" else signal.SIGKILL)
            said, _ = process.communicate()
    finally:
        over.set()
        reader.join()
    assert not trouble
    status = here.output("migration_progress.json")["status"]
    assert status == ("running" if end == "killed" else end), said
    codes = {"completed": 0, "failed": 1, "interrupted": 130, "killed": -signal.SIGKILL}
    assert process.returncode == codes[end]
    if end == "failed":
        assert "--max-rejects is 0" in here.output("migration_results.json")["error"]
    if end != "killed":
        assert here.output("migration_results.json")["status"] == end
        written = sum(b["records_count"] for b in here.output("migration_stats.json")["batches"])
        assert here.sql("SELECT count(*) FROM t") == [(written,)]
    assert not re.search("[\x00-\x08\x0b-\x1f]", said)  # no terminal, no control characters


def wait_for_lock(cursor: Any, process: subprocess.Popen[str]) -> int:
    """Until the migration waits for a lock on t; gives the backend that does."""
    while process.poll() is None:
        cursor.execute("SELECT pid FROM pg_locks WHERE NOT granted AND relation = 't'::regclass")
        for (pid,) in cursor.fetchall():
            return int(pid)
    raise AssertionError(process.communicate()[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(here: Site, number: signal.Signals) -> None:
    """Interrupted while the server keeps it waiting it ends at once, in good order, and says how
    to go on; which does."""
    path = here.numbers("t.json", 500)
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        with here.start("--batch-size", "10", "--connections", "2") as process:
            wait_for_lock(cursor, process)
            process.send_signal(number)
            said, _ = process.communicate()
        cursor.execute("ROLLBACK")
    assert process.returncode == 130, said
    assert here.output("migration_results.json")["status"] == "interrupted"
    assert "Traceback" not in said
    (command,) = re.findall(r"go on with: python (.*)", said)
    again = [sys.executable, *shlex.split(command)]
    assert again[-1] == "--resume"
    subprocess.run(again, cwd=here.work, env=here.environment, check=True, capture_output=True)
    here.check(path)


def test_interrupted_twice(here: Site) -> None:
    """A second Ctrl-C ends it at once though the server does not answer."""
    here.numbers("t.json", 500)
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        with here.start("--batch-size", "10") as process:
            backend = psutil.Process(wait_for_lock(cursor, process))
            backend.suspend()
            try:
                process.send_signal(signal.SIGINT)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.communicate(timeout=1)
                process.send_signal(signal.SIGINT)
                said, _ = process.communicate(timeout=30)
            finally:
                backend.resume()
        cursor.execute("ROLLBACK")
    assert process.returncode == 130
    assert "Traceback" not in said
    assert here.migrate("--resume") == 0


def test_interrupted_before_it_began(here: Site) -> None:
    """Ctrl-C while files are read ends without a traceback."""
    here.numbers("t.json", 10)
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE")
        with here.start() as process:
            while process.poll() is None:
                cursor.execute("SELECT FROM pg_locks WHERE NOT granted")
                if cursor.fetchall():
                    break
            process.send_signal(signal.SIGINT)
            cursor.execute("ROLLBACK")
            said, _ = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said


@pytest.mark.parametrize("sizes", [("10", "10"), ("10", "17")], ids=["alike", "differing"])
@pytest.mark.parametrize("again", [(), ("--restart",)], ids=["plain", "restart"])
def test_two_at_once(here: Site, sizes: tuple[str, str], again: tuple[str, ...]) -> None:
    """Two migrations of the same file at once share the work, and the file is there once."""
    path = here.numbers("t.json", 2000)
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")  # so that both are on their way
        both = [here.start("--batch-size", size, "--connections", "2", *again) for size in sizes]
        waiting = 0
        while waiting < 4 and all(process.poll() is None for process in both):
            ((waiting,),) = here.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock' AND application_name = 'pgload'"
            )
        cursor.execute("ROLLBACK")
        said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("another migration writes this file as well" in each for each in said)
    here.check(path)


def test_two_at_once_of_different_files(here: Site, tmp_path: Path) -> None:
    """Two migrations may make, and fill, one table at once."""
    there = Site(here.target, tmp_path / "there", here.name)
    there.data.mkdir(parents=True)
    paths = [here.numbers("new_1.json", 1000), there.numbers("new_2.json", 1000, start=1000)]
    given = ("--create-tables", "--batch-size", "20", "--connections", "2")
    both = [each.start(*given) for each in (here, there)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    here.check(*paths, table="new")


def test_secrets(here: Site) -> None:
    """The password is in no file, message or process list."""
    here.file("t.json", [{"n": n if n < 50 else "bad"} for n in range(100)])
    with closing(here.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE t IN SHARE MODE")
        with here.start() as process:
            wait_for_lock(cursor, process)
            assert SECRET not in " ".join(psutil.Process(process.pid).cmdline())
            cursor.execute("ROLLBACK")
            said, _ = process.communicate()
    assert process.returncode == 1
    assert SECRET not in said
    written = [path for path in here.work.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--resume", "--restart"), "choose one"),
        (("--resume", "--no-ledger"), "--resume needs the ledger"),
        (("--cloud", "A,B"), "a migration has one target"),
        (("--cloud", "NOWHERE"), "NOWHERE_DB_HOST"),
    ],
)
def test_wrong_use(
    here: Site, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that cannot be meant are refused with one line."""
    here.numbers("t.json", 10)
    assert here.migrate(*options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_cloud_of_the_environment(here: Site) -> None:
    """A cloud that is named and not configured is not silently replaced by a rehearsal."""
    here.numbers("t.json", 10)
    environment = here.environment | {"CLOUD_PROVIDER": "AZURE"}
    command = [sys.executable, "-m", "pgload", "migrate", "--data", str(here.data)]
    done = subprocess.run(
        command, cwd=here.work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "AZURE_DB_HOST" in done.stderr


def test_reader_that_has_read_enough(here: Site) -> None:
    """A pipe that is closed ends no migration, and does not hide how it ended."""
    path = here.numbers("t.json", 500)
    read, write = os.pipe()
    os.close(read)
    with here.start("--batch-size", "10", stdout=write) as process:
        os.close(write)
        assert process.wait() == 0
    here.check(path)


def test_on_a_terminal(here: Site) -> None:
    """On a terminal there is a bar, and it is gone over to the last word."""
    here.numbers("t.json", 500)
    ours, theirs = pty.openpty()
    environment = here.environment | {"TERM": "xterm"}
    with here.start(stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # it is over
                break
    os.close(ours)
    assert process.returncode == 0
    assert "500 of 500 records (100%)" in seen.decode()
    assert "completed: 500 of 500 records" in seen.decode()
