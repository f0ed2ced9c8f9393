"""Which table is used as the ledger, and what of the tables it relies on is still there."""

from __future__ import annotations

import pytest

from tests.support.migrating import MigrationSandbox

PLANTED = """
CREATE TABLE public.pgload_ledger (file text, "table" text, first_record bigint, records int,
    rejected int, batch_size int, file_name text, run text, committed_at timestamptz DEFAULT now(),
    CONSTRAINT pgload_ledger_pkey PRIMARY KEY (file, "table", first_record))"""
TRIGGER = """
CREATE FUNCTION public.take_over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    CREATE TABLE IF NOT EXISTS public.taken_over ();
    RETURN new;
END $$;
CREATE TRIGGER take_over BEFORE INSERT ON public.pgload_ledger
FOR EACH ROW EXECUTE FUNCTION public.take_over()"""


@pytest.mark.parametrize("by_guest", [True, False], ids=["guest", "own"])
def test_planted_ledger(
    sandbox: MigrationSandbox,
    restricted: MigrationSandbox,
    capsys: pytest.CaptureFixture[str],
    by_guest: bool,
) -> None:
    """A ledger of another role, or with a trigger, is refused before anything is written."""
    sandbox.sql(f"GRANT CREATE ON SCHEMA public TO {sandbox.name}")
    (restricted if by_guest else sandbox).sql(PLANTED, TRIGGER)
    path = sandbox.numbers("t.json", 10)
    assert sandbox.migrate() == 2
    output = "".join(capsys.readouterr())
    assert "table public.pgload_ledger is not used as the ledger, because it" in output
    assert (f"belongs to {sandbox.name}" if by_guest else "has triggers") in output
    assert sandbox.sql("SELECT count(*), to_regclass('public.taken_over') FROM t") == [(0, None)]
    assert sandbox.migrate("--no-ledger") == 0
    sandbox.check(path)


def test_two_ledgers(sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty ledger earlier in the search path does not hide the one that is filled."""
    path = sandbox.numbers("t.json", 10)
    assert sandbox.migrate() == 0
    sandbox.sql(
        "CREATE SCHEMA first",
        "CREATE TABLE first.pgload_ledger (LIKE pgload_ledger INCLUDING ALL)",
        f"ALTER DATABASE {sandbox.name} SET search_path = first, public",
    )
    assert sandbox.migrate("--resume") == 2
    assert "2 ledgers in the search path" in "".join(capsys.readouterr())
    sandbox.check(path)


def test_ledger_of_an_earlier_version(sandbox: MigrationSandbox) -> None:
    """A ledger without the newer columns gets them, and keeps what it records."""
    path = sandbox.numbers("t.json", 100)
    assert sandbox.migrate("--batch-size", "10") == 0
    sandbox.sql(
        "ALTER TABLE pgload_ledger DROP skipped, DROP updated, DROP suppressed, DROP storage, "
        "DROP writers",
        "DELETE FROM pgload_ledger WHERE first_record = 11",
        "DELETE FROM t WHERE n BETWEEN 10 AND 19",
    )
    assert sandbox.migrate("--resume", "--dry-run") == 0
    assert sandbox.migrate("--resume") == 0
    sandbox.check(path)


@pytest.mark.parametrize("how", ["TRUNCATE t", "DROP TABLE t; CREATE TABLE t (n int, a text)"])
def test_table_emptied_by_hand(
    sandbox: MigrationSandbox, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """A table that was truncated or made anew is counted before a resume relies on it."""
    path = sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 0
    sandbox.sql(how, "INSERT INTO t (n) VALUES (1)")
    assert sandbox.migrate("--resume") == 2
    assert "which has 1 rows of the 100 that it should have" in "".join(capsys.readouterr())
    sandbox.sql("TRUNCATE t")
    assert sandbox.migrate("--restart") == 0
    sandbox.check(path)


def test_table_rewritten(sandbox: MigrationSandbox) -> None:
    """A table that was rewritten and has its rows still is relied on."""
    path = sandbox.numbers("t.json", 100)
    assert sandbox.migrate() == 0
    sandbox.sql("VACUUM FULL t")
    assert sandbox.migrate("--resume") == 0
    sandbox.check(path)
