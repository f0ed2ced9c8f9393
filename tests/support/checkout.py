"""Runs of the suite in a checkout and a process of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgload.targets.target import Target
from tests.support.environment import ROOT, SECRET, environment

QUICK = ("--records", "600", "--passes", "1", "--rounds", "2", "--warmup-rounds", "0")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def make_checkout(folder: Path) -> Path:
    """A checkout without saved runs; `pgload` is a link, so that compiled modules are shared."""
    (folder / "tests").mkdir(parents=True)  # where pytest.ini looks for tests
    (folder / "pgload").symlink_to(ROOT / "pgload")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=ignored)
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, folder)
    return folder


def run_environment() -> dict[str, str]:
    """The environment of a run; without Hypothesis, whose import takes longer than pytest's."""
    return environment() | {"PYTEST_ADDOPTS": "-p no:hypothesispytest -p no:anyio"}


def run_module(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module's command line in the checkout."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=checkout, env=run_environment(), capture_output=True, text=True, check=False
    )


def configure(checkout: Path, cloud: str, server: Target, database: str, **more: str) -> None:
    """Add a cloud to the checkout's `.env`."""
    values = {
        "DB_HOST": server.parameters["host"],
        "DB_NAME": database,
        "DB_USER": "postgres",
        "DB_PASSWORD": SECRET,
        "DB_SSLMODE": "disable",
        **more,
    }
    with (checkout / ".env").open("a") as file:
        file.writelines(f"{cloud}_{name}={value}\n" for name, value in values.items())


def saved(checkout: Path, number: int = 1) -> dict[str, Any]:
    """The run that was saved under that number."""
    (path,) = (checkout / ".benchmarks").glob(f"*/{number:04}_*.json")
    return json.loads(path.read_text())
