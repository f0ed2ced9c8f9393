"""A sandbox for each test of the migration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pgload.targets.target import Target
from tests.support.migrating import MigrationSandbox, make_sandbox


@pytest.fixture
def sandbox(server: Target, tmp_path: Path) -> Iterator[MigrationSandbox]:
    """A database with a table t, and a folder."""
    with make_sandbox(server, tmp_path) as found:
        yield found


@pytest.fixture
def restricted(sandbox: MigrationSandbox) -> Iterator[MigrationSandbox]:
    """The sandbox as seen by a user without rights but those on t."""
    role = sandbox.name
    sandbox.sql(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT ON t TO {role}",
        f"GRANT USAGE ON SEQUENCE t_id_seq TO {role}",
    )
    parameters = {**sandbox.target.parameters, "user": role}
    yield replace(sandbox, target=replace(sandbox.target, parameters=parameters))
    sandbox.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
