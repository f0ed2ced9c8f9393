"""What watching a load costs it. Runs only when this file is named.

A few per cent are less than the noise of one pair of loads: ask for 40,000 records or more and for
40 rounds.
"""

import pytest

from pgload.load.loader import Loader
from pgload.load.observe import Observer


@pytest.mark.parametrize("method", ["copy", "values"])
def test_observer(dataset, sites, run_pairs, cloud, method):
    """A load that is watched is at least 0.98 times as fast as one that is not."""
    site = sites[cloud]
    if isinstance(site, str):
        pytest.skip(site)
    work = list(dataset.batches(1000))
    connect = site.target.connect
    with (
        Loader(connect, method, connections=4) as loader,
        Observer(connect, loader.pids) as observer,
    ):

        def watched():
            observer.begin()
            loader.run(work)
            observer.end()

        ratio = run_pairs(
            f"{method}, 1000 × 4, watched against unwatched",
            site,
            ours=watched,
            theirs=lambda: loader.run(work),
        )
    assert ratio >= 0.98
