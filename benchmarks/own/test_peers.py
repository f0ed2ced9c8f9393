"""pgload against other loaders, alternating in one run:

    pip install -r benchmarks/own/peers-requirements.txt
    pytest benchmarks/own/test_peers.py --records 20000

Both sides read the same JSON file inside the timed part and write the same rows into the same
table; the rows of both are verified. The test fails if the ratio is lower than promised. The
promises are for 20,000 records, with the server on the same two cores.
"""

from functools import partial
from importlib.util import find_spec

import pytest

from benchmarks.own import peers
from pgload.load.loader import Loader
from pgload.source.reader import read_batches

BATCH_SIZE = 1000
MIN_RECORDS = 10 * BATCH_SIZE
INSTALL = "pip install -r benchmarks/own/peers-requirements.txt"

# Method, peer, the package that it needs, connections, the promised speed relative to it.
CASES = [
    ("values", "execute_values", "psycopg2", 4, 2.5),
    ("json", "execute_values", "psycopg2", 2, 3.0),
    ("unnest", "execute_values", "psycopg2", 2, 3.8),
    ("copy", "psycopg3_copy", "psycopg", 4, 2.2),
    ("copy", "asyncpg_copy", "asyncpg", 4, 2.2),
]


@pytest.mark.filterwarnings("default")  # of the peers' packages
@pytest.mark.parametrize(
    ("method", "peer", "package", "connections", "promised"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in CASES],
)
def test_peers(one_file_target, dataset, run_pairs, method, peer, package, connections, promised):
    """pgload is at least `promised` times as fast as the peer."""
    if find_spec(package) is None:
        pytest.skip(f"{peer} needs {package}: {INSTALL}")
    if dataset.records < MIN_RECORDS:
        pytest.skip(f"{dataset.records} records are too few: use --records {MIN_RECORDS} or more")
    target = one_file_target
    ((path, table),) = dataset.tables.items()
    with (
        getattr(peers, peer)(target.target, connections) as load,
        Loader(target.target.connect, method, connections=connections) as loader,
    ):
        ratio = run_pairs(
            f"{method} against {peer}, {BATCH_SIZE} × {connections}",
            target,
            contender=lambda: loader.run(
                (table, batch) for batch in read_batches(path, BATCH_SIZE)
            ),
            baseline=partial(load, path, table, BATCH_SIZE),
        )
    assert ratio >= promised
