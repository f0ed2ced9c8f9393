"""Memory does not grow with the file. It writes files of 1.1 GB in all:

    pytest benchmarks/own/test_memory.py --records 20000

Every load runs in a Python process of its own, whose private memory (RssAnon) is sampled 200 times
a second.
"""

import sys
from pathlib import Path

import pytest

from benchmarks.own.plain import Job, plain_python, repeat_file
from pgload.load.verify import Fingerprint, fingerprint

MEGABYTES = (100, 1000)
MAX_MEMORY = 150  # MB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["values", "unnest", "json", "copy"])
def test_memory(bench_session, one_file_target, dataset, tmp_path, method):
    """A load of 1 GB takes at most 150 MB of memory, and about as much as one of 100 MB."""
    target = one_file_target
    ((source, table),) = dataset.tables.items()
    peaks = []
    for megabytes in MEGABYTES:
        path = Path(tmp_path, f"{megabytes}.json")
        times = repeat_file(path, source, megabytes)
        target.reset()
        with plain_python(Job.of(target.target, table, path, method, connections=2)) as process:
            peaks.append(process.load_watching_memory())
        path.unlink()
        rows, checksum = target.expected[table]
        assert fingerprint(table, target.connection) == Fingerprint(rows * times, checksum * times)
    target.reset()
    small, large = peaks
    bench_session.console.line(
        f"{method}, 1000 × 2: {large:.0f} MB of private memory for a file of {MEGABYTES[1]} MB, "
        f"{large / small:.2f} times that for {MEGABYTES[0]} MB"
    )
    assert large <= MAX_MEMORY
    assert large <= 1.25 * small  # a longer load has more samples, and so a higher maximum
