"""The plugin is loaded once, by the conftest or its entry point, and only for benchmarks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import Run, run_environment
from tests.support.environment import ROOT

TEST = "def test_it():\n    pass\n"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of Python packages with the metadata of an installed pgload."""
    folder = tmp_path / "packages"
    metadata = folder / "pgload-0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "pgload").symlink_to(ROOT / "pgload")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pgload\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(
        "[pytest11]\npgload.bench.plugin = pgload.bench.plugin\n"
    )
    (metadata / "RECORD").write_text("pgload/bench/plugin.py,,\npgload/bench/fixtures.py,,\n")
    return folder


def pytest_with(packages: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder with these packages installed."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=run_environment() | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_other_projects_are_left_alone(installed: Path, tmp_path: Path) -> None:
    """Installed, it changes nothing of a project with benchmarks of its own."""
    project = tmp_path / "project"
    (project / "benchmarks").mkdir(parents=True)
    (project / "benchmarks" / "test_it.py").write_text(TEST)
    (project / ".env").write_text("CLOUD_PROVIDER=NOWHERE\n")
    code = "import sys; print(sorted(m for m in sys.modules if m.startswith('psycopg2')))"
    (project / "conftest.py").write_text(f"def pytest_unconfigure(config):\n    {code}\n")
    done = pytest_with(installed, project, "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "pgload:" not in done.stdout
    assert done.stdout.endswith("[]\n")  # no driver
    assert not list(project.glob(".benchmarks/*/*"))
    assert "bench_target" not in pytest_with(installed, project, "--fixtures").stdout
    refused = pytest_with(installed, project, "--cloud=GCP")
    assert refused.returncode == 4
    assert "unrecognized arguments: --cloud=GCP" in refused.stderr


def test_options_of_other_projects(installed: Path, tmp_path: Path) -> None:
    """A project's own options may have the names of ours."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--seed', type=int, default=0)\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_it(request):\n    assert request.config.option.seed == 7\n"
    )
    done = pytest_with(installed, tmp_path, "--seed=7", "test_it.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("conftest", [True, False])
def test_entry_point(installed: Path, checkout: Path, conftest: bool) -> None:
    """The entry point works beside the conftest's `pytest_plugins`, and without a conftest."""
    if not conftest:
        (checkout / "conftest.py").unlink()
    done = pytest_with(installed, checkout, "benchmarks/test_scenarios.py", "--passes=1",
                       "--collect-only")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall("^pgload: EMBEDDED", done.stdout, re.M)) == 1
    assert len(re.findall(r"<Function test_scenarios\[", done.stdout)) == 4
    assert "warning" not in done.stdout + done.stderr


def test_tests_beside_benchmarks(run: Run, checkout: Path) -> None:
    """In the project itself, a run of tests is not a run of benchmarks."""
    (checkout / "tests" / "test_it.py").write_text(TEST)
    done = run("pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pgload:" not in done.stdout
    refused = run("pytest", "--cloud=GCP")
    assert refused.returncode == 4
    assert (
        "--cloud is for benchmarks: did you mean pytest benchmarks --cloud GCP?" in refused.stderr
    )
