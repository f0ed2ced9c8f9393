"""A server for runs of the suite, which does not wait for the disk; a database of its own each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from pgload.targets.target import Target
from tests.support.checkout import configure
from tests.support.servers import embedded


class Database(NamedTuple):
    """A database that is configured as GCP in the checkout's `.env`."""

    name: str
    target: Target

    def sql(self, *statements: str) -> object:
        """Run statements; the first value of the last one's result, if it has one."""
        with closing(self.target.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()[0][0] if cursor.description else None


@pytest.fixture(scope="session")
def fast_server() -> Iterator[Target]:
    """A running PostgreSQL without fsync."""
    with embedded(fsync="off", full_page_writes="off", autovacuum="off") as target:
        yield target


@pytest.fixture
def database(fast_server: Target, checkout: Path) -> Iterator[Database]:
    """An empty database, configured as GCP in the checkout's `.env`."""
    name = "bench"
    postgres = Database("postgres", fast_server)
    postgres.sql(f"CREATE DATABASE {name}")
    configure(checkout, "GCP", fast_server, name, INSTANCE_TYPE="db-custom-1-3840")
    yield Database(name, Target("GCP", {**fast_server.parameters, "dbname": name}))
    postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")
