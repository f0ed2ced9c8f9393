"""How throughput depends on the method, by which a batch is written."""

import pytest


@pytest.mark.sweep(method=("values", "unnest", "json", "copy"))
def test_methods(run_load, cloud, method, batch_size, connections):
    """Every method writes the same rows, with a commit for every batch.

    `executemany`, the baseline, takes several times as long, so it is measured when it is asked
    for: `--method executemany`.
    """
    run_load(cloud, method, batch_size, connections)
