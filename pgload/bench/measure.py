"""Measures one setting on one target, and makes the saved `extra_info` of its rounds."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgload.bench.dataset import Dataset
from pgload.bench.options import Effort
from pgload.bench.target import BenchTarget, RoundTrip, server_errors
from pgload.contract import PARTS, Setting
from pgload.load.bottleneck import Attribution, attribute, bottleneck_of
from pgload.load.loader import Loader
from pgload.load.observe import Observation, Observer
from pgload.load.stats import LoadResult, latency, profile, timeline

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

MAX_SPREAD = 0.10  # standard deviation over mean of stable rounds, as in pyperf
MAX_OUTLIER = 0.50  # distance of a stable round from the mean, over the mean
MIN_ROUNDS = 2  # however long they take: a single round shows no spread


@dataclass(frozen=True)
class Round:
    """One verified load; times in seconds, those of the parts summed over the connections."""

    seconds: float
    records: int
    bytes: int  # of JSON text
    cpu_seconds: float
    parts: dict[str, float]  # as in `load.profile`, and encode_cpu, write_cpu
    batch_seconds: list[float]
    wal_bytes: int
    bottlenecks: Attribution  # the connections' time by bottleneck
    wait_events: dict[str, int]  # samples of the backends, by wait event
    counters: dict[str, float]  # the server's, differences over the load
    timeline: dict[str, list[Any]]
    checkpoints: list[float]  # seconds from the start of the load
    retries: int = 0

    @classmethod
    def of(cls, result: LoadResult, observation: Observation, rtt: float, wal_bytes: int) -> Round:
        """The round of a load and what was observed of it; `rtt` in seconds."""
        return cls(
            seconds=result.seconds,
            records=result.records,
            bytes=result.bytes,
            cpu_seconds=result.cpu_seconds,
            parts={
                **profile(result),
                "encode_cpu": result.total("encode_cpu"),
                "write_cpu": result.total("write_cpu"),
            },
            batch_seconds=[batch.seconds for batch in result.batches],
            wal_bytes=wal_bytes,
            bottlenecks=attribute(result, observation, rtt),
            wait_events=dict(observation.count_states(result.begin, result.end)),
            counters=dict(observation.counters),
            timeline=timeline(result),
            checkpoints=[round(at - result.begin, 1) for at in observation.checkpoints],
            retries=sum(batch.attempts - 1 for batch in result.batches),
        )


@dataclass(frozen=True)
class Pass:
    """The timed rounds of a setting in one sweep over all settings."""

    number: int
    seconds: list[float]  # of each round, on the benchmark's clock
    rounds: list[Round]
    rtt: RoundTrip
    checkpoint_between_rounds: bool


def extra_info(passes: Sequence[Pass]) -> dict[str, Any]:
    """The `extra_info` of a setting in the saved JSON, over all its passes.

    Times are in seconds unless their key has a unit. Medians are over rounds, latencies over all
    batches. `checkpoints` are the seconds from the start of the median round at which checkpoints
    were noticed, `wait_events` the shares of all samples, `counters` the server's for a median
    round.
    """
    rounds = [each for one in passes for each in one.rounds]
    seconds = [each for one in passes for each in one.seconds]

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    def part(name: str) -> float:
        return median(lambda each: each.parts[name])

    records = rounds[0].records
    bottleneck = bottleneck_of(each.bottlenecks for each in rounds)
    median_round = sorted(rounds, key=lambda each: each.seconds)[(len(rounds) - 1) // 2]
    events = sum((Counter(each.wait_events) for each in rounds), Counter[str]())
    return {
        "records": records,
        "bytes": rounds[0].bytes,
        "records_per_second": records / statistics.median(seconds),
        "passes": [one.seconds for one in passes],
        "unstable": unstable(seconds),
        "batch_latency": latency([each for one in rounds for each in one.batch_seconds]),
        "client": {
            "cpu_seconds": median(lambda each: each.cpu_seconds),
            "cpu_share": median(lambda each: each.cpu_seconds / each.seconds),
            "encode_cpu_seconds": part("encode_cpu"),
            "write_cpu_seconds": part("write_cpu"),
            "waited_seconds": part("wait"),
        },
        "profile": {name: part(name) for name in PARTS},
        "encode": part("encode"),
        "write": part("write"),
        "commit": part("commit"),
        "wait": part("wait"),
        "idle": part("idle"),
        "rtt_ms": statistics.median(one.rtt.p50 for one in passes) * 1000,
        "rtt_p99_ms": max(one.rtt.p99 for one in passes) * 1000,
        "wal_bytes_per_record": median(lambda each: each.wal_bytes) / records,
        "bottleneck": bottleneck.name,
        "bottleneck_shares": {name: round(share, 4) for name, share in bottleneck.shares.items()},
        "advice": bottleneck.advice,
        "wait_events": {name: round(n / events.total(), 4) for name, n in events.most_common()},
        "counters": {
            name: statistics.median(each.counters.get(name, 0) for each in rounds)
            for name in median_round.counters
        },
        "batches": median_round.timeline,
        "checkpoints": median_round.checkpoints,
        "checkpoint_between_rounds": passes[-1].checkpoint_between_rounds,
        "verified": True,  # a wrong round raises
        "retries": sum(each.retries for each in rounds),
    }


def unstable(seconds: Sequence[float]) -> str | None:
    """Why the rounds' seconds scatter too much for a reliable median; None if they do not."""
    if len(seconds) < 2:
        return "a single round has no spread"
    mean = statistics.fmean(seconds)
    spread = statistics.stdev(seconds) / mean
    furthest = max(abs(each - mean) for each in seconds) / mean
    if furthest >= MAX_OUTLIER:
        return f"one round is {furthest:.0%} away from the mean"
    if spread >= MAX_SPREAD:
        return f"the rounds' standard deviation is {spread:.0%} of their mean"
    return None


def measure(
    benchmark: BenchmarkFixture,
    target: BenchTarget,
    dataset: Dataset,
    setting: Setting,
    effort: Effort,
    *,
    pass_number: int = 1,
    on_round: Callable[[int], None] = lambda _round: None,
) -> Pass | None:
    """Load the dataset with that setting, warm-up rounds first, then timed ones.

    Inside the timed part: encoding, writing, committing. Outside: reading, connecting, emptying the
    tables, and counting and checksumming them after every round. A wrong round raises `LoadError`,
    and the benchmark has no result. Returns None if benchmarks are disabled and nothing is timed.
    `on_round` is called before each load with its number, from 1.
    """
    batches = list(dataset.batches(setting.batch_size))
    results: list[LoadResult] = []
    observations: list[Observation] = []
    wal_bytes: list[int] = []
    with (
        server_errors(target.target),
        Loader(target.target.connect, setting.method, connections=setting.connections) as loader,
        Observer(target.target.connect, loader.pids) as observer,
    ):
        loader.prepare(dataset.tables.values())
        rtt = target.rtt()
        begin = time.monotonic()

        def setup() -> None:
            on_round(len(results) + 1)
            target.reset()
            wal_bytes.append(target.wal_position())
            observer.begin()

        def load() -> None:
            results.append(loader.run(batches))

        def teardown() -> None:
            observations.append(observer.end())
            wal_bytes[-1] = target.wal_position() - wal_bytes[-1]
            target.verify()

        # A limit in seconds needs at least one load to tell how many rounds it allows.
        warmup = max(effort.warmup_rounds, effort.seconds is not None)
        for _ in range(0 if benchmark.disabled else warmup):
            setup()
            load()
            teardown()
        rounds = effort.rounds
        if results and effort.seconds is not None:
            spent = time.monotonic() - begin
            affordable = int((effort.seconds - spent) * len(results) / spent)
            rounds = min(rounds, max(MIN_ROUNDS, affordable))
        benchmark.pedantic(load, setup=setup, teardown=teardown, rounds=rounds)  # type: ignore[no-untyped-call]
        if benchmark.stats is None:  # --benchmark-disable: one load, and no teardown
            teardown()
            return None
    timed = zip(results[-rounds:], observations[-rounds:], wal_bytes[-rounds:], strict=True)
    return Pass(
        number=pass_number,
        seconds=list(benchmark.stats.stats.data),
        rounds=[
            Round.of(result, observation, rtt=rtt.p50, wal_bytes=wal)
            for result, observation, wal in timed
        ],
        rtt=rtt,
        checkpoint_between_rounds=target.may_checkpoint,
    )
