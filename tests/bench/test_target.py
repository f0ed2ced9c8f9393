"""The saved facts of the server and the client: what numbers depend on, and no secret."""

from __future__ import annotations

import json
from dataclasses import replace

from pgload.bench.target import client_facts, server_facts
from pgload.targets.target import Target
from tests.support.servers import embedded


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
