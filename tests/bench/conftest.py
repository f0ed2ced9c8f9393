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


def on_every_table(each: str, body: str) -> str:
    """SQL that gives every table made in the database a trigger before each INSERT or COPY.

    It runs the statements of `body`, which return a row, for `each`: "ROW" or "STATEMENT".
    """
    return f"""
        CREATE FUNCTION public.on_insert() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN {body} END $$;
        CREATE FUNCTION public.add_trigger() RETURNS event_trigger LANGUAGE plpgsql AS $$
            DECLARE made record;
            BEGIN
                FOR made IN SELECT * FROM pg_event_trigger_ddl_commands()
                WHERE object_type = 'table' LOOP
                    EXECUTE format('CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH {each} '
                                   'EXECUTE FUNCTION public.on_insert()', made.object_identity);
                END LOOP;
            END $$;
        CREATE EVENT TRIGGER add_trigger ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
            EXECUTE FUNCTION public.add_trigger();"""
