"""One setting, measured on one target: what happens around the clock, and what is kept of it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgload.load.bottleneck import divide, verdict
from pgload.load.migrator import Migrator
from pgload.load.observe import Observation, Observer
from pgload.load.stats import LoadResult, latency, timeline
from pgload.site import RoundTrip, Site, server_errors
from pgload.source.dataset import Dataset

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@dataclass(frozen=True, slots=True)
class Setting:
    """What a load is done with."""

    method: str
    batch_size: int
    connections: int

    def __str__(self) -> str:
        return f"{self.method:<11} {self.batch_size:>5} × {self.connections:<2}"


def measure(
    benchmark: BenchmarkFixture,
    site: Site,
    dataset: Dataset,
    setting: Setting,
    *,
    rounds: int,
    warmup_rounds: int,
    on_round: Callable[[int], None],
) -> None:
    """Load the dataset `rounds` times with that setting, and keep what was seen in `extra_info`.

    Inside the clock: encoding, writing, committing. Outside: reading, connecting, emptying the
    tables, and counting and checksumming them after every round. A wrong round raises, and then
    the benchmark has no result.
    """
    work = list(dataset.batches(setting.batch_size))
    results: list[LoadResult] = []
    seen: list[Observation] = []
    wal: list[int] = []
    with (
        server_errors(site.target),
        Migrator(site.target.connect, setting.method, connections=setting.connections) as migrator,
        Observer(site.target.connect, migrator.pids) as observer,
    ):
        rtt = site.rtt()

        def setup() -> None:
            on_round(len(results) + 1)
            site.reset()
            wal.append(site.wal_position())
            observer.begin()

        def load() -> None:
            results.append(migrator.run(work))

        def teardown() -> None:
            seen.append(observer.end())
            wal[-1] = site.wal_position() - wal[-1]
            site.verify()

        benchmark.pedantic(  # type: ignore[no-untyped-call]
            load, setup=setup, teardown=teardown, rounds=rounds, warmup_rounds=warmup_rounds
        )
        if benchmark.stats is None:  # --benchmark-disable: one load, and no teardown
            teardown()
    if benchmark.stats is not None:
        benchmark.extra_info.update(
            extra_info(
                results[-rounds:],
                seconds=benchmark.stats.stats.median,
                wal_bytes=statistics.median(wal[-rounds:]),
                rtt=rtt,
            ),
            **what_was_seen(results[-rounds:], seen[-rounds:], rtt),
            checkpoint_between_rounds=site.may_checkpoint,
            rtt_asked_ms=site.target.known.get("rtt_asked_ms"),
        )


def extra_info(
    results: list[LoadResult], *, seconds: float, wal_bytes: float, rtt: RoundTrip
) -> dict[str, Any]:
    """What is kept of a setting's verified rounds: medians over rounds, latencies over all batches.

    Durations are in seconds unless the name says otherwise; `seconds` is the median round.
    """

    def median(of: Callable[[LoadResult], float]) -> float:
        return statistics.median(map(of, results))

    records = results[0].records
    return {
        "records": records,
        "bytes": results[0].bytes,
        "records_per_second": records / seconds,
        "batch_latency": latency([batch for result in results for batch in result.batches]),
        "client": {
            "cpu_seconds": median(lambda result: result.cpu_seconds),
            "cpu_share": median(lambda result: result.cpu_share),
            "encode_cpu_seconds": median(lambda result: result.total("encode_cpu")),
            "write_cpu_seconds": median(lambda result: result.total("write_cpu")),
            "waited_seconds": median(lambda result: result.total("wait")),
        },
        "encode": median(lambda result: result.total("encode")),
        "write": median(lambda result: result.total("write")),
        "commit": median(lambda result: result.total("commit")),
        "rtt_ms": rtt.p50 * 1000,
        "rtt_p99_ms": rtt.p99 * 1000,
        "wal_bytes_per_record": wal_bytes / records,
        "verified": True,  # a round that was not has raised
        "retries": 0,
    }


def what_was_seen(
    results: Sequence[LoadResult], observations: Sequence[Observation], rtt: RoundTrip
) -> dict[str, Any]:
    """What held a setting's rounds back, and how the median one of them went.

    `checkpoints` are the seconds from its beginning at which one was noticed; `wait_events` how
    much of the time the backends were seen doing what, over all rounds; `counters` the server's,
    for a median round.
    """
    rounds = list(zip(results, observations, strict=True))
    found = verdict(divide(result, seen, rtt.p50) for result, seen in rounds)
    median, seen = sorted(rounds, key=lambda each: each[0].seconds)[(len(rounds) - 1) // 2]
    doing = sum((each.doing(result.begin, result.end) for result, each in rounds), Counter[str]())
    counters = {
        name: statistics.median(each.counters.get(name, 0) for each in observations)
        for name in seen.counters
    }
    return {
        "bottleneck": found.name,
        "bottleneck_shares": {name: round(share, 4) for name, share in found.shares.items()},
        "advice": found.advice,
        "wait_events": {name: round(n / doing.total(), 4) for name, n in doing.most_common()},
        "counters": counters,
        "batches": timeline(median),
        "checkpoints": [round(at - median.begin, 1) for at in seen.checkpoints],
    }
