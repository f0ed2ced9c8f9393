"""Data and clouds that cannot be used end the run with a line that says why."""

from __future__ import annotations

import re
from pathlib import Path

from pgload.targets.target import Target
from tests.bench.conftest import Database
from tests.support.checkout import QUICK, Run, configure, saved
from tests.support.loading import write_json


def test_unavailable_cloud(
    run: Run, checkout: Path, database: Database, fast_server: Target
) -> None:
    """A cloud that does not answer ends the run; --keep-going measures the others."""
    configure(checkout, "AWS", fast_server, database.name, DB_HOST="127.0.0.1", DB_PORT="1")
    arguments = ("pytest", "benchmarks/test_methods.py", "--cloud=GCP,AWS", "--method=copy",
                 "--batch-size=60", *QUICK)  # fmt: skip
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "pgload: AWS: nothing listens at 127.0.0.1:1: check AWS_DB_HOST" in ended.stdout
    assert "--keep-going measures the others" in ended.stdout
    assert not list(checkout.glob(".benchmarks/*/*.json"))
    done = run(*arguments, "--keep-going")
    assert done.returncode == 0, done.stdout
    assert re.search(r"AWS +copy +60 × 1 +not measured: AWS: nothing listens", done.stdout)
    found = saved(checkout)
    assert [bench["params"]["cloud"] for bench in found["benchmarks"]] == ["GCP"]
    (missing,) = found["machine_info"]["not_measured"]
    assert (missing["cloud"], missing["method"]) == ("AWS", "copy")
    none = run("pytest", "benchmarks", "--cloud=AWS", "--keep-going", *QUICK)
    assert none.returncode == 2


def test_data(run: Run, checkout: Path, database: Database, tmp_path: Path) -> None:
    """--records takes the first records of --data; a file without a record is named."""
    data = tmp_path / "data"
    data.mkdir()
    write_json(data / "a.json", [])
    write_json(data / "b.json", [{"n": n} for n in range(200)])
    arguments = ("pytest", "benchmarks", f"--cloud={database.target.cloud}", f"--data={data}",
                 "--records=100", "--batch-size=10", "--connections=1", "--passes=1",
                 "--method=copy")  # fmt: skip
    done = run(*arguments)
    assert done.returncode == 0, done.stdout
    assert "left out: a.json holds no record" in done.stdout
    assert {bench["extra_info"]["records"] for bench in saved(checkout)["benchmarks"]} == {100}

    write_json(data / "b.json", [{"xmin": str(n)} for n in range(200)])
    reserved = run(*arguments)
    assert reserved.returncode == 2
    assert "pgload: b.json: " in reserved.stdout
    assert "xmin" in reserved.stdout
    (data / "b.json").write_text("API quota exceeded")
    broken = run(*arguments)
    assert broken.returncode == 2
    assert "b.json: " in broken.stdout
    assert "'API quota exceeded'" in broken.stdout


def test_schema_of_someone_else(run: Run, database: Database) -> None:
    """A schema pgload_bench that no benchmark made ends the run and stays as it is."""
    database.sql("CREATE SCHEMA pgload_bench; CREATE TABLE pgload_bench.mine (a int)")
    done = run("pytest", "benchmarks/test_methods.py", "--cloud=GCP", *QUICK)
    assert done.returncode == 2
    assert "the schema pgload_bench exists and was not made by a benchmark" in done.stdout
    assert database.sql("SELECT count(*) FROM pgload_bench.mine") == 0
