"""Memory does not grow with the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.own.plain import Job, plain_python, repeat_file
from pgload.load.verify import fingerprint
from pgload.sample.generator import write_sample
from pgload.targets.target import Target
from tests.support.loading import make_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

RECORDS = 1000
MEGABYTES = (25, 75)  # already the first has more windows than are in use at once


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["values", "copy"])
def test_memory(
    tmp_path: Path, server: Target, schema: str, connection: Connection, method: str
) -> None:
    """A file three times as large is loaded with about the same private memory."""
    source = tmp_path / "sample.json"
    write_sample(source, "THNG", RECORDS)
    table = make_table(source, schema, connection)
    peaks, expected = [], 0
    for megabytes in MEGABYTES:
        path = tmp_path / f"{megabytes}.json"
        expected += RECORDS * repeat_file(path, source, megabytes)
        with plain_python(Job.of(server, table, path, method, connections=2)) as process:
            peaks.append(process.load_watching_memory())
    assert fingerprint(table, connection).rows == expected
    small, large = peaks
    assert large - small < (MEGABYTES[1] - MEGABYTES[0]) / 3, peaks
    assert large <= 150
