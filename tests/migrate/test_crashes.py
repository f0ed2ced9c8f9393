"""However a migration ends or is disturbed, what is in the table at last is its files, once.

    PGLOAD_KILLS=50 PGLOAD_CUTS=20 pytest tests/test_migrate_crashes.py -k "killed or cut_off"

does what the tests do with a handful of kills and cuts with as many as one likes.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from pgload.contract import METHODS
from pgload.errors import TargetError
from pgload.load.methods import MultiValues
from pgload.targets.embedded import embedded
from pgload.targets.target import Target
from tests.support.migrating import Restarts, Site, site

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

KILLS = int(os.environ.get("PGLOAD_KILLS", "3"))
CUTS = int(os.environ.get("PGLOAD_CUTS", "2"))
RECORDS, BATCH = 6000, 10


@pytest.fixture
def here(server: Target, tmp_path: Path) -> Iterator[Site]:
    """A database and a folder."""
    with site(server, tmp_path) as found:
        yield found


def wait_for(here: Site, process: subprocess.Popen[str], records: int) -> bool:
    """Until so many records are committed; False if the process ends before."""
    while process.poll() is None:
        with suppress(psycopg2.Error, TargetError), closing(here.connect()) as connection:
            while process.poll() is None:
                if here.committed(connection) >= records:
                    return True
    return False


def begin_again(here: Site) -> None:
    """As if nothing had been migrated yet."""
    here.sql("TRUNCATE t", "DROP TABLE IF EXISTS pgload_ledger")


@pytest.mark.parametrize("connections", [1, 8])
def test_killed(here: Site, connections: int) -> None:
    """Killed at any moment and resumed, as often as it takes, it loses and repeats nothing."""
    path, random, kills = here.numbers("t.json", RECORDS), Random(connections), 0
    while kills < KILLS:
        begin_again(here)
        while True:
            method = random.choice(list(METHODS))
            given = ("--batch-size", str(BATCH), "--connections", str(connections))
            with here.start("--resume", "--method", method, *given) as process:
                if random.random() < 0.3:  # perhaps before there is a ledger
                    with suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=random.uniform(0.0, 2.0))
                else:
                    wait_for(here, process, here.committed() + random.randrange(RECORDS // 2))
                process.kill()
                said, _ = process.communicate()
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, said
                break
            kills += 1
        here.check(path)


@pytest.fixture(scope="module")
def restarts() -> Iterator[tuple[Target, Restarts]]:
    """A server of our own, to be ended and started again."""
    with embedded() as target, Restarts(target) as found:
        yield target, found


@pytest.mark.parametrize("connections", [1, 8])
def test_cut_off(restarts: tuple[Target, Restarts], tmp_path: Path, connections: int) -> None:
    """A server that restarts or crashes, and connections that are cut, end no migration."""
    target, server = restarts
    with site(target, tmp_path) as here:
        path, random, cuts = here.numbers("t.json", RECORDS), Random(connections), 0
        while cuts < CUTS:
            begin_again(here)
            method = random.choice(list(METHODS))
            given = ("--batch-size", str(BATCH), "--connections", str(connections))
            with here.start("--method", method, *given) as process:
                while wait_for(here, process, here.committed() + random.randrange(10, 2000)):
                    how = random.choice([None, None, signal.SIGINT, signal.SIGQUIT])
                    if how is None:
                        here.sql(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                            "application_name = 'pgload' AND datname = current_database() "
                            "AND pid <> pg_backend_pid()"
                        )
                    else:
                        server.restart(how)
                    cuts += 1
                    wait_for(here, process, 0)
                said, _ = process.communicate()
            assert process.returncode == 0, said
            here.check(path)
            assert here.output("migration_results.json")["total_records"] == RECORDS


class LosesTheAnswer(MultiValues):
    """Its first batch is committed, and the connection lost before anyone hears of it."""

    lost = False

    def write(self, cursor: Cursor, payload: Any, **around: bytes) -> None:
        super().write(cursor, payload, **around)
        if not self.lost:
            LosesTheAnswer.lost = True
            cursor.connection.close()
            raise psycopg2.OperationalError("server closed the connection unexpectedly")


@pytest.mark.parametrize("ledger", [True, False])
def test_lost_answer(
    here: Site, ledger: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch that is committed although its connection was lost is there, and counted, once;
    without a ledger that cannot be known, and ends the run."""
    path = here.numbers("t.json", 100)
    monkeypatch.setattr(LosesTheAnswer, "lost", False)
    monkeypatch.setitem(METHODS, "values", LosesTheAnswer)
    options = () if ledger else ("--no-ledger",)
    assert here.migrate("--batch-size", "10", *options) == (0 if ledger else 1)
    results = here.output("migration_results.json")
    if ledger:
        here.check(path)
        assert (results["total_records"], results["retries"]) == (100, 1)
    else:
        assert "nobody knows whether they are there" in capsys.readouterr().out
        assert "go on with" not in capsys.readouterr().out
        assert here.sql("SELECT count(*) FROM t") == [(10,)]
