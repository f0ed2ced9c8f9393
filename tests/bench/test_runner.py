"""Each setting has verified rows, a failure, or a reason; an interrupted run is resumed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.conftest import Database, on_every_table
from tests.support.checkout import QUICK, Run, configure, run_environment, saved
from tests.support.loading import write_json
from tests.support.servers import embedded

SWEEP = ("benchmarks/test_batch_size.py", "--cloud=GCP", "--batch-size=10,20,30",
         "--records=600", "--rounds=2", "--warmup-rounds=0")  # fmt: skip
LOSE_A_ROW = on_every_table("ROW", "IF NEW.n = '7' THEN RETURN NULL; END IF; RETURN NEW;")
CUT_OTHER_CONNECTIONS = on_every_table(
    "ROW",
    "PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name = 'pgload' AND pid <> pg_backend_pid(); RETURN NEW;",
)


def measured(output: str) -> list[str]:
    """The settings that were measured, in their order."""
    return re.findall(r"^(?:\d/\d )?copy +(\d+ × \d) .*rows verified", output, re.M)


def test_too_few_records_in_a_run(run: Run, checkout: Path, database: Database) -> None:
    """What cannot be measured is skipped with the reason; a run of nothing else saves nothing."""
    done = run("pytest", "benchmarks/test_connections.py", f"--cloud={database.target.cloud}",
               "--connections=3", *QUICK)  # fmt: skip
    assert done.returncode == 0
    assert re.search(r"copy +1000 × 3 +not measured: no file fills a batch of", done.stdout)
    assert "1 skipped" in done.stdout
    assert not list(checkout.glob(".benchmarks/*/*.json"))


def test_too_many_connections(run: Run, checkout: Path) -> None:
    """A sweep skips connections that the server does not allow; those asked for are an error."""
    with embedded(max_connections="8", fsync="off") as server:
        configure(checkout, "GCP", server, "postgres")
        arguments = ("pytest", "benchmarks/test_connections.py", "--cloud=GCP", "--batch-size=50",
                     "--records=5000", "--passes=1", "--warmup-rounds=0")  # fmt: skip
        asked = run(*arguments, "--connections=10")
        assert asked.returncode == 1
        assert re.search(r"no connection left .* \(it gave \d of 10 connections\)", asked.stdout)
        swept = run(*arguments)
        assert swept.returncode == 0, swept.stdout
        assert re.search(r"50 × 10 +not measured: .*it gave \d of 10 connections", swept.stdout)
        assert re.search(r"50 × 5 .*rows verified", swept.stdout)


def test_wrong_load_has_no_result(
    run: Run, checkout: Path, database: Database, tmp_path: Path
) -> None:
    """A round after which a row is missing fails its test, and nothing of it is saved."""
    data = tmp_path / "data"
    data.mkdir()
    write_json(data / "numbers.json", [{"n": str(n)} for n in range(100)])
    database.sql(LOSE_A_ROW)
    done = run("pytest", "benchmarks", "--cloud=GCP", "--method=copy", f"--data={data}",
               "--batch-size=10", "--connections=1", "--passes=1")  # fmt: skip
    assert done.returncode == 1
    assert "numbers holds 99 rows with checksum" in done.stdout
    assert "Traceback" not in done.stdout
    assert "cloud" not in str([b["params"] for b in saved(checkout)["benchmarks"]])


# Makes the table unlogged before the second load of a run.
UNLOGGED = """
from pgload.load.loader import Loader
load, loads = Loader.run, []

def run(self, work):
    loads.append(work)
    if len(loads) == 2:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("ALTER TABLE pgload_bench.bid_pblanclistinfo_cnstwk SET UNLOGGED")
    return load(self, work)

Loader.run = run
"""


def test_changed_table_has_no_result(run: Run, checkout: Path, database: Database) -> None:
    """A pass during which a table changed fails with the reason; those before it are saved."""
    with (checkout / "conftest.py").open("a") as conftest:
        conftest.write(UNLOGGED)
    done = run("pytest", *SWEEP, "--rounds=1", "--batch-size=20,30", "--passes=1")
    assert done.returncode == 1
    assert "persistence changed from logged to unlogged: this pass has no result" in done.stdout
    assert len(measured(done.stdout)) == 1
    (bench,) = saved(checkout)["benchmarks"]
    assert bench["extra_info"]["passes"][0]["number"] == 1
    assert "Traceback" not in done.stdout
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None


def test_lost_connection(run: Run, database: Database) -> None:
    """A server that closes the benchmark's connection ends the run with a line."""
    database.sql(CUT_OTHER_CONNECTIONS)  # at the first row of the first load
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP", "--batch-size=60", *QUICK)
    assert done.returncode == 2, done.stdout
    assert re.search(r"^pgload: GCP: ", done.stdout, re.M)
    assert "Traceback" not in done.stdout
    assert "INTERNALERROR" not in done.stdout
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None


@pytest.mark.usefixtures("database")
def test_killed_run_is_resumed(run: Run, checkout: Path) -> None:
    """What was measured before a run was killed is not measured again."""
    command = [sys.executable, "-u", "-m", "pytest", *SWEEP, "--passes=2"]
    with subprocess.Popen(
        command, cwd=checkout, env=run_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        before: list[str] = []
        for line in process.stdout:
            before += measured(line)
            if len(before) == 4:
                process.send_signal(signal.SIGKILL)
    assert not list(checkout.glob(".benchmarks/*/*.json"))
    other = run("pytest", *SWEEP, "--passes=3", "--resume")
    assert other.returncode == 2
    assert "the interrupted run had passes 2, not 3" in other.stdout

    done = run("pytest", *SWEEP, "--passes=2", "--resume")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("measured before") in (4, 5)  # the signal may come after one more
    assert done.stdout.count("rows verified") + done.stdout.count("measured before") == 6
    for bench in saved(checkout)["benchmarks"]:
        assert [len(one["seconds"]) for one in bench["extra_info"]["passes"]] == [2, 2]
        assert bench["extra_info"]["verified"] is True
    assert not list(checkout.glob(".benchmarks/*/interrupted*"))


@pytest.mark.usefixtures("database")
def test_max_time(run: Run, checkout: Path) -> None:
    """When the time is over the rest is listed with the reason, and --resume measures it."""
    done = run("pytest", *SWEEP, "--passes=1", "--max-time=0.001")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("rows verified") == 1
    not_measured = saved(checkout)["machine_info"]["not_measured"]
    assert len(not_measured) == 2
    assert "the 0.001 s of --max-time are over" in not_measured[0]["reason"]
    (path,) = checkout.glob(".benchmarks/*/interrupted_GCP.jsonl")
    header, *entries = map(json.loads, path.read_text().splitlines())
    assert header["records"] == 600
    assert [entry["test"] for entry in entries] == [
        bench["fullname"] for bench in saved(checkout)["benchmarks"]
    ]
    rest = run("pytest", *SWEEP, "--passes=1", "--resume")
    assert rest.returncode == 0, rest.stdout
    assert len(saved(checkout, 2)["benchmarks"]) == 3
