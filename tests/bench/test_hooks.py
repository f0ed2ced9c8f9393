"""What a run of benchmarks saves and reports, with one cloud and with several."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pgload.contract import PARTS
from pgload.targets.target import Target
from tests.bench.conftest import Database
from tests.support.checkout import QUICK, SECRET, Run, configure, run_environment, saved

SETTING = ("--batch-size=60", "--connections=1")


def loads(saved_run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The loads of a saved run, by name."""
    return {b["name"]: b for b in saved_run["benchmarks"] if "batch_size" in (b["params"] or {})}


def check_load(load: dict[str, Any]) -> None:
    """The facts of a load of 600 records over one connection in two rounds are consistent."""
    assert load["params"].keys() == {"cloud", "method", "batch_size", "connections"}
    extra, median = load["extra_info"], load["stats"]["median"]
    assert extra["verified"] is True
    assert (extra["records"], extra["retries"]) == (600, 0)
    assert extra["records_per_second"] == pytest.approx(600 / median)
    assert extra["dataset"] == {"records": 600, "bytes": extra["bytes"]}
    assert extra["mb_per_second"] == pytest.approx(extra["bytes"] / 1e6 / median)
    (only,) = extra["passes"]
    assert only == {"number": 1, "seconds": load["stats"]["data"]}
    assert extra["profile"] == {part: extra[part] for part in PARTS}
    assert len(load["stats"]["data"]) == 2
    assert extra["batch_latency"].keys() == {"p50", "p95", "p99", "max"}
    assert 0 < extra["batch_latency"]["p50"] <= extra["batch_latency"]["max"]
    assert extra["client"]["cpu_seconds"] > 0
    # With one connection neither the encoder nor the worker is busy for longer than the round.
    assert 0 < extra["encode"] <= median
    assert 0 < extra["write"] + extra["commit"] <= median
    assert extra["wal_bytes_per_record"] > 500
    assert 0 < extra["rtt_ms"] <= extra["rtt_p99_ms"]
    assert sum(extra["bottleneck_shares"].values()) == pytest.approx(1, abs=0.001)
    assert extra["bottleneck"] in extra["bottleneck_shares"]
    assert extra["advice"]
    assert sum(extra["batches"]["records"]) == 600
    assert max(extra["batches"]["start"]) < median


def test_saved_run(run: Run, checkout: Path) -> None:
    """A run saves, unasked, all that its numbers rest on, and `compare` draws it."""
    done = run("pytest", "benchmarks", *SETTING, "--rtt=2", *QUICK)
    assert done.returncode == 0, done.stdout
    assert "rows verified" in done.stdout
    assert re.search(r"saved: \.benchmarks/\S+/0001_EMBEDDED\.json", done.stdout)
    assert re.search(r"draw it: \S*python[\d.]* -m pgload compare", done.stdout)
    found = saved(checkout)
    assert set(loads(found)) == {
        "test_batch_size[copy-60-1]",
        "test_methods[unnest-60-1]",
        "test_methods[json-60-1]",
        "test_methods[values-60-1]",
    }
    for load in loads(found).values():
        check_load(load)
        assert load["params"]["cloud"] == "EMBEDDED"
        assert load["extra_info"]["rtt_asked_ms"] == 2
        assert 2 <= load["extra_info"]["rtt_ms"] < 12
    server = found["machine_info"]["servers"]["EMBEDDED"]
    assert server["version"].startswith("18")
    assert server["settings"]["fsync"] == "on"
    assert found["machine_info"]["client"]["cores"] >= 1

    assert run("pytest_benchmark", "compare").returncode == 0
    drawn = run("pgload", "compare")
    assert drawn.returncode == 0, drawn.stderr
    assert (checkout / "reports" / "throughput_by_method.svg").read_text().startswith("<?xml")


def test_passes(run: Run, checkout: Path, database: Database) -> None:
    """Every pass measures every setting once, in an order that the seed decides."""
    arguments = ("pytest", "benchmarks/test_batch_size.py", f"--cloud={database.target.cloud}",
                 "--batch-size=10,20,30", "--seed=4", *QUICK, "--passes=3")  # fmt: skip
    done = run(*arguments)
    assert done.returncode == 0, done.stdout
    order = re.findall(r"^(\d)/3 copy +(\d+) × 1 .*rows verified", done.stdout, re.M)
    assert [number for number, _ in order] == [*"111222333"]
    assert all({size for number, size in order if number == one} == {"10", "20", "30"}
               for one in "123")  # fmt: skip
    found = saved(checkout)
    assert set(loads(found)) == {f"test_batch_size[copy-{n}-1]" for n in (10, 20, 30)}
    for bench in found["benchmarks"]:
        passes = bench["extra_info"]["passes"]
        assert [one["number"] for one in passes] == [1, 2, 3]
        assert [len(one["seconds"]) for one in passes] == [2, 2, 2]
        assert list(chain(*(one["seconds"] for one in passes))) == bench["stats"]["data"]
        assert bench["stats"]["rounds"] == 6
        assert bench["extra_info"]["records_per_second"] == pytest.approx(
            600 / bench["stats"]["median"]
        )
    facts = found["machine_info"]["run"]
    assert (facts["seed"], facts["passes"]) == (4, 3)


def test_three_clouds(run: Run, checkout: Path, fast_server: Target) -> None:
    """Clouds alternate within a setting in one run; runs of single clouds pair up by their ids."""
    clouds = ("GCP", "AZURE", "AWS")
    arguments = ("pytest", "benchmarks/test_scenarios.py", "--batch-size=100",
                 "--records=1000", "--passes=1", "--warmup-rounds=0")  # fmt: skip
    postgres = Database("postgres", fast_server)
    for cloud in clouds:
        postgres.sql(f"CREATE DATABASE {cloud.lower()}")
        configure(checkout, cloud, fast_server, cloud.lower())
    done = run(*arguments, "--cloud=GCP,azure", "--cloud=AWS")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^(GCP|AZURE|AWS) +values +100 × 1 ", done.stdout, re.M) == list(clouds)
    assert list(loads(saved(checkout))) == [
        f"test_scenarios[{cloud}-values-100-1]" for cloud in clouds
    ]
    assert set(saved(checkout)["machine_info"]["servers"]) == set(clouds)
    compared = run("pgload", "compare")
    assert compared.returncode == 0, compared.stderr
    assert re.search(r"GCP.*AZURE.*AWS", compared.stdout)
    grouped = run("pytest_benchmark", "compare", "--group-by=param:batch_size,param:connections")
    assert "3 tests" in grouped.stdout

    for cloud in clouds[:2]:
        single = run(*arguments, f"--cloud={cloud}")
        assert single.returncode == 0, single.stdout
    between = run("pytest_benchmark", "compare", "--between=median,ops", "0002", "0003")
    assert between.returncode == 0, between.stderr
    assert "test_scenarios[values-100-1]" in between.stdout
    assert "N/A" not in between.stdout
    for cloud in clouds:
        postgres.sql(f"DROP DATABASE {cloud} WITH (FORCE)")


# Everything that is computed at the end of a run fails.
FAULTS = """
from pgload.bench import console, hooks, runner
from pgload.bench.drift import DriftProbe

def fail(*_, **__):
    raise ZeroDivisionError("division by zero")

DriftProbe.report = hooks.client_facts = hooks.write_summary = runner.choose_finalists = fail
"""


def test_faults_at_the_end(run: Run, checkout: Path, database: Database) -> None:
    """What is computed at the end of a run never costs what was measured."""
    with (checkout / "conftest.py").open("a") as conftest:
        conftest.write(FAULTS)
    done = run("pytest", "benchmarks/test_batch_size.py", f"--cloud={database.target.cloud}",
               "--batch-size=10,20,30,60", *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stdout
    reason = "could not be computed: ZeroDivisionError: division by zero"
    assert f"finals: {reason}" in done.stdout
    assert f"the summary {reason}" in done.stdout
    assert "INTERNALERROR" not in done.stdout + done.stderr
    found = saved(checkout)
    assert len(loads(found)) == 4
    assert found["machine_info"]["client"] == {"note": reason}
    assert found["machine_info"]["run"]["drift"] == {"GCP": {"note": reason}}


def files_with(word: str, folder: Path) -> list[Path]:
    """The files below a folder that hold a word."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if word.encode() in path.read_bytes()]


def test_secrets(run: Run, checkout: Path, database: Database) -> None:
    """A password is in `.env` alone, after a load as after a refused connection."""
    arguments = ("pytest", "benchmarks/test_methods.py", "--cloud", "gcp", "--method=copy",
                 "--batch-size=60", *QUICK)  # fmt: skip
    done = run(*arguments)
    assert done.returncode == 0, done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert saved(checkout)["machine_info"]["servers"]["GCP"]["instance_type"] == "db-custom-1-3840"
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None
    with (checkout / ".env").open("a") as file:
        file.write("GCP_DB_NAME=missing\n")
    refused = run(*arguments, "--showlocals", "-vv", "--full-trace", "--setup-show", "--debug")
    assert refused.returncode == 2
    assert "GCP: there is no database 'missing': check GCP_DB_NAME" in refused.stdout
    assert SECRET not in refused.stdout + refused.stderr
    assert files_with(SECRET, checkout) == [checkout / ".env"]


@pytest.mark.usefixtures("database")
def test_disabled_benchmarks_are_verified(run: Run, checkout: Path) -> None:
    """--benchmark-disable loads once, checks the rows, and saves nothing."""
    done = run("pytest", "benchmarks", "--cloud=GCP", "-k", "copy", "--batch-size=60",
               "--benchmark-disable", *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert not list(checkout.glob(".benchmarks/*/*"))


@pytest.mark.parametrize(
    ("seen", "finished"),
    [
        ("platform", 0),  # then come the hooks and the collection
        ("data: ", 0),  # then the server starts
        ("PostgreSQL 18", 0),  # then the first load begins
        ("rows verified", 1),
    ],
)
def test_interrupted_run(checkout: Path, seen: str, finished: int) -> None:
    """Ctrl-C at any moment keeps the finished settings, and stops the embedded server."""
    command = [sys.executable, "-u", "-m", "pytest", "benchmarks/test_methods.py",
               "--batch-size=100", "--records=1000", "--rounds=3"]  # fmt: skip
    with subprocess.Popen(
        command, cwd=checkout, env=run_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if seen in line:
                process.send_signal(signal.SIGINT)
                break
        lines += list(process.stdout)
    assert process.returncode == 2, lines
    assert not [line for line in lines if "Traceback" in line or "INTERNALERROR" in line]
    files = list(checkout.glob(".benchmarks/*/*.json"))
    assert len(saved(checkout)["benchmarks"] if finished else files) == finished
