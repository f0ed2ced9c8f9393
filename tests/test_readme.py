"""The commands of the READMEs work as they are printed, and the pages name what there is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgload.cli import parser
from tests.support.checkout import Run, configure
from tests.support.environment import ROOT, environment
from tests.support.servers import embedded

ENGLISH, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
# One setting of a small load, where a command asks for nothing else.
SMALL = "--records=600 --passes=1 --warmup-rounds=0 --method=copy --batch-size=60 --connections=1"


def blocks(path: Path) -> list[str]:
    """The commands of the ```sh blocks, one by one."""
    found = re.findall(r"^```sh\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    return [line for block in found for line in block.splitlines()]


def mentioned(path: Path) -> set[str]:
    """The commands in running text."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    starts = ("pytest ", "pytest-benchmark ", "python -m pgload ")
    return {span for span in spans if span.startswith(starts) and "…" not in span}


@pytest.fixture
def clouds(checkout: Path) -> Iterator[None]:
    """GCP, AZURE and AWS in the checkout's `.env`, each a server of its own; and the data."""
    shutil.copytree(ROOT / "data", checkout / "data", ignore=shutil.ignore_patterns(".sample"))
    with ExitStack() as stack:
        for cloud in ("GCP", "AZURE", "AWS"):
            configure(checkout, cloud, stack.enter_context(embedded()), "postgres")
        yield


@pytest.mark.timeout(600)  # three servers, and every command of the page
@pytest.mark.usefixtures("clouds")
def test_commands(checkout: Path) -> None:
    """Every command of a block runs, in the order of the page, in one checkout."""
    first, tests, *others = blocks(ENGLISH)
    assert first.endswith(".venv/bin/pytest benchmarks")  # these two install; CI runs them
    assert tests.endswith(".venv/bin/pytest tests -n auto")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = environment() | {"PATH": path, "PYTEST_ADDOPTS": SMALL}
    for command in ("pytest benchmarks", *others):
        if "dashboard" in command:  # serves until it is stopped; it has tests of its own
            parser().parse_args(shlex.split(command)[3:])
            continue
        done = subprocess.run(
            shlex.split(command),
            cwd=checkout,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_commands_in_running_text(run: Run) -> None:
    """Every command in a sentence names files and options that there are."""
    known = run("pytest", "benchmarks", "--help").stdout
    found = mentioned(ENGLISH)
    assert len(found) > 5
    for command in found:
        words = shlex.split(command)
        if words[0] == "python":
            parser().parse_args(words[3:])
            continue
        for word in words[1:]:
            if word.startswith("--"):
                assert re.search(rf"^ +{word.partition('=')[0]}\b", known, re.M), command
            elif word.startswith("benchmarks"):
                assert (ROOT / word).exists(), command


def test_korean() -> None:
    """The Korean page has the same commands, in the same order."""
    assert blocks(KOREAN) == blocks(ENGLISH)
    assert mentioned(KOREAN) <= mentioned(ENGLISH)


def test_pytest_benchmark_without_the_test_packages() -> None:
    """`pytest-benchmark compare` works where only requirements.txt is installed."""
    missing = "hypothesis", "psutil", "playwright", "streamlit", "xdist", "fsspec"
    script = f"import sys; sys.modules.update(dict.fromkeys({missing})); import tests.conftest"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_links() -> None:
    """Every file that a page of the project points at is there."""
    for page in (ENGLISH, KOREAN, ROOT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (ROOT / link).exists(), f"{page.name}: {link}"


def test_map() -> None:
    """CONTRIBUTING names every package, every module beside them, and no path that is missing."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`((?:pgload|tests|benchmarks)/[\w./]*)", text))
    assert [path for path in named if not (ROOT / path).exists()] == []
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("pgload/*/__init__.py")}
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("pgload/*.py")}
    assert packages | modules - {"pgload/__init__.py"} <= named
