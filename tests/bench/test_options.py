"""Options are checked before anything is started; a wrong one is a usage error."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import pytest

from pgload.bench import options
from pgload.bench.load_size import LoadSize
from pgload.bench.options import Effort, checked_options
from pgload.errors import UsageError
from tests.support.checkout import Run


def checked(root: Path, **given: Any) -> options.BenchOptions:
    """The options of a run in `root` in which only these were given."""
    defaults: dict[str, Any] = dict.fromkeys(
        ("cloud", "records", "data", "batch_size", "connections", "method", "max_time",
         "max_time_per_setting", "rtt", "instance")
    ) | {"rounds": 1, "passes": 5, "warmup_rounds": 1, "seed": 0, "resume": False,
         "keep_going": False, "search": False, "image": "postgres:18"}  # fmt: skip
    config: Any = Namespace(
        option=Namespace(**defaults | given),
        rootpath=root,
        invocation_params=Namespace(dir=root),
    )
    return checked_options(config)


@pytest.fixture(autouse=True)
def no_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `.env` configures clouds."""
    for name in ("ENV", "CLOUD_PROVIDER", "GCP_DB_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_clouds(tmp_path: Path) -> None:
    """Names are separated by commas or repeated, in any case, each measured once."""
    (tmp_path / ".env").write_text("GCP_DATABASE_URL=postgresql://u:p@localhost/a\nENV=gcp\n")
    assert checked(tmp_path).clouds == ("GCP",)
    assert checked(tmp_path, cloud=["gcp, EMBEDDED", "Gcp"]).clouds == ("GCP", "EMBEDDED")


def test_effort(tmp_path: Path) -> None:
    """Rounds have no limit of time unless one is asked for."""
    assert checked(tmp_path, rounds=9).effort == Effort(rounds=9, warmup_rounds=1)
    assert checked(tmp_path, rounds=9, max_time_per_setting=2.0).effort.seconds == 2.0


def test_load_size(tmp_path: Path) -> None:
    """An exact number of records is never repeated, and given data only for time."""
    assert checked(tmp_path).load_size == LoadSize(for_batches=True, for_time=True)
    assert checked(tmp_path, data=tmp_path).load_size == LoadSize(for_batches=False, for_time=True)
    exact = LoadSize(for_batches=False, for_time=False)
    assert checked(tmp_path, records=5).load_size == exact
    assert checked(tmp_path, records=5, data=tmp_path).load_size == exact


def test_instance(tmp_path: Path) -> None:
    """An instance type limits the container's processors and memory."""
    shape = checked(tmp_path, instance="db-custom-1-3840").shape
    assert (shape.cpus, shape.memory_mb) == (1, 3840)
    assert checked(tmp_path, image="postgres:13").shape.cpus is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cloud": ["EMBEDED"]}, "--cloud EMBEDED is not configured: did you mean EMBEDDED?"),
        ({"cloud": ["GCP"]}, "GCP is not configured: set GCP_DB_HOST, GCP_DB_NAME, GCP_DB_USER"),
        ({"cloud": [" ,"]}, "--cloud is empty: omit it, or write --cloud GCP"),
        ({"data": "nowhere"}, "--data nowhere: there is no such folder or file; name one"),
        ({"data": "-"}, "--data -: a benchmark has no standard input"),
        ({"instance": "huge"}, "--instance 'huge': write db-custom-"),
    ],
)
def test_wrong_values(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    """The error has the value and what to do."""
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        checked(tmp_path, **given)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (options._positives, "100,0", "'0' is not a whole number from 1"),
        (options._positives, "1,x", "'x' is not a whole number from 1"),
        (
            options._methods,
            "cpoy",
            r"unknown method 'cpoy': did you mean copy\? choose from values",
        ),
        (options._not_negative, "inf", "'inf' is not a number from 0"),
        (options._above_zero, "0", "0 is not a number above 0"),
    ],
)
def test_texts_that_are_not_values(parse: Any, text: str, message: str) -> None:
    """What is not a number or a method is refused."""
    with pytest.raises(ArgumentTypeError, match=message):
        parse(text)


def test_lists() -> None:
    """Lists keep their order and lose duplicates."""
    assert options._positives("1000,100,1000") == (1000, 100)
    assert options._methods("copy, VALUES") == ("copy", "values")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "2"], "benchmarks measure nothing under -n"),
        (["--method", "cpoy"], "argument --method: unknown method 'cpoy'"),
        (["--rtt=15", "--cloud=GCP"], "--cloud GCP"),
    ],
)
def test_usage_errors(run: Run, arguments: list[str], message: str) -> None:
    """The command ends with pytest's exit code for wrong usage, and without a traceback."""
    done = run("pytest", "benchmarks", *arguments)
    assert done.returncode == 4
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
