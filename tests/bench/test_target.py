"""The saved facts of the server and the client: what numbers depend on, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.schema import SCHEMA
from pgload.bench.target import BenchTarget, client_facts, prepare, server_facts
from pgload.errors import LoadError
from pgload.targets.target import Target
from tests.support.loading import write_json
from tests.support.servers import embedded
from tests.support.waiting import wait_until


def test_settings_that_are_not_the_default() -> None:
    """Settings that were changed are recorded, except addresses and secrets."""
    secret = "a-secret-word"
    changed = {
        "random_page_cost": "1.1",
        "log_checkpoints": "off",
        "wal_compression": "pglz",
        "port": "54321",
        "archive_mode": "on",
        "archive_command": f"push --key={secret} %p",
        "primary_conninfo": f"host=198.51.100.7 password={secret}",
        "cluster_name": secret,
    }
    with embedded(**changed) as target:
        connection = target.connect()
        facts = server_facts(target, connection)
        connection.close()
    settings = facts["settings"]
    assert settings["random_page_cost"] == "1.1"
    assert settings["log_checkpoints"] == "off"
    assert settings["wal_compression"] == "pglz"
    assert settings["archive_mode"] == "on"
    assert settings["fsync"] == "on"  # the default, and recorded nevertheless
    assert "enable_seqscan" not in settings
    text = json.dumps(facts)
    for word in (secret, "198.51.100.7", "54321", target.parameters["host"]):
        assert word not in text


def test_server(server: Target) -> None:
    """Version, build, encryption and the facts of the target."""
    target = replace(
        server, instance_type="db-custom-2-7680", price_per_hour=0.35, facts={"rtt_asked_ms": 20}
    )
    connection = target.connect()
    facts = server_facts(target, connection)
    connection.close()
    assert facts["version"].startswith("18")
    assert facts["build"].startswith("PostgreSQL 18")
    assert facts["tls"] is None  # over a Unix socket
    assert (facts["vcpus"], facts["memory_mb"]) == (2, 7680)
    assert (facts["price_per_hour"], facts["rtt_asked_ms"]) == (0.35, 20)


def test_client() -> None:
    """The machine and the driver, as JSON."""
    facts = client_facts()
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert facts["memory_mb"] > 100
    assert facts["python"].startswith("CPython 3.")
    assert facts["driver"].startswith("psycopg2 2.")
    assert json.loads(json.dumps(facts)) == facts


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[BenchTarget]:
    """A target of its own, prepared for ten records."""
    write_json(tmp_path / "a.json", [{"n": n} for n in range(10)])
    with (
        embedded(fsync="off") as target,
        prepare(target, Dataset.read(tmp_path, schema=SCHEMA)) as prepared,
    ):
        yield prepared


def sql(prepared: BenchTarget, *statements: str) -> None:
    """Run statements over another connection."""
    with closing(prepared.target.connect()) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_changed_tables(prepared: BenchTarget) -> None:
    """A table that is unlogged now, has another index, or is another one, spoils a pass."""
    prepared.check_unchanged()
    sql(prepared, "ALTER TABLE pgload_bench.a SET UNLOGGED")
    with pytest.raises(LoadError, match=r"from logged to unlogged.*no result"):
        prepared.check_unchanged()
    sql(prepared, "ALTER TABLE pgload_bench.a SET LOGGED", "CREATE INDEX ON pgload_bench.a (n)")
    with pytest.raises(LoadError, match="a's indexes changed from 1 to 2"):
        prepared.check_unchanged()
    sql(prepared, "DROP TABLE pgload_bench.a")
    with pytest.raises(LoadError, match="a's kind changed from r to None"):
        prepared.check_unchanged()


def test_changed_settings(prepared: BenchTarget) -> None:
    """A setting that decides the speed and was reloaded spoils a pass."""
    sql(prepared, "ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()")

    def changed() -> bool:
        try:
            prepared.check_unchanged()
        except LoadError as error:
            return "synchronous_commit changed from on to off" in str(error)
        return False

    wait_until(changed)


def test_repeated_rows(prepared: BenchTarget) -> None:
    """Rows that were loaded several times are verified as such."""
    sql(prepared, *["INSERT INTO pgload_bench.a (n) SELECT generate_series(0, 9)"] * 2)
    prepared.verify(repeats=2)
    with pytest.raises(LoadError, match=r"a holds 20 rows .* not 10 with"):
        prepared.verify()
