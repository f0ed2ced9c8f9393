"""Excludes the grid, which runs only when it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

GRID = Path(__file__).with_name("test_grid.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The grid measures twenty settings and more: it runs when it is named."""
    named = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    if collection_path == GRID and GRID not in map(Path.resolve, named):
        return True
    return None
