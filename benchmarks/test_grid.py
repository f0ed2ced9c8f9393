"""Batch size × connections, all combinations. Long, so it runs only when it is named:

pytest benchmarks/test_grid.py
"""

import pytest


@pytest.mark.sweep(batch_size=(100, 500, 1000, 2000, 5000), connections=(1, 2, 5, 10))
def test_grid(run_load, cloud, method, batch_size, connections):
    """The best batch size depends on the number of connections, and vice versa."""
    run_load(cloud, method, batch_size, connections)
