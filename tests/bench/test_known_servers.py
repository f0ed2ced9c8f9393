"""Servers of known speed, measured by the suite and compared by `pgload compare`."""

from __future__ import annotations

import json
from pathlib import Path

from pgload.targets.target import Target
from tests.bench.conftest import Database
from tests.support.checkout import Run, configure

# Every table made in the database gets a trigger that sleeps before each COPY or INSERT.
SLOW = """
CREATE FUNCTION public.sleep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE made record;
    BEGIN
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
            EXECUTE format('CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH STATEMENT '
                           'EXECUTE FUNCTION public.sleep()', made.object_identity);
        END LOOP;
    END $$;
CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION public.slow();
"""
SECONDS = {"GCP": 0.0, "AZURE": 0.02, "AWS": 0.06}


def test_servers_of_known_speed(run: Run, checkout: Path, fast_server: Target) -> None:
    """Order, ratios and best settings are those that the servers were made with."""
    postgres = Database("postgres", fast_server)
    for cloud, seconds in SECONDS.items():
        name = f"known_{cloud.lower()}"
        postgres.sql(f"CREATE DATABASE {name}")
        if seconds:
            target = Target(cloud, {**fast_server.parameters, "dbname": name})
            Database(name, target).sql(SLOW.format(seconds=seconds))
        configure(checkout, cloud, fast_server, name)
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP,AZURE,AWS",
               "--method=copy", "--batch-size=100,200", "--records=2000", "--passes=3",
               "--warmup-rounds=0")  # fmt: skip
    assert done.returncode == 0, done.stdout
    compared = run("pgload", "compare", "--baseline", "GCP", "--format", "json")
    assert compared.returncode == 0, compared.stderr
    found = json.loads((checkout / "reports/compare.json").read_text())

    small = {each["side"]: each for each in found["settings"] if each["batch_size"] == 100}
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
        if bench["params"]["batch_size"] == 100
    }
    for cloud in ("AZURE", "AWS"):
        expected = seconds["GCP"] / (seconds["GCP"] + 20 * SECONDS[cloud])
        assert abs(small[cloud]["ratio"] / expected - 1) < 0.4
    best = {each["side"]: each["batch_size"] for each in found["best"]}
    assert (best["AZURE"], best["AWS"]) == (200, 200)
