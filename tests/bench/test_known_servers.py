"""Servers of known speed, measured by the suite and compared by `pgload compare`."""

from __future__ import annotations

import json
from pathlib import Path

from pgload.targets.target import Target
from tests.bench.conftest import Database, on_every_table
from tests.support.checkout import Run, configure

SECONDS = {"GCP": 0.0, "AZURE": 0.02, "AWS": 0.06}


def test_servers_of_known_speed(run: Run, checkout: Path, fast_server: Target) -> None:
    """Order, ratios and best settings are those that the servers were made with."""
    postgres = Database("postgres", fast_server)
    for cloud, seconds in SECONDS.items():
        name = f"known_{cloud.lower()}"
        postgres.sql(f"CREATE DATABASE {name}")
        if seconds:
            target = Target(cloud, {**fast_server.parameters, "dbname": name})
            sleep = f"PERFORM pg_sleep({seconds}); RETURN NULL;"
            Database(name, target).sql(on_every_table("STATEMENT", sleep))
        configure(checkout, cloud, fast_server, name)
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP,AZURE,AWS",
               "--method=copy", "--batch-size=50,100", "--records=1000", "--passes=3",
               "--warmup-rounds=0")  # fmt: skip
    assert done.returncode == 0, done.stdout
    compared = run("pgload", "compare", "--baseline", "GCP", "--format", "json")
    assert compared.returncode == 0, compared.stderr
    found = json.loads((checkout / "reports/compare.json").read_text())

    small = {each["side"]: each for each in found["settings"] if each["batch_size"] == 50}
    assert {side: each["verdict"] for side, each in small.items()} == {
        "AZURE": "slower",
        "AWS": "slower",
    }
    assert small["AWS"]["ratio"] < small["AZURE"]["ratio"] < 1
    # 20 batches sleep once each, beside the time that GCP needs for all of them.
    (path,) = checkout.glob(".benchmarks/*/0001_*.json")
    seconds = {
        bench["params"]["cloud"]: bench["stats"]["median"]
        for bench in json.loads(path.read_text())["benchmarks"]
        if bench["params"]["batch_size"] == 50
    }
    for cloud in ("AZURE", "AWS"):
        expected = seconds["GCP"] / (seconds["GCP"] + 20 * SECONDS[cloud])
        assert abs(small[cloud]["ratio"] / expected - 1) < 0.4
    best = {each["side"]: each["batch_size"] for each in found["best"]}
    assert (best["AZURE"], best["AWS"]) == (100, 100)
