"""The client alone, without a database: no load can be faster than this."""

import pytest

from pgload.load.methods import METHODS, make_method
from pgload.source.files import read_records


def test_read(run_client, dataset):
    """Cutting the files into raw records, on one core."""

    def read():
        done = 0
        for path, wanted in dataset.files.items():
            left = len(wanted)  # a dataset may end within a file
            windows = read_records(path)
            while left > 0:
                left -= len(next(windows))
            done += len(wanted)
        return done

    run_client(read)


@pytest.mark.parametrize("method", METHODS)
def test_encode(run_client, dataset, method):
    """Encoding raw records in batches of 1000, on one core."""
    work = list(dataset.batches(1000))
    methods = {table: make_method(method, table) for table, _ in work}

    def encode():
        return sum(len(batch.records) for table, batch in work if methods[table].encode(batch))

    run_client(encode)
