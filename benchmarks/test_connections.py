"""How throughput depends on the number of connections."""

import pytest


@pytest.mark.sweep(method=("copy",), connections=(1, 2, 5, 10))
def test_connections(run_load, cloud, method, batch_size, connections):
    """More connections hide round trips and use more of the server's cores, up to a point."""
    run_load(cloud, method, batch_size, connections)
