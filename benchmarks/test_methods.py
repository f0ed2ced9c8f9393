"""How throughput depends on the method, by which a batch is written."""

import pytest

from pgload.contract import METHODS


@pytest.mark.sweep(method=METHODS)
def test_methods(run_load, cloud, method, batch_size, connections):
    """Every method writes the same rows, with a commit for every batch."""
    run_load(cloud, method, batch_size, connections)
