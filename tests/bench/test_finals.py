"""The best settings of each cloud are measured once more, in passes of their own."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pgload.bench.finals import Finalist, choose_finalists, run_finals
from pgload.contract import Setting
from pgload.report.saved import load_runs
from tests.bench.conftest import Database
from tests.support.checkout import Run, saved


def measured(*rates: float) -> Any:
    """The passes of a test with these throughputs."""
    rounds = [SimpleNamespace(records=100)]
    return [SimpleNamespace(throughput=rate, repeats=2, rounds=rounds) for rate in rates]


def test_best_settings() -> None:
    """The best three by the mean of all passes; a cloud of few settings has no finals."""
    passes = {f"{n}": measured(n, 10) for n in (4, 9, 3, 8)} | {"few": measured(99)}
    settings = {test: ("GCP", Setting("copy", int(test), 1)) for test in passes if test != "few"}
    settings["few"] = ("AWS", Setting("copy", 1, 1))
    found = choose_finalists(passes, settings)
    assert [each.test for each in found] == ["9", "8", "4"]
    assert {(each.cloud, each.repeats, each.records) for each in found} == {("GCP", 2, 100)}


def test_interleaved() -> None:
    """Each pass loads with every finalist once, the clouds side by side, while there is time."""
    finalists = [
        Finalist(f"{cloud}{n}", cloud, Setting("copy", n, 1), repeats=1, records=100)
        for cloud in ("GCP", "AWS")
        for n in (1, 2)
    ]
    order: list[str] = []

    def load(finalist: Finalist) -> float:
        order.append(finalist.test)
        return 2.0

    run_finals(finalists, 2, load, in_time=lambda: len(order) < 7)
    assert order == ["GCP1", "AWS1", "GCP2", "AWS2", "AWS2", "GCP2", "AWS1"]
    assert finalists[0].passes == [{"number": 1, "seconds": [2.0]}]
    assert finalists[1].report() == {
        "method": "copy",
        "batch_size": 2,
        "connections": 1,
        "records_per_second": 50.0,
        "passes": [{"number": 1, "seconds": [2.0]}, {"number": 2, "seconds": [2.0]}],
    }


def test_finals_of_a_run(run: Run, checkout: Path, database: Database) -> None:
    """The saved run has them by setting and by cloud, and the terminal one line for each."""
    done = run("pytest", "benchmarks/test_batch_size.py", f"--cloud={database.target.cloud}",
               "--batch-size=5,10,20,30", "--records=300", "--passes=2")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"^GCP: copy \d+ × 1, one of the best: ", done.stdout, re.M)) == 3
    found = saved(checkout)
    finals = found["machine_info"]["run"]["finals"]["GCP"]
    of_settings = {
        bench["params"]["batch_size"]: bench["extra_info"]["finals"]
        for bench in found["benchmarks"]
        if "finals" in bench["extra_info"]
    }
    assert {each["batch_size"]: each["passes"] for each in finals} == of_settings
    assert [[one["number"] for one in each] for each in of_settings.values()] == [[1, 2]] * 3
    (run_read,), problems = load_runs(["0001"], checkout / ".benchmarks")
    assert problems == []
    assert sum(len(each.finals) for each in run_read.measurements) == 6
