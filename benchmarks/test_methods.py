"""How throughput depends on the way a batch is written."""

import pytest

from pgload.contract import METHODS


@pytest.mark.sweep(method=tuple(METHODS))
def test_methods(run_load, cloud, method, batch_size, connections):
    """Every method writes the same rows, with a commit for every batch."""
    run_load(cloud, method, batch_size, connections)
