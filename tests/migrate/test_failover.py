"""A standby is promoted while a migration writes: it resumes on the new primary.

    PGLOAD_FAILOVERS=10 pytest tests/migrate/test_failover.py

repeats the failover with synchronous replication that often.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.migrating import CLOUD, MigrationSandbox, make_sandbox, wait_while_running
from tests.support.servers import embedded
from tests.support.standby import Address, Server, address, standby_of
from tests.support.waiting import wait_until

FAILOVERS = int(os.environ.get("PGLOAD_FAILOVERS", "1"))
BATCHES = ("--batch-size", "10", "--connections", "2", "--retry-timeout", "60")


@dataclass
class Pair:
    """A sandbox on a primary, its standby, and the address that leads to one of them."""

    sandbox: MigrationSandbox
    primary: Server
    standby: Server
    address: Address

    @property
    def environment(self) -> dict[str, str]:
        ours = {f"{CLOUD}_DB_HOST": "127.0.0.1", f"{CLOUD}_DB_PORT": str(self.address.port)}
        return self.sandbox.environment | ours

    def use_standby(self) -> None:
        """From now on the sandbox asks the standby what is there."""
        parameters = {**self.sandbox.target.parameters, "host": str(self.standby.folder)}
        self.sandbox.target = replace(self.sandbox.target, parameters=parameters)


@contextmanager
def make_pair(folder: Path) -> Iterator[Pair]:
    with embedded() as target:
        primary = Server(Path(target.parameters["host"]))
        with (
            make_sandbox(target, folder, drop=False) as sandbox,
            standby_of(target) as standby,
            address(primary) as changing,
        ):
            yield Pair(sandbox, primary, standby, changing)


@pytest.mark.parametrize("repetition", range(FAILOVERS))
def test_failover(tmp_path: Path, repetition: int) -> None:
    """With synchronous replication every record is on the new primary, once. Until the standby is
    promoted it takes no writes (SQLSTATE 25006), which is retried."""
    with make_pair(tmp_path) as pair:
        sandbox = pair.sandbox
        path = sandbox.numbers("t.json", 2000)
        with sandbox.start(*BATCHES, env=pair.environment) as process:
            wait_while_running(process, lambda: sandbox.committed() > 150 * (repetition + 1))
            pair.address.server = pair.standby
            pair.primary.crash()
            pair.use_standby()
            wait_while_running(
                process, lambda: "read-only" in (sandbox.outputs / "migration.log").read_text()
            )
            pair.standby.sql("SELECT pg_promote()")
            output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        sandbox.check(path)
        assert sandbox.output("migration_results.json")["total_records"] == 2000


def stop_receiving(standby: Server) -> None:
    """Let the standby fall behind: it receives no more of the primary's WAL."""
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
    wait_until(lambda: not standby.sql("SELECT FROM pg_stat_wal_receiver"))


def fail_over(pair: Pair) -> None:
    """Lose the primary, and promote the standby with what it has."""
    pair.address.server = pair.standby
    pair.primary.crash()
    pair.standby.sql("SELECT pg_promote()")
    pair.use_standby()


@pytest.mark.parametrize("when", ["during", "after"])
def test_asynchronous_replication(tmp_path: Path, when: str) -> None:
    """Commits that the standby has not received are lost with the primary: a run that still writes
    writes them again and reports it; after the run, --resume finds what is missing."""
    with make_pair(tmp_path) as pair:
        sandbox = pair.sandbox
        pair.primary.sql("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        path = sandbox.numbers("t.json", 2000)
        with sandbox.start(*BATCHES, env=pair.environment) as process:
            wait_while_running(process, lambda: sandbox.committed() > 300)
            stop_receiving(pair.standby)
            if when == "during":
                wait_while_running(process, lambda: sandbox.committed() > 900)
                fail_over(pair)
            output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        if when == "during":
            assert "were lost" in output
        else:
            fail_over(pair)
            assert 300 <= sandbox.committed() < 2000
            assert sandbox.migrate("--resume", "--verify") == 0
            assert sandbox.output("migration_results.json")["verified"] is True
        sandbox.check(path)
