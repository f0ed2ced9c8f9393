"""Imports go down the layers, and the entry points load no driver, server or chart library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What a package may import, beside itself, `contract` and `errors`.
MAY_IMPORT = {
    "errors": set(),
    "contract": set(),
    "source": set(),
    "schema": {"source"},
    "targets": set(),
    "load": {"schema", "source"},
    "cluster": {"load", "schema", "source"},
    "migrate": {"cluster", "load", "schema", "source", "targets"},
    "bench": {"cluster", "load", "schema", "source", "targets", "sample", "report"},
    "sample": set(),
    "report": set(),
    "dashboard": {"report"},
    "cli": {"migrate", "report", "dashboard"},
    "__main__": {"cli"},
}
MODULES = sorted((ROOT / "pgload").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The packages of pgload that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = [each.module or "" for each in nodes if isinstance(each, ast.ImportFrom)]
    names += [alias.name for each in nodes if isinstance(each, ast.Import) for alias in each.names]
    return {name.split(".")[1] for name in names if name.startswith("pgload.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """A package imports only those below it."""
    package = path.relative_to(ROOT / "pgload").with_suffix("").parts[0]
    if package != "__init__":
        allowed = MAY_IMPORT[package] | {package, "contract", "errors"}
        assert imported(path) <= allowed


@pytest.mark.parametrize(
    "entry_point",
    ["import pgload.cli; pgload.cli.main(['--help'])", "import pgload.bench.plugin"],
)
def test_entry_points_are_cheap(entry_point: str) -> None:
    """The help and the plugin load no driver, no server, no charts, no Streamlit and no Dask."""
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {entry_point}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    loaded = set(done.stdout.split())
    assert "pgload.errors" in loaded
    heavy = {"psycopg2", "testcontainers", "docker", "pygal", "streamlit", "distributed"}
    assert not loaded & heavy
