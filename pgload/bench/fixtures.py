"""The fixtures that `benchmarks/` is written with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from pgload.bench.console import Lines
from pgload.bench.dataset import Dataset
from pgload.bench.options import OPTIONS, ROOT, SAMPLE_RECORDS
from pgload.bench.runner import INTERRUPTS, JOURNAL, SERVERS, Journal, Runner, end_the_run, pass_id
from pgload.bench.target import SCHEMA, BenchTarget, prepare
from pgload.contract import Setting
from pgload.errors import PgloadError, TargetError, UsageError
from pgload.sample.generator import sample_dir
from pgload.schema.table import describe
from pgload.targets.cloud import open_target

SAMPLE_CACHE = ROOT / "data" / ".sample"


@pytest.fixture(scope="session")
def dataset(pytestconfig: pytest.Config) -> Dataset:
    """The records that every load of this run writes."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    allow = pytestconfig.stash[INTERRUPTS].allow
    folder, limit = options.data, options.records
    if folder is None:
        records = options.records or SAMPLE_RECORDS
        say.status(f"making {records:,} notices, kept in {SAMPLE_CACHE.relative_to(ROOT)}")
        folder, limit = allow(lambda: sample_dir(SAMPLE_CACHE, records, options.seed)), None
    try:
        found = allow(lambda: Dataset.read(folder, schema=SCHEMA, limit=limit))
    except PgloadError as error:
        end_the_run(say, error)
    tables = "; ".join(map(describe, dict.fromkeys(found.tables.values())))
    size = round(found.bytes / found.records)
    say.line(f"data: {found.records:,} records of {size:,} bytes into {tables}")
    for path in found.left_out:
        say.line(f"left out: {path.name} holds no record")
    return found


@pytest.fixture(scope="session")
def sites(pytestconfig: pytest.Config, dataset: Dataset) -> Iterator[dict[str, BenchTarget | str]]:
    """The prepared site of each cloud of this run, or why there is none (under --keep-going)."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    servers = pytestconfig.stash.setdefault(SERVERS, {})
    allow = pytestconfig.stash[INTERRUPTS].allow
    sites = dict[str, BenchTarget | str]()
    with ExitStack() as stack:

        def prepared(cloud: str) -> BenchTarget:
            target = open_target(
                cloud, options.variables, shape=options.shape, rtt_ms=options.rtt_ms
            )
            return stack.enter_context(prepare(stack.enter_context(target), dataset))

        for cloud in options.clouds:
            say.status(f"{cloud}: connecting, and taking the checksums to expect")
            try:
                sites[cloud] = site = allow(partial(prepared, cloud))
                servers[cloud] = site.facts
                say.line(f"{cloud}: PostgreSQL {site.facts['version']}")
            except TargetError as error:
                if not options.keep_going:
                    more = "; --keep-going measures the others" if len(options.clouds) > 1 else ""
                    end_the_run(say, TargetError(f"{error}{more}"))
                sites[cloud] = str(error)
                say.line(f"not measured: {error}")
                if all(isinstance(sites.get(each), str) for each in options.clouds):
                    end_the_run(say, error)
            except PgloadError as error:
                end_the_run(say, error)
        yield sites


@pytest.fixture(scope="session")
def runner(
    pytestconfig: pytest.Config, sites: dict[str, BenchTarget | str], dataset: Dataset
) -> Runner:
    """What measures the settings of this run."""
    say, benchmarks = Lines(pytestconfig), pytestconfig._benchmarksession  # type: ignore[attr-defined]
    if benchmarks.disabled:
        return Runner(pytestconfig, sites, dataset, None)
    options = pytestconfig.stash[OPTIONS]
    run = {
        "records": dataset.records,
        "bytes": dataset.bytes,
        "seed": options.seed,
        "passes": options.passes,
        "rounds": options.effort.rounds,
        "warmup_rounds": options.effort.warmup_rounds,
        "max_time_per_setting": options.effort.seconds,
        "rtt": options.rtt_ms,
        "data": str(options.data),
        "servers": {
            cloud: f"PostgreSQL {site.facts['version']}, {site.facts.get('instance_type')}"
            for cloud, site in sites.items()
            if isinstance(site, BenchTarget)
        },
    }
    path = benchmarks.storage.get(f"interrupted_{'+'.join(options.clouds)}.jsonl")
    try:
        journal = Journal(path, run, resume=options.resume)
    except UsageError as error:
        end_the_run(say, error)
    pytestconfig.stash[JOURNAL] = journal
    return Runner(pytestconfig, sites, dataset, journal)


@pytest.fixture
def pass_number() -> int:
    """Which sweep over all settings this is."""
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
def run_client(
    pytestconfig: pytest.Config, benchmark: Any, dataset: Dataset, request: pytest.FixtureRequest
) -> Callable[[Callable[[], int]], None]:
    """A function that measures work without a database; the work says how many records it did."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)

    def run_client(work: Callable[[], int]) -> None:
        done: list[int] = []

        def verify() -> None:  # in the teardown: a benchmark that fails there is not saved
            assert done[-1] == dataset.records, f"{done[-1]} of {dataset.records} records done"

        pedantic = partial(
            benchmark.pedantic,
            lambda: done.append(work()),
            teardown=verify,
            rounds=options.effort.rounds,
            warmup_rounds=options.effort.warmup_rounds,
        )
        pytestconfig.stash[INTERRUPTS].allow(pedantic)
        benchmark.extra_info.update(records=dataset.records, bytes=dataset.bytes)
        say.result(request.node.name, benchmark, note="without a database")

    return run_client
