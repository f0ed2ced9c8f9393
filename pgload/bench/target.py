"""A target prepared for benchmarks: its schema and tables, expected rows, and server facts."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgload.bench.dataset import Dataset
from pgload.bench.schema import RUN, BenchSchema
from pgload.errors import LoadError
from pgload.load.verify import Fingerprint, expected_fingerprint, fingerprint
from pgload.schema.table import Table, create_table, qualified_name
from pgload.targets.connection_errors import check_server, one_line_errors
from pgload.targets.pooler import is_pooled
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

RTT_PROBES = 20  # at least; at most ten times as many, as fit into RTT_SECONDS
RTT_SECONDS = 0.2
CHECKSUM_BATCH = 500  # records of which the server computes the expected checksum at a time


class RoundTrip(NamedTuple):
    """Percentiles of a round trip, in seconds."""

    p50: float
    p99: float


@dataclass
class BenchTarget:
    """A target whose schema and tables exist, with the rows that every load has to leave there."""

    target: Target
    connection: Connection = field(repr=False)
    facts: dict[str, Any]
    expected: dict[Table, Fingerprint] = field(default_factory=dict)
    may_checkpoint: bool = True  # False once the server has refused a CHECKPOINT
    at_start: dict[str, Any] = field(default_factory=dict)  # the deciding facts, before any load

    @property
    def pooled(self) -> bool:
        """Whether its connections go through a pooler."""
        return bool(self.facts["pooled"])

    def reset(self) -> None:
        """Empty the tables, and flush what earlier rounds left in the cache, if that is allowed."""
        import psycopg2

        names = ", ".join(qualified_name(table, self.connection) for table in self.expected)
        with self.connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {names}")
            if self.may_checkpoint:
                try:
                    cursor.execute("CHECKPOINT")
                except psycopg2.errors.InsufficientPrivilege:
                    self.may_checkpoint = False

    def verify(self, repeats: int = 1) -> None:
        """Raise `LoadError` unless every table holds exactly its records, `repeats` times each."""
        for table, (rows, checksum) in self.expected.items():
            expected = Fingerprint(rows * repeats, checksum * repeats)
            found = fingerprint(table, self.connection)
            if found != expected:
                raise LoadError(
                    f"{self.target.cloud}: {table.name} holds {found.rows:,} rows with checksum "
                    f"{found.checksum} after the load, not {expected.rows:,} with "
                    f"{expected.checksum}: this round has no result"
                )

    def check_unchanged(self) -> None:
        """Raise `LoadError` if a fact that decides the speed is not as at the start of the run."""
        now = deciding_facts(self.connection, list(self.expected))
        changes = [
            f"{name} changed from {before} to {now.get(name)}"
            for name, before in self.at_start.items()
            if now.get(name) != before
        ]
        if changes:
            raise LoadError(
                f"{self.target.cloud}: since the start of the run {'; '.join(changes)}: this pass "
                "has no result; run the benchmark again"
            )

    def rtt(self) -> RoundTrip:
        """Measure the round trip of a `SELECT 1`."""
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
        """Bytes of WAL that the server has written since it was initialised."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
            return int(_value(cursor))


@contextmanager
def prepare(target: Target, dataset: Dataset, *, run: str = RUN) -> Iterator[BenchTarget]:
    """Make the benchmark's schema and tables on the target; drop them at the end.

    Two targets of a run may be the same database, direct and through a pooler, for example. Raises
    `TargetError` when another benchmark uses the schema, or when no benchmark made it.
    """
    connection = target.connect()
    try:
        with server_errors(target):
            _check_server(target, connection)
            facts = server_facts(target, connection)
            schema = BenchSchema(target, connection, pooled=facts["pooled"], run=run)
            made = schema.make()
        try:
            with server_errors(target):
                prepared = BenchTarget(target, connection, facts)
                _prepare_tables(prepared, dataset, create=made)
            yield prepared
        finally:
            schema.drop()
    finally:
        connection.close()


def server_errors(target: Target) -> AbstractContextManager[None]:
    """Turn the driver's errors into a `TargetError` of one line."""
    return one_line_errors(
        target,
        "the benchmark makes a schema of its own: run GRANT CREATE ON DATABASE … TO … there",
    )


def _check_server(target: Target, connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version()")
        check_server(target, connection.server_version, str(_value(cursor)))


def _value(cursor: Cursor) -> Any:
    """The value of a result of one row and one column."""
    row = cursor.fetchone()
    assert row is not None
    return row[0]


def _prepare_tables(prepared: BenchTarget, dataset: Dataset, *, create: bool) -> None:
    """Create the tables, and have the server compute the rows that they have to hold."""
    connection = prepared.connection
    with connection.cursor() as cursor:
        for table in dict.fromkeys(dataset.tables.values()):
            if create:
                cursor.execute(create_table(table, connection, unique_key=False))
            prepared.expected[table] = Fingerprint(0, 0)
    for table, pairs in groupby(dataset.batches(CHECKSUM_BATCH), key=lambda pair: pair[0]):
        rows, checksum = prepared.expected[table]
        more = expected_fingerprint(table, (batch for _, batch in pairs), connection)
        prepared.expected[table] = Fingerprint(rows + more.rows, checksum + more.checksum)
    prepared.at_start = deciding_facts(connection, list(prepared.expected))


# Changed during a run, they make its numbers those of two different servers.
DECIDING_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_level")

_TABLE_QUERY = """
    SELECT oid, CASE relpersistence
            WHEN 'p' THEN 'logged' WHEN 'u' THEN 'unlogged' ELSE 'temporary' END,
        relkind, (SELECT count(*) FROM pg_index WHERE indrelid = c.oid),
        (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid)
    FROM pg_class AS c WHERE oid = to_regclass(%s)"""


def deciding_facts(connection: Connection, tables: Sequence[Table]) -> dict[str, Any]:
    """The facts by which a changed or restarted server and changed tables are noticed, by name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_postmaster_start_time()::text")
        facts = {"the server's start": _value(cursor)}
        for name in DECIDING_SETTINGS:
            cursor.execute("SELECT current_setting(%s)", (name,))
            facts[name] = _value(cursor)
        for table in tables:
            cursor.execute(_TABLE_QUERY, (qualified_name(table, connection),))
            found = cursor.fetchone() or (None,) * 5
            names = ("oid", "persistence", "kind", "indexes", "triggers")
            facts |= {
                f"{table.name}'s {name}": value for name, value in zip(names, found, strict=True)
            }
    return facts


# What write speed depends on; recorded even if it is the default.
RECORDED_SETTINGS = (
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
# A string may be a secret, a path or an address, so no other strings are recorded.
SAFE_STRINGS = ("shared_preload_libraries", "default_table_access_method")
ADDRESS_SETTINGS = ("port",)  # never recorded

_SETTINGS_QUERY = """
    SELECT name, current_setting(name) FROM pg_settings
    WHERE name = ANY(%s) OR (
        source NOT IN ('default', 'override', 'client', 'session')
        AND (vartype <> 'string' OR name = ANY(%s)) AND name <> ALL(%s)
    )
    ORDER BY name"""


def server_facts(target: Target, connection: Connection) -> dict[str, Any]:
    """Version, settings, encryption, instance type and price of a server, for the saved JSON.

    `tls` is the version that the client's connection has, `pooled` whether it goes through a
    pooler. `settings` holds RECORDED_SETTINGS and those that are not the default, without addresses
    and secrets.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT version()")
        build = _value(cursor)
        names = (list(RECORDED_SETTINGS), list(SAFE_STRINGS), list(ADDRESS_SETTINGS))
        cursor.execute(_SETTINGS_QUERY, names)
        settings = dict(cursor.fetchall())
    return {
        "version": connection.info.parameter_status("server_version"),
        "build": build,
        "settings": settings,
        "tls": connection.info.ssl_attribute("protocol"),
        "pooled": is_pooled(connection),
        "instance_type": target.instance_type,
        "price_per_hour": target.price_per_hour,
        **_shape(target.instance_type),
        **target.facts,
    }


def _shape(instance_type: str | None) -> dict[str, int]:
    """vCPUs and memory as in the name of an instance type such as `db-custom-2-7680`."""
    found = re.fullmatch(r"db-custom-(\d+)-(\d+)", instance_type or "")
    return {"vcpus": int(found[1]), "memory_mb": int(found[2])} if found else {}


def client_facts() -> dict[str, Any]:
    """The machine that the client runs on, its Python and its driver, for the saved JSON."""
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
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except OSError:
            text = ""
        return text.strip() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()  # there is none on ARM
