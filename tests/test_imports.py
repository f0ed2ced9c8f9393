"""Imports go down the layers, and the entry points load no driver, server or chart library."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import ROOT

# What a package may import, beside itself, `contract` and `errors`: packages or single modules.
MAY_IMPORT = {
    "errors": set(),
    "contract": set(),
    "arguments": set(),
    "source": set(),
    "schema": {"source"},
    "targets": set(),
    "load": {"schema", "source"},
    "cluster": {"load", "schema", "source"},
    "migrate": {"arguments", "cluster", "load", "schema", "source", "targets"},
    "bench": {
        *("cluster", "load", "schema", "source", "targets", "sample"),
        *("report.measurement", "report.saved", "report.tables"),  # the table after a run
        "report.student",  # the distribution, for drift and races
    },
    "sample": set(),
    "report": set(),
    "dashboard": {"report"},
    "cli": {"arguments", "migrate", "report", "dashboard"},
    "__main__": {"cli"},
}
# What a package of `migrate` may import of `migrate`, beside itself.
MIGRATE_MAY_IMPORT = {
    "ledger": {"counts"},
    "outputs": {"console", "counts", "ledger", "options"},
    "writing": {
        *("backoff", "console", "counts", "options", "plan", "sqlstates"),
        *("ledger", "outputs"),
    },
    "verification": {
        *("console", "control", "counts", "options", "plan", "sqlstates"),
        *("ledger", "outputs"),
    },
}
MODULES = sorted((ROOT / "pgload").rglob("*.py"))


def imported(source: str) -> set[str]:
    """The modules of pgload that a module imports, anywhere in it, without the name `pgload`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from pgload.report import saved` may name a module as well as a function.
            module = node.module or ""
            inside = [f"{module}.{alias.name}" for alias in node.names]
            names += inside if is_package(module) else [module]
    return {name.removeprefix("pgload.") for name in names if name.startswith("pgload.")}


def is_package(module: str) -> bool:
    return (ROOT.joinpath(*module.split(".")) / "__init__.py").is_file()


def test_imported() -> None:
    """Every form of an import is seen, also inside a function."""
    source = """
import pgload.load.loader
from pgload import schema, targets
from pgload.report import saved
def f():
    from pgload.source.reader import read_batches
"""
    assert imported(source) == {
        "load.loader",
        "schema",
        "targets",
        "report.saved",
        "source.reader",
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """A package imports only those below it."""
    package = path.relative_to(ROOT / "pgload").with_suffix("").parts[0]
    if package != "__init__":
        allowed = MAY_IMPORT[package] | {package, "contract", "errors", "__version__"}
        for name in imported(path.read_text("utf-8")):
            assert name in allowed or name.split(".")[0] in allowed, name


@pytest.mark.parametrize("package", MIGRATE_MAY_IMPORT)
def test_imports_within_migrate(package: str) -> None:
    """The packages of `migrate` import only those below them."""
    allowed = MIGRATE_MAY_IMPORT[package] | {package}
    for path in (ROOT / "pgload/migrate" / package).glob("*.py"):
        for name in imported(path.read_text("utf-8")):
            within = name.split(".")
            assert within[0] != "migrate" or within[1] in allowed, (path, name)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names(path: Path) -> None:
    """No module imports a private name of another one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgload"):
            for alias in node.names:
                assert not re.match("_[^_]", alias.name), alias.name


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
    heavy |= {"boto3", "azure.identity", "google.auth"}
    assert not loaded & heavy
