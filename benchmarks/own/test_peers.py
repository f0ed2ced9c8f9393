"""pgload beside what people use instead, alternating in one run. Runs only when this file is named.

Both sides read the same JSON file inside the clock and write the same rows into the same table; the
rows of both are verified. The test fails when pgload does not keep its promise. The promises are
for 20,000 records, with the server on the same two cores: `--records 20000`.
"""

from functools import partial
from importlib.util import find_spec

import pytest

from benchmarks.own import peers
from pgload.load.loader import Loader
from pgload.source.reader import read_batches

BATCH_SIZE = 1000
INSTALL = "pip install -r benchmarks/peers-requirements.txt"


# Method, peer, the packages it needs, connections, and how many times as fast pgload has to be;
# 0: the ratio is only said.
CASES = [
    ("values", "execute_values", "psycopg2", 4, 2.5),
    ("json", "execute_values", "psycopg2", 2, 3.0),
    ("unnest", "execute_values", "psycopg2", 2, 3.8),
    ("copy", "psycopg3_copy", "psycopg", 4, 2.2),
    ("copy", "asyncpg_copy", "asyncpg", 4, 2.2),
    ("values", "psycopg3_executemany", "psycopg", 4, 0),
    ("values", "pandas_to_sql", "pandas sqlalchemy", 1, 0),
    ("copy", "polars_adbc", "polars adbc_driver_postgresql pyarrow", 4, 0),
    ("copy", "dlt_pipeline", "dlt pyarrow", 4, 0),
]


@pytest.mark.filterwarnings("default")  # other people's code
@pytest.mark.parametrize(
    ("method", "peer", "packages", "connections", "promised"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in CASES],
)
def test_peers(open_site, dataset, run_pairs, method, peer, packages, connections, promised):
    """How many times as fast pgload is; the promise is the least that it has to be."""
    missing = [package for package in packages.split() if find_spec(package) is None]
    if missing:
        pytest.skip(f"{peer} needs {', '.join(missing)}: {INSTALL}")
    site = open_site
    if dataset.records < 10 * BATCH_SIZE:
        pytest.skip(f"{dataset.records} records are too few: the promise is for {10 * BATCH_SIZE}")
    ((path, table),) = dataset.tables.items()
    with (
        getattr(peers, peer)(site.target, connections) as load,
        Loader(site.target.connect, method, connections=connections) as loader,
    ):
        ratio = run_pairs(
            f"{method} against {peer}, {BATCH_SIZE} × {connections}",
            site,
            ours=lambda: loader.run((table, batch) for batch in read_batches(path, BATCH_SIZE)),
            theirs=partial(load, path, table, BATCH_SIZE),
        )
    assert ratio >= promised
