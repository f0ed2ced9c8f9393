"""The ceilings: the client without a server, and the server without a client to speak of.

No load can be faster than the lower of the two. `extra_info["ceiling"]` says which one a benchmark
is: `{"side": "client", "method": …, "read": s, "encode": s}`, seconds of the median round, or
`{"side": "server", "connections": …}`; the records per second are those of any benchmark.
"""

import statistics
import time
from functools import partial

import pytest

from benchmarks.prepared import NO_PSQL, NoCeilingError, find_psql, prepared_copy
from pgload.bench.console import Lines
from pgload.bench.options import OPTIONS
from pgload.bench.runner import INTERRUPTS
from pgload.contract import METHODS
from pgload.load.methods import make_method
from pgload.source.reader import Batch, read_batches


def pytest_generate_tests(metafunc):
    """The server's ceiling is measured with the connections that are asked for."""
    if "connections" in metafunc.fixturenames and OPTIONS in metafunc.config.stash:
        asked = metafunc.config.stash[OPTIONS].sweep
        metafunc.parametrize("connections", asked.get("connections", (1, 2, 5, 10)))


def from_files(dataset, batch_size):
    """What `Dataset.batches` gives, read anew."""
    for path, records in dataset.files.items():
        for batch in read_batches(path, batch_size):
            left = len(records) - batch.first_record + 1  # a dataset may end within a file
            yield dataset.tables[path], Batch(path, batch.first_record, batch.records[:left])
            if left <= batch_size:
                break


@pytest.mark.parametrize("method", METHODS)
def test_client(run_client, benchmark, dataset, method):
    """Reading the files and encoding batches of 1000, in one thread."""
    methods = {table: make_method(method, table) for table in dataset.tables.values()}
    encoding = []

    def read_and_encode():
        done, seconds = 0, 0.0
        for table, batch in from_files(dataset, 1000):
            start = time.perf_counter()
            methods[table].encode(batch)
            seconds += time.perf_counter() - start
            done += len(batch.records)
        encoding.append(seconds)
        return done

    run_client(read_and_encode)
    if benchmark.stats is not None:
        encode = statistics.median(encoding[-benchmark.stats.stats.rounds :])
        read = benchmark.stats.stats.median - encode
        benchmark.extra_info["ceiling"] = {
            "side": "client", "method": method, "read": read, "encode": encode,
        }  # fmt: skip


def test_server(pytestconfig, benchmark, request, tmp_path, dataset, sites, cloud, connections):
    """COPY of text prepared in advance, by a psql for each connection."""
    site, options = sites[cloud], pytestconfig.stash[OPTIONS]
    if isinstance(site, str):
        pytest.skip(site)
    if find_psql() is None:
        pytest.skip(NO_PSQL)
    try:
        with prepared_copy(site.target, dataset, connections, tmp_path) as load:
            pedantic = partial(
                benchmark.pedantic,
                load,
                setup=site.reset,
                teardown=site.verify,
                rounds=options.effort.rounds,
                warmup_rounds=options.effort.warmup_rounds,
            )
            pytestconfig.stash[INTERRUPTS].allow(pedantic)
    except NoCeilingError as error:
        Lines(pytestconfig).line(f"{request.node.name}: {error}")
        pytest.skip(str(error))
    benchmark.extra_info.update(
        records=dataset.records,
        bytes=dataset.bytes,
        ceiling={"side": "server", "connections": connections},
        verified=True,  # a round that was not has raised
    )
    Lines(pytestconfig).result(request.node.name, benchmark, note="prepared text; rows verified")
