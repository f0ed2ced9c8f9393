"""Whether the speed of a short load in the suite is that of a long load outside of it:

    pytest benchmarks/own/test_scale.py --records 20000 -k "not short"

compares 500,000 records with 20,000. What a short load misses at three common settings, by loads of
200,000 records against loads of 10,000 and against loads of the size that a default run chooses:

    pytest benchmarks/own/test_scale.py --records 10000 -k short
"""

from functools import partial

import pytest

from benchmarks.own.plain import Job, plain_python
from pgload.bench.load_size import LoadSize
from pgload.contract import Setting
from pgload.load.loader import Loader
from pgload.load.verify import Fingerprint, fingerprint
from pgload.source.reader import read_batches

TIMES = 25
LONG = 20  # times the dataset in a long load

SETTINGS = [("values", 1000, 2), ("unnest", 1000, 2), ("copy", 500, 4)]


def test_many_records(one_file_target, dataset, run_pairs):
    """25 times as many records are loaded at no less than 0.95 of the records per second."""
    target = one_file_target
    ((path, table),) = dataset.tables.items()
    rows, checksum = target.expected[table]

    def load(loader, times):
        files = (batch for _ in range(times) for batch in read_batches(path, 1000))
        return loader.run((table, batch) for batch in files)

    def verify_many():
        found = fingerprint(table, target.connection)
        assert found == Fingerprint(rows * TIMES, checksum * TIMES)

    with Loader(target.target.connect, "copy", connections=2) as loader:
        ratio = run_pairs(
            f"{TIMES * dataset.records:,} records, copy, 1000 × 2, against as many loads of "
            f"{dataset.records:,}",
            target,
            contender=partial(load, loader, TIMES),
            baseline=partial(load, loader, 1),
            verify_contender=verify_many,
            weight=TIMES,
        )
    assert ratio >= 0.95


@pytest.mark.parametrize("repeated", [False, True], ids=["once", "default_size"])
@pytest.mark.parametrize(
    "setting", [pytest.param(Setting(*each), id="-".join(map(str, each))) for each in SETTINGS]
)
def test_short_load(one_file_target, dataset, run_pairs, setting, repeated):
    """The speed of a long load relative to a short one; it is printed, and not promised.

    The short one is of the dataset once, or repeated as in a run without `--records`.
    """
    target, times = one_file_target, 1
    connections = setting.connections
    with Loader(target.target.connect, setting.method, connections=connections) as loader:

        def batches(times):
            return list(dataset.batches(setting.batch_size, times))

        if repeated:
            target.reset()
            size = LoadSize(for_batches=True, for_time=True)
            seconds = loader.run(batches(1)).seconds
            times = size.repeats(size.least_repeats(dataset, setting), 1, seconds)
        run_pairs(
            f"{LONG * dataset.records:,} records, {setting.short}, against "
            f"{times * dataset.records:,}",
            target,
            contender=partial(loader.run, batches(LONG)),
            baseline=partial(loader.run, batches(times)),
            verify_contender=partial(target.verify, LONG),
            verify_baseline=partial(target.verify, times),
            weight=LONG / times,
            baseline_records=times * dataset.records,
        )


def test_suite_overhead(one_file_target, dataset, run_pairs):
    """A load in this process, under pytest, is at least 0.98 times as fast as one in plain Python.

    Both load batches that were read before; a line on a pipe starts the load of the process.
    """
    target = one_file_target
    ((path, table),) = dataset.tables.items()
    batches = list(dataset.batches(1000))
    job = Job.of(target.target, table, path, "copy", connections=2, read_first=True)
    with (
        plain_python(job) as process,
        Loader(target.target.connect, "copy", connections=2) as loader,
    ):
        ratio = run_pairs(
            "copy, 1000 × 2, in the suite against plain Python",
            target,
            contender=lambda: loader.run(batches),
            baseline=process.load,
        )
    assert ratio >= 0.98
