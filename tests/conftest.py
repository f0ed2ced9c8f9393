"""One embedded PostgreSQL for the tests of a process; a schema of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.targets.target import Target
from tests.support.checkout import Run, make_checkout, run_module
from tests.support.servers import embedded

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# `pytest-benchmark compare` reads this file too, where only requirements.txt is installed.
with suppress(ModuleNotFoundError):
    from hypothesis import HealthCheck, settings

    # The same examples in every run, so that a failure is due to the change.
    settings.register_profile(
        "pgload",
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("pgload")
# Seconds of a test, by pytest-timeout; in pytest.ini it would be an error where that is missing.
os.environ.setdefault("PYTEST_TIMEOUT", "120")

_numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def embedded_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One run of initdb for all embedded servers, those of other workers and processes too."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of the run, which the workers share
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDDED_CACHE", str(folder / "embedded"))
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Target]:
    """A running PostgreSQL, without waits for the disk: those of CREATE DATABASE take long."""
    with embedded(fsync="off") as target:
        yield target


@pytest.fixture
def connection(server: Target) -> Iterator[Connection]:
    """A connection to the server, closed at the end."""
    connection = server.connect()
    yield connection
    connection.close()


@pytest.fixture
def schema(connection: Connection) -> Iterator[str]:
    """The name of an empty schema, dropped at the end."""
    name = f"test_{next(_numbers)}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {name}")
        yield name
        cursor.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout's code, with no run saved yet."""
    return make_checkout(tmp_path / "checkout")


@pytest.fixture
def run(checkout: Path) -> Run:
    """A function that runs a Python module's command line in the checkout."""
    return partial(run_module, checkout)
