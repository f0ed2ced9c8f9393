"""What `copy` takes of the client and leaves of the server. Runs only when this file is named.

The promises are for 20,000 records, with the server on the same two cores: `--records 20000`.
"""

import json
import time

import pytest

from benchmarks.prepared import NO_PSQL, find_psql, prepared_copy
from pgload.load.loader import Loader
from pgload.source.reader import read_batches


@pytest.fixture
def copy(open_site, dataset):
    """A load of the whole JSON file by `copy`, 1000 × 2, reading included."""
    ((path, table),) = dataset.tables.items()
    with Loader(open_site.target.connect, "copy", connections=2) as loader:
        yield lambda: loader.run((table, batch) for batch in read_batches(path, 1000))


def test_half_of_the_ceiling(open_site, dataset, run_pairs, tmp_path, copy):
    """From JSON, `copy` is at least half as fast as psql with text prepared in advance."""
    if find_psql() is None:
        pytest.skip(NO_PSQL)
    with prepared_copy(open_site.target, dataset, 2, tmp_path) as prepared:
        ratio = run_pairs(
            r"copy from JSON against psql \copy of prepared text, 2 connections",
            open_site,
            ours=copy,
            theirs=prepared,
        )
    assert ratio >= 0.5


def test_client_cpu(open_site, dataset, run_pairs, copy):
    """From file to socket, `copy` takes at most 0.6 of the CPU time of `json.load` alone."""
    (path,) = dataset.tables
    held = []

    def read():
        with path.open(encoding="utf-8") as file:
            held.append(json.load(file))

    ratio = run_pairs(
        "client CPU of copy against json.load of the same file",
        open_site,
        ours=copy,
        theirs=read,
        clock=time.process_time,
        verify_theirs=held.clear,  # nothing was loaded; and giving it all back is not counted
    )
    assert ratio >= 1 / 0.6
