"""The best setting, from a race of all methods, batch sizes and connections:

pytest benchmarks --search
"""

import pytest

from pgload.contract import METHODS


def test_race(run_race):
    """Short loads find the few settings that may be the best."""
    run_race()


@pytest.mark.sweep(
    method=METHODS, batch_size=(100, 200, 500, 1000, 2000, 5000), connections=(1, 2, 5, 10)
)
def test_finals(run_load, cloud, method, batch_size, connections):
    """These are measured side by side until it is decided which one to take."""
    run_load(cloud, method, batch_size, connections)
