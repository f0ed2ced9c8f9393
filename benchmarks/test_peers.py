"""pgload beside what people use instead, alternating in one run. Runs only when this file is named.

Both sides read the same JSON file inside the clock and write the same rows into the same table; the
rows of both are verified. The test fails when pgload does not keep its promise.
"""

from importlib.util import find_spec

import pytest

from benchmarks import peers
from pgload.load.migrator import Migrator
from pgload.options import OPTIONS
from pgload.source.files import read_batches

BATCH_SIZE = 1000
CONNECTIONS = 4


@pytest.mark.parametrize(
    ("method", "peer", "package", "promised"),
    [
        ("values", "execute_values", "psycopg2", 2.5),
        ("copy", "psycopg3_copy", "psycopg", 1.8),
    ],
)
def test_peers(pytestconfig, dataset, sites, run_pairs, cloud, method, peer, package, promised):
    """How many times as fast pgload is; the promise is the least that it has to be."""
    if find_spec(package) is None:
        pytest.skip(f"{peer} needs the package {package}: pip install '{package}[binary]'")
    site = sites[cloud]
    if isinstance(site, str):
        pytest.skip(site)
    if len(dataset.files) != 1 or pytestconfig.stash[OPTIONS].data is not None:
        pytest.skip("the peers are compared on one file of generated notices: leave --data away")
    if dataset.records < 10 * BATCH_SIZE:
        pytest.skip(f"{dataset.records} records are too few: the promise is for {10 * BATCH_SIZE}")
    ((path, table),) = dataset.tables.items()
    with (
        getattr(peers, peer)(site.target, CONNECTIONS) as load,
        Migrator(site.target.connect, method, connections=CONNECTIONS) as migrator,
    ):
        ratio = run_pairs(
            f"{method} against {peer}, {BATCH_SIZE} × {CONNECTIONS}",
            site,
            ours=lambda: migrator.run((table, batch) for batch in read_batches(path, BATCH_SIZE)),
            theirs=lambda: load(path, table, BATCH_SIZE),
        )
    assert ratio >= promised
