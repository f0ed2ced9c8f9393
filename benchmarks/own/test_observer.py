"""The overhead of the observer. Many rounds are needed to see a few per cent:

pytest benchmarks/own/test_observer.py --records 40000 --rounds 40
"""

import pytest

from pgload.load.loader import Loader
from pgload.load.observe import Observer


@pytest.mark.parametrize("method", ["copy", "values"])
def test_observer(bench_target, dataset, run_pairs, method):
    """A load that is observed is at least 0.98 times as fast as one that is not."""
    batches = list(dataset.batches(1000))
    connect = bench_target.target.connect
    with (
        Loader(connect, method, connections=4) as loader,
        Observer(connect, loader.pids, loader.sending) as observer,
    ):

        def observed():
            observer.begin()
            loader.run(batches)
            observer.end()

        ratio = run_pairs(
            f"{method}, 1000 × 4, observed against unobserved",
            bench_target,
            contender=observed,
            baseline=lambda: loader.run(batches),
        )
    assert ratio >= 0.98
