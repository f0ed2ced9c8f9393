"""The fixtures that benchmarks are written with; registered in a run of benchmarks only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.journal import Journal
from pgload.bench.options import SAMPLE_RECORDS
from pgload.bench.runner import Runner
from pgload.bench.schema import SCHEMA
from pgload.bench.selection import pass_id
from pgload.bench.session import SESSION, BenchSession
from pgload.bench.target import DECIDING_SETTINGS, BenchTarget, prepare
from pgload.contract import Setting
from pgload.errors import PgloadError, TargetError, UsageError
from pgload.sample.generator import sample_dir
from pgload.schema.table import describe
from pgload.source.stores import without_secrets
from pgload.targets.cloud import open_target

CLIENT_ROUNDS = 3  # at most: work without a server varies little


@pytest.fixture(scope="session")
def bench_session(pytestconfig: pytest.Config) -> BenchSession:
    """The options, the console and the state of this run."""
    return pytestconfig.stash[SESSION]


@pytest.fixture(scope="session")
def dataset(bench_session: BenchSession) -> Dataset:
    """The records that every load of this run writes."""
    options, console = bench_session.options, bench_session.console
    interruptible = bench_session.interrupts.interruptible
    data, limit = options.data, options.records
    try:
        if data is None:
            records, cache = options.records or SAMPLE_RECORDS, options.sample_cache
            console.status(f"generating {records:,} notices, cached in {cache}")
            data = str(interruptible(partial(sample_dir, cache, records, options.seed)))
            limit = None
        found = interruptible(partial(Dataset.read, data, schema=SCHEMA, limit=limit))
    except PgloadError as error:
        bench_session.stop(error)
    tables = "; ".join(map(describe, dict.fromkeys(found.tables.values())))
    size = round(found.bytes / found.records)
    console.line(f"data: {found.records:,} records of {size:,} bytes into {tables}")
    for path in found.empty_files:
        console.line(f"left out: {path.name} holds no record with a field")
    return found


@pytest.fixture(scope="session")
def bench_targets(
    bench_session: BenchSession, dataset: Dataset
) -> Iterator[dict[str, BenchTarget]]:
    """The prepared target of each cloud; under --keep-going without those that are unavailable."""
    options, console = bench_session.options, bench_session.console
    targets = dict[str, BenchTarget]()
    with ExitStack() as stack:

        def prepared(cloud: str) -> BenchTarget:
            target = open_target(
                cloud, options.variables, shape=options.shape, rtt_ms=options.rtt_ms
            )
            return stack.enter_context(prepare(stack.enter_context(target), dataset))

        for cloud in options.clouds:
            console.status(f"{cloud}: connecting, and computing the expected checksums")
            try:
                target = bench_session.interrupts.interruptible(partial(prepared, cloud))
            except TargetError as error:
                if not options.keep_going:
                    more = "; --keep-going measures the others" if len(options.clouds) > 1 else ""
                    bench_session.stop(TargetError(f"{error}{more}"))
                bench_session.unavailable[cloud] = str(error)
                console.line(f"not measured: {error}")
                if len(bench_session.unavailable) == len(options.clouds):
                    bench_session.stop(error)
            except PgloadError as error:
                bench_session.stop(error)
            else:
                targets[cloud] = target
                bench_session.servers[cloud] = target.facts
                console.line(f"{cloud}: PostgreSQL {target.facts['version']}{_pooler(target)}")
        yield targets


def _pooler(target: BenchTarget) -> str:
    """A note on a target whose connections go through a pooler."""
    if not target.pooled:
        return ""
    return (
        ", through a connection pooler: what the server's processes wait for cannot be observed, "
        "so that part of the time is of an unknown bottleneck"
    )


@pytest.fixture
def bench_target(
    bench_session: BenchSession, bench_targets: dict[str, BenchTarget], cloud: str
) -> BenchTarget:
    """The prepared target of the test's cloud; skips the test if it is unavailable."""
    if reason := bench_session.unavailable.get(cloud):
        pytest.skip(reason)
    return bench_targets[cloud]


@pytest.fixture(scope="session")
def runner(
    pytestconfig: pytest.Config,
    bench_session: BenchSession,
    bench_targets: dict[str, BenchTarget],
    dataset: Dataset,
) -> Runner:
    """Measures the settings of this run."""
    benchmarks = pytestconfig._benchmarksession  # type: ignore[attr-defined]
    if not benchmarks.disabled:
        options = bench_session.options
        run = {  # a run that differs in one of these is another run, and cannot be resumed
            "records": dataset.records,
            "bytes": dataset.bytes,
            "seed": options.seed,
            "search": options.search,
            "passes": options.passes,
            "rounds": options.effort.rounds,
            "warmup_rounds": options.effort.warmup_rounds,
            "max_time_per_setting": options.effort.seconds,
            "rtt": options.rtt_ms,
            "data": str(options.data and without_secrets(options.data)),
            "exact_records": options.records,
            "servers": {
                cloud: [
                    f"PostgreSQL {target.facts['version']}",
                    target.facts.get("instance_type"),
                    *(f"{name} {target.at_start[name]}" for name in DECIDING_SETTINGS),
                ]
                for cloud, target in bench_targets.items()
            },
        }
        path = benchmarks.storage.get(f"interrupted_{'+'.join(options.clouds)}.jsonl")
        try:
            bench_session.journal = Journal(path, run, resume=options.resume)
        except UsageError as error:
            bench_session.stop(error)
    return Runner(bench_session, bench_targets, dataset)


@pytest.fixture
def run_race(runner: Runner, request: pytest.FixtureRequest) -> Callable[[], None]:
    """A function that races the settings of this run; its test has to be the first one."""
    return lambda: runner.race(request.session.items)


@pytest.fixture
def pass_number() -> int:
    """The number of this sweep over all settings; the parametrized one replaces it in a load."""
    return 1


@pytest.fixture
def run_load(
    benchmark: Any, runner: Runner, request: pytest.FixtureRequest, pass_number: int
) -> Callable[[str, str, int, int], None]:
    """A function that measures one setting on one cloud."""
    test = request.node.nodeid.replace(f"-{pass_id(pass_number)}]", "]")

    def run_load(cloud: str, method: str, batch_size: int, connections: int) -> None:
        setting = Setting(method, batch_size, connections)
        runner.run(benchmark, test, pass_number, cloud, setting)

    return run_load


@pytest.fixture
def run_rounds(
    bench_session: BenchSession, benchmark: Any
) -> Callable[[Callable[[], object]], None]:
    """A function that times work which is not in the passes; SIGINT may end it.

    It takes as many rounds as there are passes, or as a setting has in a pass, if those are more,
    and `at_most` as many as that; none for warming up if it is `warm`. Other keyword arguments are
    those of `benchmark.pedantic`: `setup` and `teardown`.
    """

    def run_rounds(
        work: Callable[[], object],
        *,
        at_most: int | None = None,
        warm: bool = False,
        **around: Callable[[], object],
    ) -> None:
        effort, passes = bench_session.options.effort, bench_session.options.passes
        rounds = max(effort.rounds, passes)
        pedantic = partial(
            benchmark.pedantic,
            work,
            rounds=min(rounds, at_most or rounds),
            warmup_rounds=0 if warm else effort.warmup_rounds,
            **around,
        )
        bench_session.interrupts.interruptible(pedantic)

    return run_rounds


@pytest.fixture
def run_client(
    bench_session: BenchSession,
    benchmark: Any,
    dataset: Dataset,
    run_rounds: Callable[..., None],
    request: pytest.FixtureRequest,
) -> Callable[[Callable[[], int]], None]:
    """A function that measures work without a database, which returns its number of records."""

    def run_client(work: Callable[[], int]) -> None:
        done: list[int] = []

        def verify() -> None:  # in the teardown: a benchmark that fails there is not saved
            assert done[-1] == dataset.records, f"{done[-1]} of {dataset.records} records done"

        run_rounds(lambda: done.append(work()), at_most=CLIENT_ROUNDS, teardown=verify)
        benchmark.extra_info.update(records=dataset.records, bytes=dataset.bytes)
        bench_session.console.result(request.node.name, benchmark, note="without a database")

    return run_client
