"""The profile of a load adds up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgload.contract import METHODS
from pgload.load.loader import Loader
from pgload.load.stats import Timed, profile
from pgload.sample.generator import write_sample
from pgload.source.reader import read_batches
from pgload.targets.target import Target
from tests.support.loading import make_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


@pytest.mark.parametrize("method", METHODS)
def test_profile(
    tmp_path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """The connections' parts are the load's seconds on each; the encoder's are within it."""
    path = tmp_path / "sample.json"
    write_sample(path, "THNG", 600)
    table = make_table(path, schema, connection)
    reading = Timed((table, batch) for batch in read_batches(path, 100))
    with Loader(server.connect, method, connections=2) as loader:
        result = loader.run(reading)
    parts = profile(result, read=reading.seconds)
    assert list(parts) == ["read", "encode", "write", "commit", "wait"]
    on_connections = parts["write"] + parts["commit"] + parts["wait"]
    assert on_connections == pytest.approx(2 * result.seconds)
    assert 0 < parts["read"] + parts["encode"] <= result.seconds
    assert (parts["commit"] > 0) == (method == "executemany")
