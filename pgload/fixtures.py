"""The fixtures that `benchmarks/` is written with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

import pytest

from pgload.errors import PgloadError, TargetError, TooManyConnectionsError
from pgload.interrupt import INTERRUPTS
from pgload.measure import Setting, measure
from pgload.options import OPTIONS, ROOT, SAMPLE_RECORDS
from pgload.site import SCHEMA, Site, prepare
from pgload.source.dataset import Dataset
from pgload.source.sample import sample_dir
from pgload.source.tables import describe
from pgload.targets.open import open_target
from pgload.terminal import Lines

SAMPLE_CACHE = ROOT / "data" / ".sample"
SERVERS = pytest.StashKey[dict[str, Any]]()  # cloud → what is known of its server
NOT_MEASURED = pytest.StashKey[list[dict[str, Any]]]()  # settings, and why


def _end_the_run(say: Lines, error: PgloadError) -> NoReturn:
    say.line(f"pgload: {error}")
    pytest.exit("stopped", returncode=2)


@pytest.fixture(scope="session")
def dataset(pytestconfig: pytest.Config) -> Dataset:
    """The records that every load of this run writes."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    allow = pytestconfig.stash[INTERRUPTS].allow
    folder, limit = options.data, options.records
    if folder is None:
        records = options.records or SAMPLE_RECORDS
        say.passing(f"making {records:,} notices, kept in {SAMPLE_CACHE.relative_to(ROOT)}")
        folder, limit = allow(lambda: sample_dir(SAMPLE_CACHE, records, options.seed)), None
    try:
        found = allow(lambda: Dataset.read(folder, schema=SCHEMA, limit=limit))
    except PgloadError as error:
        _end_the_run(say, error)
    tables = "; ".join(map(describe, dict.fromkeys(found.tables.values())))
    size = round(found.bytes / found.records)
    say.line(f"data: {found.records:,} records of {size:,} bytes into {tables}")
    for path in found.left_out:
        say.line(f"left out: {path.name} holds no record")
    return found


@pytest.fixture(scope="session")
def sites(pytestconfig: pytest.Config, dataset: Dataset) -> Iterator[dict[str, Site | str]]:
    """The prepared site of each cloud of this run, or why there is none (under --keep-going)."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    servers = pytestconfig.stash.setdefault(SERVERS, {})
    allow = pytestconfig.stash[INTERRUPTS].allow
    sites = dict[str, Site | str]()
    with ExitStack() as stack:

        def prepared(cloud: str) -> Site:
            target = open_target(
                cloud, options.variables, shape=options.shape, rtt_ms=options.rtt_ms
            )
            return stack.enter_context(prepare(stack.enter_context(target), dataset))

        for cloud in options.clouds:
            say.passing(f"{cloud}: connecting, and taking the checksums to expect")
            try:
                sites[cloud] = site = allow(partial(prepared, cloud))
                servers[cloud] = site.facts
                say.line(f"{cloud}: PostgreSQL {site.facts['version']}")
            except TargetError as error:
                if not options.keep_going:
                    if len(options.clouds) > 1:
                        say.line("--keep-going measures the others when one cannot be reached")
                    _end_the_run(say, error)
                sites[cloud] = str(error)
                say.line(f"not measured: {error}")
                if all(isinstance(sites.get(each), str) for each in options.clouds):
                    _end_the_run(say, error)
            except PgloadError as error:
                _end_the_run(say, error)
        yield sites


@pytest.fixture
def run_load(
    pytestconfig: pytest.Config,
    benchmark: Any,
    sites: dict[str, Site | str],
    dataset: Dataset,
) -> Callable[[str, str, int, int], None]:
    """A function that measures one setting on one cloud."""
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)
    loads = options.warmup_rounds + options.rounds
    asked_for_connections = "connections" in options.sweep

    def run_load(cloud: str, method: str, batch_size: int, connections: int) -> None:
        setting = Setting(method, batch_size, connections)
        name = f"{cloud:<9} {setting}" if len(options.clouds) > 1 else str(setting)

        def not_measured(reason: str) -> None:
            unmeasured = pytestconfig.stash.setdefault(NOT_MEASURED, [])
            unmeasured.append({"cloud": cloud, **asdict(setting), "reason": reason})
            say.line(f"{name:<25} not measured: {reason}")
            pytest.skip(reason)

        site = sites[cloud]
        error: PgloadError | None = None
        if isinstance(site, str):
            not_measured(site)
        elif reason := _too_small(dataset, setting):
            not_measured(reason)
        else:
            try:
                work = partial(
                    measure,
                    benchmark,
                    site,
                    dataset,
                    setting,
                    rounds=options.rounds,
                    warmup_rounds=options.warmup_rounds,
                    on_round=lambda number: say.passing(f"{name}   load {number} of {loads}"),
                )
                pytestconfig.stash[INTERRUPTS].allow(work)
            except PgloadError as caught:
                error = caught
            if site.connection.closed:
                error = error or TargetError(f"{cloud}: the connection was lost")
                if not options.keep_going:
                    _end_the_run(say, error)
                sites[cloud] = str(error)  # for the settings to come
            if error is None:
                say.result(name, benchmark, note="rows verified")
            elif isinstance(error, TooManyConnectionsError) and not asked_for_connections:
                not_measured(str(error))
            else:
                say.line(f"{name:<25} failed: {error}")
                pytest.fail(str(error), pytrace=False)

    return run_load


def _too_small(dataset: Dataset, setting: Setting) -> str | None:
    """Why the dataset cannot show what the setting is worth, if it cannot."""
    longest = max(map(len, dataset.files.values()))
    batches = sum(1 for _ in dataset.batches(setting.batch_size))
    if longest < setting.batch_size:
        needed, short = setting.batch_size, f"no file fills a batch of {setting.batch_size}"
    elif batches < setting.connections:
        needed = (setting.connections - 1) * setting.batch_size + 1
        short = f"too few batches ({batches}) for {setting.connections} connections"
    else:
        return None
    return f"{short}; needs {needed:,} records in one file (--records {needed})"


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
            rounds=options.rounds,
            warmup_rounds=options.warmup_rounds,
        )
        pytestconfig.stash[INTERRUPTS].allow(pedantic)
        benchmark.extra_info.update(records=dataset.records, bytes=dataset.bytes)
        say.result(request.node.name, benchmark, note="without a database")

    return run_client


@pytest.fixture
def open_site(
    pytestconfig: pytest.Config, sites: dict[str, Site | str], dataset: Dataset, cloud: str
) -> Site:
    """The site of one cloud, for a comparison over one file of generated notices."""
    site = sites[cloud]
    if isinstance(site, str):
        pytest.skip(site)
    if len(dataset.files) != 1 or pytestconfig.stash[OPTIONS].data is not None:
        pytest.skip("this compares loads of one file of generated notices: leave --data away")
    return site


@pytest.fixture
def run_pairs(
    pytestconfig: pytest.Config, benchmark: Any, dataset: Dataset
) -> Callable[..., float]:
    """A function that alternates two works, verifies both, and says how many times as fast ours is.

    That is the median over rounds of their seconds by ours. `clock` may count other seconds than
    those of the wall; `verify_ours` and `verify_theirs` stand for the site's own check where the
    tables hold something else than the dataset afterwards; `weight` is how much of their work is
    as much as ours.
    """
    options, say = pytestconfig.stash[OPTIONS], Lines(pytestconfig)

    def run_pairs(
        name: str,
        site: Site,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        *,
        clock: Callable[[], float] = time.perf_counter,
        verify_ours: Callable[[], object] | None = None,
        verify_theirs: Callable[[], object] | None = None,
        weight: float = 1,
    ) -> float:
        our_seconds: list[float] = []
        their_seconds: list[float] = []

        def timed(work: Callable[[], object], seconds: list[float]) -> None:
            start = clock()
            work()
            seconds.append(clock() - start)

        def setup() -> None:
            say.passing(name)
            site.reset()
            timed(theirs, their_seconds)
            (verify_theirs or site.verify)()
            site.reset()

        pedantic = partial(
            benchmark.pedantic,
            partial(timed, ours, our_seconds),
            setup=setup,
            teardown=verify_ours or site.verify,
            rounds=options.rounds,
            warmup_rounds=options.warmup_rounds,
        )
        pytestconfig.stash[INTERRUPTS].allow(pedantic)
        if benchmark.stats is None:
            pytest.skip("--benchmark-disable leaves nothing to compare")
        pairs = list(zip(their_seconds, our_seconds, strict=True))[-options.rounds :]
        ratios = [weight * their / our for their, our in pairs]
        ratio = float(statistics.median(ratios))
        benchmark.extra_info.update(
            records=dataset.records,
            our_seconds=[our for _, our in pairs],
            peer_seconds=[their for their, _ in pairs],
            ratio=ratio,
            verified=True,
        )
        theirs_rate = dataset.records / statistics.median(their for their, _ in pairs)
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        say.line(f"{name}: {ratio:.2f} times ({spread}) its {theirs_rate:,.0f} records/s")
        return ratio

    return run_pairs
