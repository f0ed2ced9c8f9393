"""The client's own work in `copy`, in CPU time; the server is not used:

pytest benchmarks/own/test_encode.py --records 20000
"""

import random
import statistics
import time
from dataclasses import replace

import pytest

from pgload.load.methods import make_method

ROUNDS = 15
MAX_SHUFFLED = 1.1


@pytest.mark.parametrize("method", ["values", "unnest", "copy"])
def test_shuffled_columns(bench_session, dataset, method):
    """Encoding takes at most 1.1 times as long where the table has its columns in another order."""
    batches = list(dataset.batches(1000))
    tables = set(dataset.tables.values())
    in_order = {table: make_method(method, table) for table in tables}
    shuffled = {}
    for table in tables:
        columns = random.Random(0).sample(table.columns, len(table.columns))
        shuffled[table] = make_method(method, replace(table, columns=tuple(columns)))

    def seconds(methods):
        start = time.thread_time()
        for table, batch in batches:
            methods[table].encode(batch)
        return time.thread_time() - start

    ratios = [seconds(shuffled) / seconds(in_order) for _ in range(ROUNDS)]
    ratio = statistics.median(ratios)
    bench_session.console.line(
        f"{method}: encoding for shuffled columns takes {ratio:.2f} times "
        f"({min(ratios):.2f}–{max(ratios):.2f}) as long as for columns in the file's order"
    )
    assert ratio <= MAX_SHUFFLED
