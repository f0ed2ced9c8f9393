"""`--search`: a race, then passes of the best settings until it is decided."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from pgload.bench.race import race
from pgload.bench.search import CloudRace
from pgload.contract import Setting
from tests.support.checkout import Run, run_environment, saved
from tests.support.waiting import wait_until

SEARCH = ("benchmarks", "--search", "--cloud=GCP", "--method=copy,executemany",
          "--batch-size=10,20,30", "--connections=1,2", "--records=600")  # fmt: skip


@pytest.mark.usefixtures("database")
def test_search(run: Run, checkout: Path) -> None:
    """It names a setting, measures only the finalists, and saves how the others dropped out."""
    done = run("pytest", *SEARCH, "--passes=6")
    assert done.returncode == 0, done.stdout
    output = saved(checkout)
    search = output["machine_info"]["run"]["search"]["GCP"]
    measured = {
        tuple(bench["params"][name] for name in ("method", "batch_size", "connections"))
        for bench in output["benchmarks"]
    }
    finalists = {tuple(each.values()) for each in search["finalists"]}
    assert measured == finalists
    assert len(finalists) == 4
    assert search["settings"] == 12 == len(search["dropped"]) + len(finalists)
    best = search["best"]
    assert tuple(best.values()) in finalists
    answer = done.stdout[done.stdout.index("which setting to take") :]
    assert f"GCP: take {best['method']}, batch size {best['batch_size']}, " in answer
    (rate,) = (
        bench["extra_info"]["records_per_second"]
        for bench in output["benchmarks"]
        if bench["params"] | best == bench["params"]
    )
    assert f": {rate:,.0f} records/s\n" in answer
    assert f"--method {best['method']} --batch-size {best['batch_size']} --connections" in answer
    assert ("too noisy to decide" in answer) != search["decided"]


def test_reasons() -> None:
    """A setting that cannot be loaded leaves the race with its reason, and the others race on."""
    settings = [Setting("copy", size, n) for size in (10, 20, 30) for n in (1, 2)]
    cloud = CloudRace("GCP", settings, race(settings, Random(1)))
    cloud.start()
    while cloud.next is not None:
        cloud.send("too few records" if cloud.next.connections == 2 else 1000.0)
    report = cloud.report()
    assert {each["reason"] for each in report["failed"]} == {"too few records"}
    assert {each["connections"] for each in report["failed"]} == {2}
    assert {each["connections"] for each in report["finalists"]} == {1}


@pytest.mark.usefixtures("database")
def test_all_fail(run: Run, checkout: Path) -> None:
    """Where no setting can be loaded, each has its reason, and nothing is saved."""
    done = run("pytest", *SEARCH, "--connections=200,201")
    assert done.returncode == 1, done.stdout
    assert "no setting could be loaded: too few batches" in done.stdout
    assert "Traceback" not in done.stdout
    assert not [*checkout.glob(".benchmarks/*/*.json")]


@pytest.mark.usefixtures("database")
def test_resume(checkout: Path) -> None:
    """An interrupted race is resumed with the loads that it has done."""
    command = [sys.executable, "-m", "pytest", *SEARCH, "--passes=5"]

    def raced() -> int:
        return sum(path.read_text().count('"race"') for path in checkout.glob(".benchmarks/*/int*"))

    with subprocess.Popen(
        command, cwd=checkout, env=run_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: raced() >= 3 or process.poll() is not None, 60)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    before = raced()
    assert before >= 3, output
    done = subprocess.run(
        [*command, "--resume"],
        cwd=checkout,
        env=run_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"GCP: raced 12 settings in (\d+) loads", done.stdout)
    assert found
    assert int(found[1]) >= before


@pytest.mark.parametrize("arguments", [("benchmarks/test_search.py",),
                                       ("benchmarks/test_methods.py", "--search")])  # fmt: skip
def test_half_a_search(run: Run, arguments: tuple[str, ...]) -> None:
    """Finals without a race, and a race without finals, are usage errors."""
    done = run("pytest", *arguments, "--records=600")
    assert done.returncode == 4
    assert "run pytest benchmarks --search" in done.stderr + done.stdout
