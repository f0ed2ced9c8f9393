"""The suite as people run it: `pytest benchmarks` in a checkout, in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.targets.target import Target
from tests.support.checkout import QUICK, SECRET, Run, configure, environment, saved
from tests.support.loading import write_json
from tests.support.servers import embedded

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.fixture
def database(server: Target, connection: Connection, checkout: Path) -> Iterator[str]:
    """The name of an empty database, configured as GCP in the checkout's `.env`."""
    name = "bench"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        configure(checkout, "GCP", server, name, INSTANCE_TYPE="db-custom-1-3840")
        yield name
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def files_with(word: str, folder: Path) -> list[Path]:
    """The files below a folder that hold a word."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if word.encode() in path.read_bytes()]


def test_saved_run(run: Run, checkout: Path) -> None:
    """A run saves, unasked, all that its numbers rest on; and pytest-benchmark pairs two runs."""
    first = run("pytest", "benchmarks", "--batch-size", "300", "--connections", "1", *QUICK)
    assert first.returncode == 0, first.stdout
    assert "rows verified" in first.stdout
    assert re.search(r"saved: \.benchmarks/\S+/0001_EMBEDDED\.json", first.stdout)
    assert re.search(r"draw it: \S*python[\d.]* -m pgload compare", first.stdout)

    found = saved(checkout)
    loads = {b["name"]: b for b in found["benchmarks"] if "batch_size" in (b["params"] or {})}
    assert set(loads) == {
        "test_batch_size[values-300-1]",
        "test_methods[executemany-300-1]",
        "test_methods[unnest-300-1]",
        "test_methods[json-300-1]",
        "test_methods[copy-300-1]",
    }
    for load in loads.values():
        assert load["params"].keys() == {"cloud", "method", "batch_size", "connections"}
        assert load["params"]["cloud"] == "EMBEDDED"
        extra = load["extra_info"]
        assert extra["verified"] is True
        assert (extra["records"], extra["retries"]) == (600, 0)
        assert extra["records_per_second"] == pytest.approx(600 / load["stats"]["median"])
        assert len(load["stats"]["data"]) == 2
        assert extra["batch_latency"].keys() == {"p50", "p95", "p99", "max"}
        assert 0 < extra["batch_latency"]["p50"] <= extra["batch_latency"]["max"]
        assert extra["client"]["cpu_seconds"] > 0
        # One connection: neither the encoder nor the worker can be busy for longer than the round.
        assert 0 < extra["encode"] <= load["stats"]["median"]
        assert 0 < extra["write"] + extra["commit"] <= load["stats"]["median"]
        assert extra["wal_bytes_per_record"] > 500
        assert 0 < extra["rtt_ms"] <= extra["rtt_p99_ms"]
        assert sum(extra["bottleneck_shares"].values()) == pytest.approx(1, abs=0.001)
        assert extra["bottleneck"] in extra["bottleneck_shares"]
        assert extra["advice"]
        assert sum(extra["batches"]["records"]) == 600
        assert max(extra["batches"]["start"]) < load["stats"]["median"]
    server = found["machine_info"]["servers"]["EMBEDDED"]
    assert server["version"].startswith("18")
    assert server["settings"]["fsync"] == "on"
    assert found["machine_info"]["client"]["cores"] >= 1

    assert run("pytest_benchmark", "compare").returncode == 0
    again = run("pytest", "benchmarks", "--batch-size", "300", "--connections", "1", *QUICK)
    assert again.returncode == 0, again.stdout
    between = run("pytest_benchmark", "compare", "--between=median,ops", "0001", "0002")
    assert between.returncode == 0, between.stderr
    assert "test_batch_size[values-300-1]" in between.stdout + between.stderr
    assert "N/A" not in between.stdout + between.stderr

    drawn = run("pgload", "compare")
    assert drawn.returncode == 0, drawn.stderr
    assert (checkout / "reports" / "throughput_by_method.svg").read_text().startswith("<?xml")


def test_a_cloud_from_env(run: Run, checkout: Path, database: str, server: Target) -> None:
    """A cloud configured in .env is measured; its password stays there, its schema is gone."""
    done = run("pytest", "benchmarks/test_methods.py", "--cloud", "gcp", "--batch-size=300", *QUICK)
    assert done.returncode == 0, done.stdout
    assert saved(checkout)["machine_info"]["servers"]["GCP"]["instance_type"] == "db-custom-1-3840"
    assert files_with(SECRET, checkout) == [checkout / ".env"]
    assert SECRET not in done.stdout + done.stderr
    target = Target("GCP", {**server.parameters, "dbname": database})
    connection = target.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('pgload_bench')")
        assert cursor.fetchone() == (None,)
    connection.close()


def test_three_clouds(run: Run, checkout: Path) -> None:
    """Clouds alternate inside each setting: one table, one JSON, and a compare with three sides."""
    quick = ("--records=600", "--rounds=2", "--warmup-rounds=0")
    with embedded() as gcp, embedded() as azure, embedded() as aws:
        for cloud, server in (("GCP", gcp), ("AZURE", azure), ("AWS", aws)):
            configure(checkout, cloud, server, "postgres")
        done = run("pytest", "benchmarks/test_scenarios.py", "--cloud=GCP,azure", "--cloud=AWS",
                   "--batch-size=100", *quick)  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert re.findall(r"^(GCP|AZURE|AWS) +values +100 × 1 ", done.stdout, re.M) == [
            "GCP",
            "AZURE",
            "AWS",
        ]
        run_saved = saved(checkout)
        assert [bench["name"] for bench in run_saved["benchmarks"]] == [
            f"test_scenarios[{cloud}-values-100-1]" for cloud in ("GCP", "AZURE", "AWS")
        ]
        assert set(run_saved["machine_info"]["servers"]) == {"GCP", "AZURE", "AWS"}
        compared = run("pgload", "compare")
        assert compared.returncode == 0, compared.stderr
        assert re.search(r"GCP +AZURE +\S+ +AWS|GCP.*AZURE.*AWS", compared.stdout)
        grouped = run("pytest_benchmark", "compare",
                      "--group-by=param:batch_size,param:connections")  # fmt: skip
        assert "3 tests" in grouped.stdout

        # Three runs of one cloud each pair up test by test, because their ids hide the cloud.
        for cloud in ("GCP", "AZURE", "AWS"):
            single = run("pytest", "benchmarks/test_scenarios.py", f"--cloud={cloud}",
                         "--batch-size=100", *quick)  # fmt: skip
            assert single.returncode == 0, single.stdout
        between = run("pytest_benchmark", "compare", "--between=median,ops", "0002", "0003", "0004")
        assert between.returncode == 0, between.stderr
        assert "test_scenarios[values-100-1]" in between.stdout
        assert "N/A" not in between.stdout


def test_a_cloud_that_is_down(run: Run, checkout: Path, database: str, server: Target) -> None:
    """A cloud that is down ends the run; under --keep-going it is not measured, and the rest is."""
    configure(checkout, "AWS", server, database, DB_HOST="127.0.0.1", DB_PORT="1")
    arguments = ("pytest", "benchmarks/test_methods.py", "--cloud=GCP,AWS", "--method=copy",
                 "--batch-size=300", *QUICK)  # fmt: skip
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "pgload: AWS: nothing listens at 127.0.0.1:1: check AWS_DB_HOST" in ended.stdout
    assert not (checkout / ".benchmarks").exists() or not list(checkout.glob(".benchmarks/*/*"))
    done = run(*arguments, "--keep-going")
    assert done.returncode == 0, done.stdout
    assert re.search(r"AWS +copy +300 × 1 +not measured: AWS: nothing listens", done.stdout)
    assert [bench["params"]["cloud"] for bench in saved(checkout)["benchmarks"]] == ["GCP"]
    down = run("pytest", "benchmarks", "--cloud=AWS", "--keep-going", *QUICK)
    assert down.returncode == 2
    (left_out,) = saved(checkout)["machine_info"]["not_measured"]
    assert (left_out["cloud"], left_out["method"]) == ("AWS", "copy")


@pytest.mark.usefixtures("database")
def test_no_secret_in_a_failure(run: Run, checkout: Path) -> None:
    """A refused connection shows the password nowhere, not even in a traceback with locals."""
    with (checkout / ".env").open("a") as file:
        file.write("GCP_DB_NAME=missing\n")
    for more in ((), ("--showlocals", "-vv", "--full-trace"), ("--setup-show", "--debug")):
        done = run("pytest", "benchmarks", "--cloud=GCP", *QUICK, *more)
        assert done.returncode == 2
        assert "GCP: there is no database 'missing': check GCP_DB_NAME" in done.stdout
        assert SECRET not in done.stdout + done.stderr
    assert files_with(SECRET, checkout) == [checkout / ".env"]


def test_too_many_connections(run: Run, checkout: Path) -> None:
    """Settings that need more connections than the server gives are not measured, and say so."""
    with embedded(max_connections="8") as server:
        configure(checkout, "GCP", server, "postgres")
        quick = ("--records=1000", "--rounds=1", "--warmup-rounds=0")
        asked = run("pytest", "benchmarks/test_connections.py", "--cloud=GCP", "--batch-size=50",
                    "--connections=10", *quick)  # fmt: skip
        assert asked.returncode == 1
        assert re.search(r"no connection left .* \(it gave \d of 10 connections\)", asked.stdout)
        swept = run("pytest", "benchmarks/test_connections.py", "--cloud=GCP", "--batch-size=50",
                    *quick)  # fmt: skip
        assert swept.returncode == 0, swept.stdout
        assert re.search(r"50 × 10 +not measured: .*it gave \d of 10 connections", swept.stdout)
        assert re.search(r"50 × 5 .*rows verified", swept.stdout)


def test_rehearsed_distance(run: Run, checkout: Path) -> None:
    """--rtt moves the embedded server away; the measured round trip stands beside the asked one."""
    done = run("pytest", "benchmarks/test_methods.py", "--rtt=15", "--method=copy",
               "--batch-size=300", *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stdout
    extra = saved(checkout)["benchmarks"][0]["extra_info"]
    assert extra["rtt_asked_ms"] == 15
    assert 15 <= extra["rtt_ms"] < 25
    refused = run("pytest", "benchmarks", "--rtt=15", "--cloud=GCP")
    assert refused.returncode == 4


# As soon as a table is made in this database, it gets a trigger that swallows one row.
LOSES_A_ROW = """
CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.n = '7' THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE FUNCTION public.sabotage() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE made record;
    BEGIN
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table' LOOP
            EXECUTE format('CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW '
                           'EXECUTE FUNCTION public.swallow()', made.object_identity);
        END LOOP;
    END $$;
CREATE EVENT TRIGGER sabotage ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION public.sabotage();
"""


def test_wrong_load_has_no_result(
    run: Run, checkout: Path, database: str, server: Target, tmp_path: Path
) -> None:
    """A round after which a row is missing fails its test, and nothing of it is saved."""
    data = tmp_path / "data"
    data.mkdir()
    write_json(data / "numbers.json", [{"n": str(n)} for n in range(100)])
    connection = Target("GCP", {**server.parameters, "dbname": database}).connect()
    with connection.cursor() as cursor:
        cursor.execute(LOSES_A_ROW)
    connection.close()
    done = run("pytest", "benchmarks", "--cloud=GCP", f"--data={data}", "--batch-size=50",
               "--connections=1", "--rounds=1")  # fmt: skip
    assert done.returncode == 1
    assert "numbers holds 99 rows with checksum" in done.stdout
    assert "Traceback" not in done.stdout
    assert "cloud" not in str([b["params"] for b in saved(checkout)["benchmarks"]])


def test_lost_connection(run: Run, database: str, server: Target) -> None:
    """A server that cuts every connection ends the run with a line, and the schema goes later."""
    target = Target("GCP", {**server.parameters, "dbname": database})
    connection = target.connect()
    with connection.cursor() as cursor:
        # The benchmark's own connection dies at the first load.
        cursor.execute(
            LOSES_A_ROW.replace(
                "IF NEW.n = '7' THEN RETURN NULL; END IF;",
                "PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                "current_database() AND application_name = 'pgload' AND pid <> pg_backend_pid();",
            )
        )
    connection.close()
    done = run("pytest", "benchmarks/test_batch_size.py", "--cloud=GCP", "--batch-size=300", *QUICK)
    assert done.returncode == 2, done.stdout
    assert re.search(r"^pgload: GCP: ", done.stdout, re.M)
    assert "Traceback" not in done.stdout
    assert "INTERNALERROR" not in done.stdout
    connection = target.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('pgload_bench')")
        assert cursor.fetchone() == (None,)
    connection.close()


def test_impossible_column(run: Run, tmp_path: Path) -> None:
    """A field that PostgreSQL reserves ends the run with the server's words, on one line."""
    write_json(tmp_path / "x.json", [{"xmin": "1"}])
    done = run("pytest", "benchmarks", "--data", str(tmp_path))
    assert done.returncode == 2
    assert 'pgload: EMBEDDED: column name "xmin" conflicts with a system column' in done.stdout


def test_disabled_benchmarks_are_verified(run: Run, checkout: Path) -> None:
    """--benchmark-disable loads once, checks the rows, and saves nothing."""
    done = run("pytest", "benchmarks", "-k", "copy", "--benchmark-disable", *QUICK)
    assert done.returncode == 0, done.stdout
    assert not list(checkout.glob(".benchmarks/*/*"))


def test_part_of_the_data(run: Run, checkout: Path, tmp_path: Path) -> None:
    """--records takes the first records of --data; a file without any is left out and named."""
    data = tmp_path / "data"
    data.mkdir()
    write_json(data / "a.json", [])
    write_json(data / "b.json", [{"n": n} for n in range(500)])
    done = run("pytest", "benchmarks", f"--data={data}", "--records=100", "--batch-size=50",
               "--connections=1", "--rounds=1")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "left out: a.json holds no record" in done.stdout
    assert {bench["extra_info"]["records"] for bench in saved(checkout)["benchmarks"]} == {100}


def test_foreign_schema_is_left_alone(run: Run, database: str, server: Target) -> None:
    """A schema pgload_bench that no benchmark made ends the run and stays as it is."""
    other = Target("GCP", {**server.parameters, "dbname": database}).connect()
    with other.cursor() as cursor:
        cursor.execute("CREATE SCHEMA pgload_bench; CREATE TABLE pgload_bench.mine (a int)")
        done = run("pytest", "benchmarks/test_methods.py", "--cloud=GCP", *QUICK)
        assert done.returncode == 2
        assert "a schema pgload_bench is there that no benchmark made" in done.stdout
        cursor.execute("SELECT count(*) FROM pgload_bench.mine")
    other.close()


@pytest.mark.parametrize(
    ("seen", "finished"),
    [
        ("platform", 0),  # hooks, collecting
        ("data: ", 0),  # the server starts
        ("PostgreSQL 18", 0),  # the first load
        ("rows verified", 1),
    ],
)
def test_interrupted_run(checkout: Path, seen: str, finished: int) -> None:
    """Ctrl-C at any moment keeps the settings that were finished, and takes the server along."""
    command = [sys.executable, "-u", "-m", "pytest", "benchmarks/test_methods.py", "--records=2000"]
    with subprocess.Popen(
        command, cwd=checkout, env=environment(), stdout=subprocess.PIPE, text=True
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
    kept = (
        saved(checkout)["benchmarks"] if finished else list(checkout.glob(".benchmarks/*/*.json"))
    )
    assert len(kept) == finished


def test_missing_configuration(run: Run) -> None:
    """A cloud that is not configured is a usage error that names the variables to set."""
    done = run("pytest", "benchmarks", "--cloud", "GCP")
    assert done.returncode == 4
    assert (
        "--cloud GCP is not configured: set GCP_DB_HOST, GCP_DB_NAME, GCP_DB_USER, GCP_DB_PASSWORD"
        in done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-n", "2"], "benchmarks measure nothing under -n"),
        (["--method", "cpoy"], "unknown method 'cpoy': did you mean copy? choose from executemany"),
        (["--cloud", "EMBEDED"], "--cloud EMBEDED is not configured: did you mean EMBEDDED?"),
        (["--batch-size", "0"], "'0' is not a whole number from 1"),
        (["--data", "nowhere"], "--data nowhere: there is no such folder"),
    ],
)
def test_wrong_options(run: Run, arguments: list[str], says: str) -> None:
    """A wrong option is a usage error that says what is wrong."""
    done = run("pytest", "benchmarks", *arguments)
    assert done.returncode == 4
    assert says in done.stderr


def test_data_that_is_none(run: Run, tmp_path: Path) -> None:
    """A file that holds no data ends the run with its name and the reason."""
    (tmp_path / "reply.json").write_text("API quota exceeded")
    done = run("pytest", "benchmarks", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "reply.json: is not JSON but begins with 'API quota exceeded'" in done.stdout


def test_too_few_records(run: Run, checkout: Path) -> None:
    """A setting that cannot occupy its connections is skipped with the records it would need."""
    done = run("pytest", "benchmarks/test_connections.py", "--connections", "3", *QUICK)
    assert done.returncode == 0
    assert "no file fills a batch of 1000; needs 1,000 records in one file" in done.stdout
    assert "1 skipped" in done.stdout
    assert not list(checkout.glob(".benchmarks/*/*"))
    few = run("pytest", "benchmarks/test_connections.py", "--batch-size=300", *QUICK)
    assert re.search(r"300 × 5 +not measured: too few batches \(2\) for 5 connections; "
                     r"needs 1,201 records in one file", few.stdout)  # fmt: skip


def collected(run: Run, *arguments: str) -> list[str]:
    done = run("pytest", "--collect-only", "-q", "--no-header", *arguments)
    return re.findall(r"benchmarks/\w+\.py::(\S+)", done.stdout)


def test_default_settings(run: Run) -> None:
    """Without options each test measures its own sweep; long ones run only when named."""
    names = collected(run, "benchmarks")
    assert {name for name in names if "batch_size" in name} == {
        f"test_batch_size[values-{n}-1]" for n in (100, 500, 1000, 2000, 5000)
    }
    assert {name for name in names if "connections" in name} == {
        f"test_connections[values-1000-{n}]" for n in (1, 2, 5, 10)
    }
    assert {name for name in names if "scenarios" in name} == {
        f"test_scenarios[values-{n}]" for n in ("1000-1", "100-1", "1000-10", "500-5")
    }
    assert not [name for name in names if "grid" in name or "peers" in name]
    assert len(collected(run, "benchmarks/test_grid.py")) == 20


def test_asked_for_settings(run: Run) -> None:
    """Options replace the tests' own sweeps, in every combination, each measured once."""
    names = collected(
        run, "benchmarks", "--batch-size=100,200", "--connections=1,4", "--method=copy"
    )
    assert sorted(name for name in names if "copy-" in name) == [
        f"test_batch_size[copy-{batch_size}-{connections}]"
        for batch_size in (100, 200)
        for connections in (1, 4)
    ]
