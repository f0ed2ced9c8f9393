"""A target prepared for measuring: a schema of its own, and what every load has to leave in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.bench.dataset import Dataset
from pgload.bench.facts import server_facts
from pgload.errors import LoadError, TargetError
from pgload.load.verify import Fingerprint, expected_fingerprint, fingerprint
from pgload.schema.table import Table, create_table, qualified_name
from pgload.targets.connection_errors import check_server, one_line_errors
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SCHEMA = "pgload_bench"
OURS = "made by pgload for a benchmark, which drops it"  # the schema's comment
RTT_PROBES = 20  # at least; as many more as fit into RTT_SECONDS, up to ten times as many
RTT_SECONDS = 0.2
EXPECTED_BATCH = 500  # records that the server takes apart at a time to say what to expect


class RoundTrip(NamedTuple):
    """Percentiles of a round trip, in seconds."""

    p50: float
    p99: float


@dataclass
class Site:
    """A target prepared for measuring: schema, tables, and what every load has to leave there."""

    target: Target
    connection: Connection = field(repr=False)
    facts: dict[str, Any]
    expected: dict[Table, Fingerprint] = field(default_factory=dict)
    may_checkpoint: bool = True

    def reset(self) -> None:
        """Empty the tables, and write out what earlier rounds left in the cache, where allowed."""
        import psycopg2

        names = ", ".join(qualified_name(table, self.connection) for table in self.expected)
        with self.connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {names}")
            if self.may_checkpoint:
                try:
                    cursor.execute("CHECKPOINT")
                except psycopg2.errors.InsufficientPrivilege:
                    self.may_checkpoint = False

    def verify(self) -> None:
        """Raise `LoadError` unless every table holds exactly its records."""
        for table, expected in self.expected.items():
            found = fingerprint(table, self.connection)
            if found != expected:
                raise LoadError(
                    f"{self.target.cloud}: {table.name} holds {found.rows:,} rows with checksum "
                    f"{found.checksum} after the load, not {expected.rows:,} with "
                    f"{expected.checksum}: this round has no result"
                )

    def rtt(self) -> RoundTrip:
        """How long a `SELECT 1` takes."""
        seconds: list[float] = []
        with self.connection.cursor() as cursor:
            while len(seconds) < RTT_PROBES or (
                len(seconds) < 10 * RTT_PROBES and sum(seconds) < RTT_SECONDS
            ):
                start = time.perf_counter()
                cursor.execute("SELECT 1")
                seconds.append(time.perf_counter() - start)
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        return RoundTrip(p50=cuts[49], p99=cuts[98])

    def wal_position(self) -> int:
        """Bytes of WAL written by the server since it was made."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
            return int(_only(cursor))


@contextmanager
def prepare(target: Target, dataset: Dataset) -> Iterator[Site]:
    """Make the benchmark's schema and tables on the target; drop them at the end.

    Raises `TargetError` when another benchmark holds the schema, or when it is someone else's.
    """
    connection = target.connect()
    try:
        with server_errors(target):
            _make_schema(target, connection)
        try:
            with server_errors(target):
                site = _site(target, connection, dataset)
            yield site
        finally:
            _drop_schema(target, connection)
    finally:
        connection.close()


def server_errors(target: Target) -> AbstractContextManager[None]:
    """Turn the driver's errors into a `TargetError` of one line."""
    return one_line_errors(
        target.cloud,
        target.parameters,
        "the benchmark makes a schema of its own: run GRANT CREATE ON DATABASE … TO … there",
    )


def _drop_schema(target: Target, connection: Connection) -> None:
    """Drop the schema, over a new connection if the old one is gone.

    Where that fails as well, the next benchmark drops it.
    """
    import psycopg2

    with suppress(psycopg2.Error, TargetError):
        usable = target.connect() if connection.closed else connection
        with usable.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        if usable is not connection:
            usable.close()


def _make_schema(target: Target, connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version()")
        check_server(target.cloud, connection.server_version, str(_only(cursor)))
        cursor.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (SCHEMA,))
        if not _only(cursor):
            raise TargetError(
                f"{target.cloud}: another benchmark is running in this database; "
                "wait until it has ended (or do two clouds of this run name the same database?)"
            )
        cursor.execute("SELECT to_regnamespace(%s) IS NOT NULL", (SCHEMA,))
        if _only(cursor):
            cursor.execute("SELECT obj_description(%s::regnamespace, 'pg_namespace')", (SCHEMA,))
            if _only(cursor) != OURS:
                raise TargetError(
                    f"{target.cloud}: a schema {SCHEMA} is there that no benchmark made; "
                    "rename or drop it"
                )
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")  # of a run that was killed
        # Both or neither: a schema without the comment would be taken for someone else's.
        cursor.execute(f"CREATE SCHEMA {SCHEMA}; COMMENT ON SCHEMA {SCHEMA} IS '{OURS}'")


def _only(cursor: Cursor) -> Any:
    """The only value of the only row."""
    row = cursor.fetchone()
    assert row is not None
    return row[0]


def _site(target: Target, connection: Connection, dataset: Dataset) -> Site:
    site = Site(target, connection, server_facts(target, connection))
    with connection.cursor() as cursor:
        for table in dict.fromkeys(dataset.tables.values()):
            cursor.execute(create_table(table, connection, unique_key=False))
            site.expected[table] = Fingerprint(0, 0)
    for table, work in groupby(dataset.batches(EXPECTED_BATCH), key=lambda item: item[0]):
        more = expected_fingerprint(table, (batch for _, batch in work), connection)
        known = site.expected[table]
        site.expected[table] = Fingerprint(known.rows + more.rows, known.checksum + more.checksum)
    return site
