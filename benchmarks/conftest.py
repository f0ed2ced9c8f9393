"""Excludes the grid, which runs only when it is named, and with --search all but the search."""

from __future__ import annotations

from pathlib import Path

import pytest

GRID, SEARCH = (Path(__file__).with_name(name) for name in ("test_grid.py", "test_search.py"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The grid measures twenty settings and more: it runs when it is named."""
    if collection_path.suffix == ".py" and config.option.search != (collection_path == SEARCH):
        return True
    named = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    if collection_path == GRID and GRID not in map(Path.resolve, named):
        return True
    return None
