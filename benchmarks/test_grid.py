"""Batch size × connections, all combinations. Long: runs only when this file is named."""

import pytest


@pytest.mark.sweep(batch_size=(100, 500, 1000, 2000, 5000), connections=(1, 2, 5, 10))
def test_grid(run_load, cloud, method, batch_size, connections):
    """The best batch size depends on the number of connections, and the other way round."""
    run_load(cloud, method, batch_size, connections)
