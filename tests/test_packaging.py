"""The package: its version, its dependencies, and the files that it needs beside its modules."""

from __future__ import annotations

import re
import tomllib
from itertools import chain

from tests.support.environment import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def requirements(name: str) -> list[str]:
    """The requirements of a file, without comments and other files."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def test_extra_for_tests() -> None:
    """`pgload[test]` installs what requirements-test.txt adds to requirements.txt."""
    assert PROJECT["project"]["optional-dependencies"]["test"] == requirements(
        "requirements-test.txt"
    )


def test_bounds() -> None:
    """Every requirement, those of the extras too, has a lower and an upper bound."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    for line in (*requirements("requirements.txt"), *chain(*extras)):
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+,<[\d.]+(; \w+ .+)?", line), line


def test_data_files() -> None:
    """Every file in pgload/ that is not a module is part of the package."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["pgload"]
    packaged = {path for pattern in patterns for path in (ROOT / "pgload").glob(pattern)}
    files = {
        path
        for path in (ROOT / "pgload").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert files <= packaged
