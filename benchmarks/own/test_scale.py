"""Whether a short load in the suite tells what a long one outside of it will do.

Runs only when this file is named. `--records 20000` compares 500,000 records with 20,000.
"""

from functools import partial

from benchmarks.own.plain import Job, plain_python
from pgload.load.loader import Loader
from pgload.load.verify import Fingerprint, fingerprint
from pgload.source.reader import read_batches

TIMES = 25


def test_many_records(open_site, dataset, run_pairs):
    """25 times as many records are loaded at no less than 0.95 of the records per second."""
    site = open_site
    ((path, table),) = dataset.tables.items()
    rows, checksum = site.expected[table]

    def load(loader, times):
        files = (batch for _ in range(times) for batch in read_batches(path, 1000))
        return loader.run((table, batch) for batch in files)

    def verify_many():
        found = fingerprint(table, site.connection)
        assert found == Fingerprint(rows * TIMES, checksum * TIMES)

    with Loader(site.target.connect, "copy", connections=2) as loader:
        ratio = run_pairs(
            f"{TIMES * dataset.records:,} records, copy, 1000 × 2, against as many loads of "
            f"{dataset.records:,}",
            site,
            ours=partial(load, loader, TIMES),
            theirs=partial(load, loader, 1),
            verify_ours=verify_many,
            weight=TIMES,
        )
    assert ratio >= 0.95


def test_the_suite_costs_nothing(open_site, dataset, run_pairs):
    """A load in this process, under pytest, is at least 0.98 times as fast as one in plain Python.

    Both load batches that were read before; the other process is told over a pipe when to begin.
    """
    site = open_site
    ((path, table),) = dataset.tables.items()
    work = list(dataset.batches(1000))
    job = Job.of(site.target, table, path, "copy", connections=2, read_first=True)
    with (
        plain_python(job) as process,
        Loader(site.target.connect, "copy", connections=2) as loader,
    ):
        ratio = run_pairs(
            "copy, 1000 × 2, in the suite against plain Python",
            site,
            ours=lambda: loader.run(work),
            theirs=process.load,
        )
    assert ratio >= 0.98
