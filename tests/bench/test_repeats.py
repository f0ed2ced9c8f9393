"""Repeats that can be trusted: passes in shuffled order, drift, instability, resumed runs."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pgload.bench.drift import drift
from pgload.bench.measure import unstable
from pgload.bench.runner import Journal
from pgload.errors import UsageError
from tests.support.checkout import Run, environment, saved

SWEEP = ("benchmarks/test_batch_size.py", "--batch-size=100,200,300", "--records=600",
         "--rounds=2", "--warmup-rounds=0")  # fmt: skip


def measured(output: str) -> list[str]:
    """The settings in the order in which a run told of them."""
    return re.findall(r"^(?:\d/\d )?values +(\d+ × \d) .*rows verified", output, re.M)


def loads(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {bench["name"]: bench for bench in run["benchmarks"]}


def test_passes(run: Run, checkout: Path) -> None:
    """Every pass measures every setting, in an order that the seed decides; the JSON keeps all."""
    done = run("pytest", *SWEEP, "--passes=3", "--seed=4")
    assert done.returncode == 0, done.stdout
    order = measured(done.stdout)
    passes = [order[n : n + 3] for n in (0, 3, 6)]
    assert len(order) == 9
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert len({tuple(one) for one in passes}) > 1

    found = saved(checkout)
    assert set(loads(found)) == {f"test_batch_size[values-{n}-1]" for n in (100, 200, 300)}
    for bench in found["benchmarks"]:
        assert bench["params"].keys() == {"cloud", "method", "batch_size", "connections"}
        assert [len(one) for one in bench["extra_info"]["passes"]] == [2, 2, 2]
        assert list(chain(*bench["extra_info"]["passes"])) == bench["stats"]["data"]
        assert bench["stats"]["rounds"] == 6
        median = bench["stats"]["median"]
        assert bench["extra_info"]["records_per_second"] == pytest.approx(600 / median)
    facts = found["machine_info"]["run"]
    assert (facts["seed"], facts["passes"]) == (4, 3)
    probe = facts["drift"]["EMBEDDED"]
    assert {"start", "middle", "end"} <= probe.keys()
    assert [len(seconds) for seconds in probe["rounds"].values()] == [3, 3, 3]

    again = run("pytest", *SWEEP, "--passes=3", "--seed=4")
    assert measured(again.stdout) == order
    between = run("pytest_benchmark", "compare", "--between=median,ops", "0001", "0002")
    assert "test_batch_size[values-100-1]" in between.stdout
    assert "N/A" not in between.stdout


def test_a_killed_run_is_resumed(run: Run, checkout: Path) -> None:
    """What a run had measured when it was killed is kept, and only the rest is measured."""
    command = [sys.executable, "-u", "-m", "pytest", *SWEEP, "--passes=2"]
    with subprocess.Popen(
        command, cwd=checkout, env=environment(), stdout=subprocess.PIPE, text=True
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
    assert done.stdout.count("measured before") in (4, 5)  # one more may have been kept
    assert done.stdout.count("rows verified") + done.stdout.count("measured before") == 6
    for bench in saved(checkout)["benchmarks"]:
        assert [len(one) for one in bench["extra_info"]["passes"]] == [2, 2]
        assert bench["extra_info"]["verified"] is True
    assert not list(checkout.glob(".benchmarks/*/interrupted*"))
    nothing = run("pytest", *SWEEP, "--resume")
    assert nothing.returncode == 2
    assert "--resume: there is no interrupted run of EMBEDDED here" in nothing.stdout


def test_max_time(run: Run, checkout: Path) -> None:
    """When the time is over the rest is not measured, is listed with the reason, and can follow."""
    done = run("pytest", *SWEEP, "--max-time=0.001")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("rows verified") == 1
    left_out = saved(checkout)["machine_info"]["not_measured"]
    assert len(left_out) == 2
    assert "the 0.001 s of --max-time are over" in left_out[0]["reason"]
    rest = run("pytest", *SWEEP, "--resume")
    assert rest.returncode == 0, rest.stdout
    assert len(saved(checkout, 2)["benchmarks"]) == 3


def test_max_time_per_setting(run: Run, checkout: Path) -> None:
    """A setting that takes long gets fewer rounds, and never fewer than two."""
    arguments = ("pytest", "benchmarks/test_batch_size.py", "--batch-size=300", "--records=600")
    done = run(*arguments, "--rounds=50", "--max-time-per-setting=0.001")
    assert done.returncode == 0, done.stdout
    (bench,) = saved(checkout)["benchmarks"]
    assert bench["stats"]["rounds"] == 2


def test_the_anchor_survives_settings_without_a_result(run: Run, checkout: Path) -> None:
    """Settings that cannot be measured, wherever they come, leave start, middle and end."""
    done = run("pytest", "benchmarks/test_batch_size.py", "--batch-size=100,200,300,900,950,999",
               "--records=600", "--rounds=1", "--warmup-rounds=0")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("not measured") == 3
    probe = saved(checkout)["machine_info"]["run"]["drift"]["EMBEDDED"]
    assert {"start", "middle", "end"} <= probe.keys()


def test_a_journal_that_was_cut_off(tmp_path: Path) -> None:
    """A journal without a whole first line is none, and its last line may be missing its end."""
    path = tmp_path / "interrupted_GCP.jsonl"
    for text in ("", '{"records": 6'):
        path.write_text(text)
        with pytest.raises(UsageError, match="there is no interrupted run of GCP here"):
            Journal(path, {"records": 600}, resume=True)


def test_unstable() -> None:
    """Rounds that spread, one that is far off, and a single one are said to tell little."""
    assert unstable([1.0, 1.02, 0.98, 1.01]) is None
    assert unstable([1.0, 1.3, 0.8, 1.1]) == "the rounds' standard deviation is 20% of their mean"
    assert unstable([1.0] * 20 + [1.7]) == "one round is 65% away from the mean"
    assert unstable([1.0]) == "a single round says nothing about its spread"


def test_drift() -> None:
    """A server that becomes slower or faster beyond its noise is noticed; a noisy one is not."""
    assert drift([[1.0, 1.01, 0.99], [1.0, 1.01, 1.0], [1.01, 1.0, 0.99]]) is None
    assert drift([[1.0, 1.01, 0.99]]) is None
    slower = drift([[1.0, 1.01, 0.99], [1.1, 1.11, 1.12], [1.3, 1.31, 1.29]])
    assert slower is not None
    assert slower.startswith("the same setting became 30% slower within this run")
    faster = drift([[1.2, 1.21, 1.19], [1.0, 1.01, 1.0]])
    assert faster is not None
    assert "20% faster" in faster
    noise = random.Random(7)
    called = sum(
        drift([[noise.lognormvariate(0, 0.05) for _ in range(3)] for _ in range(3)]) is not None
        for _ in range(400)
    )
    assert called < 400 * 0.05


def test_the_journal_is_readable_as_json(run: Run, checkout: Path) -> None:
    """An interrupted run's journal is JSON Lines, one for each pass of a setting."""
    run("pytest", *SWEEP, "--max-time=0.001")
    (path,) = checkout.glob(".benchmarks/*/interrupted_EMBEDDED.jsonl")
    header, *entries = map(json.loads, path.read_text().splitlines())
    assert header["records"] == 600
    assert [entry["test"] for entry in entries] == [
        bench["fullname"] for bench in saved(checkout)["benchmarks"]
    ]
