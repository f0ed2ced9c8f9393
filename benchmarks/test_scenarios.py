"""Four common settings."""

import pytest


@pytest.mark.settings(
    ("values", 1000, 1),  # baseline
    ("values", 100, 1),  # small batch
    ("values", 1000, 10),  # multi-connection
    ("values", 500, 5),  # optimized
)
def test_scenarios(run_load, cloud, method, batch_size, connections):
    """Baseline 1000×1, small batch 100×1, multi-connection 1000×10, optimized 500×5."""
    run_load(cloud, method, batch_size, connections)
