"""Memory does not grow with the file. Runs only when this file is named: it makes 1.1 GB of files.

Every load is done by a Python process of its own, whose private memory (RssAnon) is looked at from
outside, 200 times a second.
"""

import sys
from pathlib import Path

import pytest

from benchmarks.own.plain import Job, plain_python, repeat_file
from pgload.bench.console import Lines
from pgload.load.verify import Fingerprint, fingerprint

MEGABYTES = (100, 1000)
MOST = 150  # MB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["values", "unnest", "json", "copy"])
def test_memory(pytestconfig, tmp_path, dataset, open_site, method):
    """A load of 1 GB takes at most 150 MB, and about as much as one of 100 MB."""
    site = open_site
    ((source, table),) = dataset.tables.items()
    peaks = []
    for megabytes in MEGABYTES:
        path = Path(tmp_path, f"{megabytes}.json")
        times = repeat_file(path, source, megabytes)
        site.reset()
        with plain_python(Job.of(site.target, table, path, method, connections=2)) as process:
            peaks.append(process.load_watching_memory())
        path.unlink()
        rows, checksum = site.expected[table]
        assert fingerprint(table, site.connection) == Fingerprint(rows * times, checksum * times)
    site.reset()
    small, large = peaks
    Lines(pytestconfig).line(
        f"{method}, 1000 × 2: {large:.0f} MB of private memory for a file of {MEGABYTES[1]} MB, "
        f"{large / small:.2f} times that for {MEGABYTES[0]} MB"
    )
    assert large <= MOST
    assert large <= 1.25 * small  # a longer load has more moments to be at its highest
