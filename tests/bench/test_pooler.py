"""Through a PgBouncer in transaction mode: verified rows, one benchmark at a time, nothing left.

    PGLOAD_RUNS=10 pytest tests/bench/test_pooler.py -k in_a_row

runs that test with that many pairs of benchmarks instead of a few.
"""

from __future__ import annotations

import operator
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.schema import SCHEMA
from pgload.bench.target import prepare
from pgload.contract import METHODS
from pgload.errors import TargetError
from pgload.load import heartbeat
from pgload.load.loader import Loader
from pgload.load.observe import Observer
from pgload.targets.target import Target
from tests.bench.conftest import Database
from tests.support.checkout import QUICK, Run, configure, run_environment, saved
from tests.support.loading import write_json
from tests.support.pooler import left_behind, pooled
from tests.support.waiting import wait_until

RUNS = int(os.environ.get("PGLOAD_RUNS", "2"))
SUITE = ("pytest", "benchmarks/test_methods.py", "--method", ",".join(METHODS), "--batch-size=20",
         "--connections=2", *QUICK)  # fmt: skip


@pytest.fixture(scope="module")
def pooler(fast_server: Target) -> Iterator[Target]:
    """The server, as a PgBouncer gives it."""
    with pooled(fast_server) as found:
        yield found


@pytest.fixture
def through(database: Database, pooler: Target, checkout: Path) -> Iterator[Target]:
    """The database through the pooler, configured as GCP_POOLED; nothing may be left behind."""
    configure(checkout, "GCP_POOLED", pooler, database.name, DB_PORT=str(pooler.parameters["port"]))
    yield replace(
        pooler, cloud="GCP_POOLED", parameters={**pooler.parameters, "dbname": database.name}
    )
    assert left_behind(pooler, database.name) == []


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A hundred records."""
    write_json(tmp_path / "numbers.json", [{"n": str(n)} for n in range(100)])
    return Dataset.read(tmp_path, schema=SCHEMA)


def test_direct_and_pooled(run: Run, checkout: Path, database: Database, through: Target) -> None:
    """One run measures a database directly and through its pooler; what cannot be observed there
    is said, and every load is verified."""
    done = run(*SUITE, "--cloud=GCP,GCP_POOLED")
    assert done.returncode == 0, done.stdout
    assert "GCP_POOLED: PostgreSQL 18.4, through a connection pooler: what" in done.stdout
    servers = saved(checkout)["machine_info"]["servers"]
    assert [servers[cloud]["pooled"] for cloud in ("GCP", through.cloud)] == [False, True]
    loads = saved(checkout)["benchmarks"]
    assert len(loads) == 2 * len(METHODS)
    for load in loads:
        info, is_pooled = load["extra_info"], load["params"]["cloud"] == through.cloud
        assert info["verified"]
        assert "incomplete" not in info
        assert not (is_pooled and info["wait_events"])
        assert not is_pooled or info["bottleneck_shares"]["server_cpu"] == 0
        assert info["counters"]["wal_bytes"] > 0
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is None


def test_one_at_a_time(
    database: Database, through: Target, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a benchmark runs, others in the same database are refused, whichever of them go through
    the pooler; at its end the schema is dropped."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    direct = database.target
    for one, other in ((through, direct), (direct, through), (through, through)):
        with prepare(one, dataset):
            with (
                pytest.raises(TargetError, match="another benchmark is running in this database"),
                prepare(other, dataset, run="another"),
            ):
                pass
            assert database.sql("SELECT to_regnamespace('pgload_bench')") is not None
        assert database.sql("SELECT to_regnamespace('pgload_bench')") is None


def test_schema_of_another_run(database: Database, through: Target, dataset: Dataset) -> None:
    """A benchmark that was taken for dead does not drop the schema of the one that followed it."""
    with prepare(through, dataset):
        database.sql("COMMENT ON SCHEMA pgload_bench IS 'of another'")
    assert database.sql("SELECT to_regnamespace('pgload_bench')") is not None


def test_observer(through: Target, dataset: Dataset) -> None:
    """Through a pooler the server's counters are observed, and no backends."""
    with (
        prepare(through, dataset) as prepared,
        Loader(through.connect, "copy") as loader,
        Observer(through.connect, loader.pids, pooled=prepared.pooled) as observer,
    ):
        observer.begin()
        loader.run(dataset.batches(10))
        observed = observer.end()
        assert observed.pooled
        assert observed.counters["wal_bytes"] > 0
        assert not observed.samples
        assert not observed.direct


def test_in_a_row(checkout: Path, database: Database, through: Target) -> None:
    """Benchmarks in a row, two at once and killed ones between them, work and leave nothing behind;
    one that was killed blocks the next one for some seconds only."""
    command = ("pytest", "benchmarks/test_batch_size.py", "--cloud", through.cloud,
               "--batch-size=20", *QUICK)  # fmt: skip

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=checkout,
            env=run_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def is_running(process: subprocess.Popen[str]) -> bool:
        made = database.sql("SELECT to_regclass('pgload_bench.pgload_beat')")
        return made is not None or process.poll() is not None

    for number in range(RUNS):
        if number % 2:
            with start() as killed:
                wait_until(lambda killed=killed: is_running(killed))
                killed.kill()
            output = [start().communicate()[0]]
        else:
            both = [start(), start()]
            output = [each.communicate()[0] for each in both]
        passed = ["1 passed" in each for each in output]
        refused = ["another benchmark is running in this database" in each for each in output]
        assert any(passed), output
        assert all(map(operator.ne, passed, refused)), output
        assert database.sql("SELECT to_regnamespace('pgload_bench')") is None
        assert left_behind(through, database.name) == []
