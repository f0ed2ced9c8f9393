"""The speed of `copy` relative to the server's ceiling, and its cost in client CPU:

    pytest benchmarks/own/test_promises.py --records 20000

The promises are for 20,000 records, with the server on the same two cores.
"""

import json
import time

import pytest

from benchmarks.prepared import PsqlError, prepared_copy
from pgload.load.loader import Loader
from pgload.source.reader import read_batches


@pytest.fixture
def copy(one_file_target, dataset):
    """A load of the whole JSON file by `copy`, 1000 × 2, reading included."""
    ((path, table),) = dataset.tables.items()
    with Loader(one_file_target.target.connect, "copy", connections=2) as loader:
        yield lambda: loader.run((table, batch) for batch in read_batches(path, 1000))


def test_half_of_the_ceiling(one_file_target, dataset, run_pairs, tmp_path, copy):
    """From JSON, `copy` is at least half as fast as psql with text prepared in advance."""
    try:
        with prepared_copy(one_file_target.target, dataset, 2, tmp_path) as prepared:
            ratio = run_pairs(
                r"copy from JSON against psql \copy of prepared text, 2 connections",
                one_file_target,
                contender=copy,
                baseline=prepared,
            )
    except PsqlError as error:
        pytest.skip(str(error))
    assert ratio >= 0.5


def test_client_cpu(one_file_target, dataset, run_pairs, copy):
    """From file to socket, `copy` takes at most 0.6 of the CPU time of `json.load` alone."""
    (path,) = dataset.tables
    loaded = []

    def read():
        with path.open(encoding="utf-8") as file:
            loaded.append(json.load(file))

    ratio = run_pairs(
        "client CPU of copy against json.load of the same file",
        one_file_target,
        contender=copy,
        baseline=read,
        clock=time.process_time,
        verify_baseline=loaded.clear,  # no rows to check; and freeing the memory is not counted
    )
    assert ratio >= 1 / 0.6
