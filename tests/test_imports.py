"""The house keeps its order: imports go down, and the doors open without a driver."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Top floor first. A module may import from its own floor and from those below.
FLOORS = (
    {"suite", "__main__"},
    {"fixtures", "cli"},
    {"runner", "migrate"},
    {"anchor", "journal", "terminal", "options", "interrupt"},
    {"measure", "migration"},
    {"rounds", "plan", "stopping"},
    {"site"},
    {"facts"},
    {"load"},
    {"source", "targets", "report"},
    {"errors"},
)
FLOOR_OF = {room: n for n, rooms in enumerate(FLOORS) for room in rooms}
WINGS = {"source", "targets", "report"}  # each knows only itself and the errors


def room(module: str) -> str:
    """The part of the house a module belongs to: `pgload.load.rows` is in `load`."""
    return module.split(".")[1] if "." in module else "errors"  # pgload itself holds a version


def imports(path: Path) -> set[str]:
    """The modules of pgload that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pgload"):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("pgload")}
    return found


MODULES = sorted(path for path in (ROOT / "pgload").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    """No module imports from a floor above it, and no wing another wing."""
    here = path.relative_to(ROOT / "pgload").with_suffix("").parts[0]
    for module in imports(path):
        there = room(module)
        assert FLOOR_OF[there] >= FLOOR_OF[here], f"{here} imports {module}"
        if here in WINGS:
            assert there in (here, "errors"), f"{here} imports {module}"


@pytest.mark.parametrize(
    "door",
    [
        "import pgload.cli; pgload.cli.main(['--help'])",
        "import conftest",
    ],
)
def test_doors_open_without_a_driver(door: str) -> None:
    """The help and the suite's conftest load no driver, no server and no charts."""
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {door}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    loaded = set(done.stdout.split())
    assert "pgload.errors" in loaded
    assert not loaded & {"psycopg2", "testcontainers", "docker", "pygal", "streamlit"}
