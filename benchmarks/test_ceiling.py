"""The ceilings: the client without a server, and the server with a client that has no work.

A load of records that were read before can exceed the client's ceiling by the reading that this
includes, and no other way. `extra_info["ceiling"]` tells them apart:
`{"side": "client", "method": …, "read": s, "encode": s}`, seconds of the median round, or
`{"side": "server", "connections": …}`; `records` are those of a round.
"""

import statistics
import time
from functools import partial

import pytest

from benchmarks.prepared import PsqlError, prepared_copy
from pgload.bench.session import SESSION
from pgload.contract import METHODS
from pgload.errors import TargetError
from pgload.load.methods import make_method
from pgload.source.reader import Batch, read_batches

SERVER_ROUNDS = 3  # at most: a default run ends within three minutes


def pytest_generate_tests(metafunc):
    """The ceilings are measured with the connections and methods that are asked for."""
    if SESSION not in metafunc.config.stash:
        return
    asked = metafunc.config.stash[SESSION].options.sweep
    if "connections" in metafunc.fixturenames:
        metafunc.parametrize("connections", asked.get("connections", (1, 10)))
    if "method" in metafunc.fixturenames:
        usual = [method for method in METHODS if method != "executemany"]
        metafunc.parametrize("method", asked.get("method", usual))


def batches_from_files(dataset, batch_size):
    """The pairs of `Dataset.batches`, read from the files again."""
    for path, records in dataset.files.items():
        for batch in read_batches(path, batch_size):
            left = len(records) - batch.first_record + 1  # a dataset may end within a file
            yield dataset.tables[path], Batch(path, batch.first_record, batch.records[:left])
            if left <= batch_size:
                break


def test_client(run_client, benchmark, dataset, method):
    """Reading the files and encoding batches of 1000, in one thread."""
    methods = {table: make_method(method, table) for table in dataset.tables.values()}
    encoding = []

    def read_and_encode():
        done, seconds = 0, 0.0
        for table, batch in batches_from_files(dataset, 1000):
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


def test_server(
    bench_session, bench_target, benchmark, run_rounds, request, tmp_path, dataset, connections
):
    """COPY of text prepared in advance, by a psql for each connection.

    A load repeats the dataset for about a second, as loads of settings do.
    """
    console, name = bench_session.console, request.node.name

    def seconds_of(repeats):
        bench_target.reset()
        start = time.perf_counter()
        load(repeats)
        seconds = time.perf_counter() - start
        bench_target.verify(repeats)
        return seconds

    try:
        with prepared_copy(bench_target.target, dataset, connections, tmp_path) as load:
            size = bench_session.options.load_size
            repeats = 1 if benchmark.disabled else size.repeats_for(seconds_of)
            run_rounds(
                partial(load, repeats),
                at_most=SERVER_ROUNDS,
                warm=repeats > 1,  # by finding that number
                setup=bench_target.reset,
                teardown=partial(bench_target.verify, repeats),
            )
    except (PsqlError, TargetError) as error:
        console.line(f"{name}: not measured: {error}")
        pytest.skip(str(error))
    benchmark.extra_info.update(
        records=repeats * dataset.records,
        bytes=repeats * dataset.bytes,
        ceiling={"side": "server", "connections": connections},
        verified=True,  # a wrong round raises
    )
    console.result(name, benchmark, note="prepared text; rows verified")
