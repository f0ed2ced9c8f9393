"""How throughput depends on the batch size."""

import pytest


@pytest.mark.sweep(method=("copy",), batch_size=(100, 1000, 5000))
def test_batch_size(run_load, cloud, method, batch_size, connections):
    """Larger batches share a round trip and a commit between more records, up to a point."""
    run_load(cloud, method, batch_size, connections)
