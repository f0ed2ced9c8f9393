"""The fixtures that `benchmarks/` is written with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from pgload.errors import PgloadError
from pgload.measure import SCHEMA, Setting, Site, measure, prepare
from pgload.options import OPTIONS, ROOT, SAMPLE_RECORDS
from pgload.source.dataset import Dataset
from pgload.source.sample import sample_dir
from pgload.source.tables import describe
from pgload.targets.open import open_target
from pgload.terminal import Lines

SAMPLE_CACHE = ROOT / "data" / ".sample"
SERVERS = pytest.StashKey[dict[str, Any]]()  # cloud → what is known of its server


@contextmanager
def _without_traceback(end: Callable[[str], Any]) -> Iterator[None]:
    """Hand the message of an error that is written for the user to `end`."""
    try:
        yield
    except PgloadError as error:
        end(str(error))


def _end_the_run(message: str) -> None:
    pytest.exit(message, returncode=2)


def _fail_the_test(message: str) -> None:
    pytest.fail(message, pytrace=False)


@pytest.fixture(scope="session")
def dataset(pytestconfig: pytest.Config) -> Dataset:
    """The records that every load of this run writes."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    with _without_traceback(_end_the_run):
        folder, limit = options.data, options.records
        if folder is None:
            records = options.records or SAMPLE_RECORDS
            say.passing(f"making {records:,} notices, kept in {SAMPLE_CACHE.relative_to(ROOT)}")
            folder, limit = sample_dir(SAMPLE_CACHE, records, options.seed), None
        found = Dataset.read(folder, schema=SCHEMA, limit=limit)
    tables = "; ".join(map(describe, dict.fromkeys(found.tables.values())))
    size = found.bytes / found.records / 1000
    say.line(f"data: {found.records:,} records of {size:.1f} KB into {tables}")
    return found


@pytest.fixture(scope="session")
def site_of(pytestconfig: pytest.Config, dataset: Dataset) -> Iterator[Callable[[str], Site]]:
    """A function from a cloud's name to its prepared site, opened on first use."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    servers = pytestconfig.stash.setdefault(SERVERS, {})
    sites = dict[str, Site]()
    with ExitStack() as stack:

        def site_of(cloud: str) -> Site:
            if cloud not in sites:
                say.passing(f"{cloud}: connecting, and taking the checksums to expect")
                with _without_traceback(_end_the_run):
                    target = stack.enter_context(open_target(cloud, options.variables))
                    sites[cloud] = stack.enter_context(prepare(target, dataset))
                servers[cloud] = sites[cloud].facts
                say.line(f"{cloud}: PostgreSQL {servers[cloud]['version']}")
            return sites[cloud]

        yield site_of


@pytest.fixture
def run_load(
    pytestconfig: pytest.Config,
    benchmark: Any,
    site_of: Callable[[str], Site],
    dataset: Dataset,
) -> Callable[[str, str, int, int], None]:
    """A function that measures one setting on one cloud."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    loads = options.warmup_rounds + options.rounds

    def run_load(cloud: str, method: str, batch_size: int, connections: int) -> None:
        setting = Setting(method, batch_size, connections)
        name = f"{cloud:<9} {setting}" if len(options.clouds) > 1 else str(setting)
        if reason := _too_small(dataset, setting):
            say.line(f"{name:<25} not measured: {reason}")
            pytest.skip(reason)
        with _without_traceback(_fail_the_test):
            measure(
                benchmark,
                site_of(cloud),
                dataset,
                setting,
                rounds=options.rounds,
                warmup_rounds=options.warmup_rounds,
                on_round=lambda number: say.passing(f"{name}   load {number} of {loads}"),
            )
        say.result(name, benchmark, note="rows verified")

    return run_load


def _too_small(dataset: Dataset, setting: Setting) -> str | None:
    """Why the dataset cannot occupy all of the setting's connections, if it cannot."""
    batches = sum(1 for _ in dataset.batches(setting.batch_size))
    if batches >= setting.connections:
        return None
    needed = (setting.connections - 1) * setting.batch_size + 1
    return (
        f"{batches} batches cannot occupy {setting.connections} connections; "
        f"needs {needed:,} records in a file (--records {needed})"
    )


@pytest.fixture
def run_client(
    pytestconfig: pytest.Config, benchmark: Any, dataset: Dataset, request: pytest.FixtureRequest
) -> Callable[[Callable[[], int]], None]:
    """A function that measures work without a database; the work says how many records it did."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)

    def run_client(work: Callable[[], int]) -> None:
        done = benchmark.pedantic(work, rounds=options.rounds, warmup_rounds=options.warmup_rounds)
        assert done == dataset.records, f"{done} of {dataset.records} records were done"
        benchmark.extra_info.update(records=dataset.records, bytes=dataset.bytes)
        say.result(request.node.name, benchmark, note="without a database")

    return run_client
