"""A target prepared for measuring: a schema of its own, and what every load has to leave in it."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.bench.dataset import Dataset
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
class BenchTarget:
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
def prepare(target: Target, dataset: Dataset) -> Iterator[BenchTarget]:
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


def _site(target: Target, connection: Connection, dataset: Dataset) -> BenchTarget:
    site = BenchTarget(target, connection, server_facts(target, connection))
    with connection.cursor() as cursor:
        for table in dict.fromkeys(dataset.tables.values()):
            cursor.execute(create_table(table, connection, unique_key=False))
            site.expected[table] = Fingerprint(0, 0)
    for table, work in groupby(dataset.batches(EXPECTED_BATCH), key=lambda item: item[0]):
        more = expected_fingerprint(table, (batch for _, batch in work), connection)
        known = site.expected[table]
        site.expected[table] = Fingerprint(known.rows + more.rows, known.checksum + more.checksum)
    return site


# What a server's write speed depends on, told even where it is the default.
SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "wal_buffers",
    "wal_sync_method",
    "max_wal_size",
    "checkpoint_timeout",
    "commit_delay",
    "shared_buffers",
    "max_connections",
    "autovacuum",
)
# Only a string can be a secret, a path or an address; of those that are strings, these are none.
HARMLESS_STRINGS = ("shared_preload_libraries", "default_table_access_method")
LEADS_THERE = ("port",)

_SETTINGS_QUERY = """
    SELECT name, current_setting(name) FROM pg_settings
    WHERE name = ANY(%s) OR (
        source NOT IN ('default', 'override', 'client', 'session')
        AND (vartype <> 'string' OR name = ANY(%s)) AND name <> ALL(%s)
    )
    ORDER BY name"""


def server_facts(target: Target, connection: Connection) -> dict[str, Any]:
    """What is known of a server; `settings` holds every one that is not the default."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT version(), (SELECT max(version) FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
        )
        ((build, tls),) = cursor.fetchall()
        names = (list(SETTINGS), list(HARMLESS_STRINGS), list(LEADS_THERE))
        cursor.execute(_SETTINGS_QUERY, names)
        settings = dict(cursor.fetchall())
    return {
        "version": connection.info.parameter_status("server_version"),
        "build": build,
        "settings": settings,
        "tls": tls,
        "instance_type": target.instance_type,
        "price_per_hour": target.price_per_hour,
        **_shape(target.instance_type),
        **target.facts,
    }


def _shape(instance_type: str | None) -> dict[str, int]:
    """The size that an instance type tells by its name, as `db-custom-2-7680` does."""
    found = re.fullmatch(r"db-custom-(\d+)-(\d+)", instance_type or "")
    return {"vcpus": int(found[1]), "memory_mb": int(found[2])} if found else {}


def client_facts() -> dict[str, Any]:
    """The machine that the client runs on, and what it runs with."""
    import psycopg2

    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "driver": f"psycopg2 {psycopg2.__version__}",  # type: ignore[attr-defined]
        "libpq": psycopg2.__libpq_version__,
        "os": platform.platform(),
    }


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except OSError:
            told = ""
        return told.strip() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE)
    return found[1] if found else platform.machine()  # ARM tells no name
