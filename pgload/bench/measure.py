"""One setting, measured on one target: what happens around the clock."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgload.bench.dataset import Dataset
from pgload.bench.target import BenchTarget, RoundTrip, server_errors
from pgload.contract import PARTS, Setting
from pgload.load.bottleneck import attribute, bottleneck_of
from pgload.load.loader import Loader
from pgload.load.observe import Observation, Observer
from pgload.load.stats import LoadResult, latency, profile, timeline

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SPREAD = 0.10  # standard deviation over mean from which rounds do not tell enough (as in pyperf)
OUTLIER = 0.50  # so far from the mean one round alone spoils it


@dataclass(frozen=True)
class Round:
    """One verified load. In seconds; those of the parts are summed over its connections."""

    seconds: float
    records: int
    bytes: int  # of JSON text
    cpu_seconds: float
    parts: dict[str, float]  # as in `load.profile`, and encode_cpu, write_cpu
    batch_seconds: list[float]
    wal_bytes: int
    divided: dict[str, float]  # what its connections' time went to, see `load.bottleneck`
    doing: dict[str, int]  # how often backends were seen doing what
    counters: dict[str, float]  # of the server, differences over the load
    timeline: dict[str, list[Any]]
    checkpoints: list[float]  # from the load's beginning
    retries: int = 0

    @classmethod
    def of(cls, result: LoadResult, seen: Observation, rtt: float, wal_bytes: int) -> Round:
        """What is kept of a load that was watched."""
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
            divided=attribute(result, seen, rtt),
            doing=dict(seen.count_states(result.begin, result.end)),
            counters=dict(seen.counters),
            timeline=timeline(result),
            checkpoints=[round(at - result.begin, 1) for at in seen.checkpoints],
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
    """What the saved JSON says of a setting, over all its passes.

    Durations are in seconds unless the name says otherwise. Medians are over rounds, latencies
    over all batches. `checkpoints` are the seconds from the median round's beginning at which one
    was noticed; `wait_events` how much of the time the backends were seen doing what, over all
    rounds; `counters` the server's, for a median round.
    """
    rounds = [each for one in passes for each in one.rounds]
    seconds = [each for one in passes for each in one.seconds]

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(map(of, rounds))

    def part(name: str) -> float:
        return median(lambda each: each.parts[name])

    records = rounds[0].records
    found = bottleneck_of(each.divided for each in rounds)
    typical = sorted(rounds, key=lambda each: each.seconds)[(len(rounds) - 1) // 2]
    doing = sum((Counter(each.doing) for each in rounds), Counter[str]())
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
        "rtt_ms": statistics.median(one.rtt.p50 for one in passes) * 1000,
        "rtt_p99_ms": max(one.rtt.p99 for one in passes) * 1000,
        "wal_bytes_per_record": median(lambda each: each.wal_bytes) / records,
        "bottleneck": found.name,
        "bottleneck_shares": {name: round(share, 4) for name, share in found.shares.items()},
        "advice": found.advice,
        "wait_events": {name: round(n / doing.total(), 4) for name, n in doing.most_common()},
        "counters": {
            name: statistics.median(each.counters.get(name, 0) for each in rounds)
            for name in typical.counters
        },
        "batches": typical.timeline,
        "checkpoints": typical.checkpoints,
        "checkpoint_between_rounds": passes[-1].checkpoint_between_rounds,
        "verified": True,  # a round that was not has raised
        "retries": sum(each.retries for each in rounds),
    }


def unstable(seconds: Sequence[float]) -> str | None:
    """Why rounds of so many seconds do not make a number to rely on, if they do not."""
    if len(seconds) < 2:
        return "a single round says nothing about its spread"
    mean = statistics.fmean(seconds)
    spread = statistics.stdev(seconds) / mean
    furthest = max(abs(each - mean) for each in seconds) / mean
    if furthest >= OUTLIER:
        return f"one round is {furthest:.0%} away from the mean"
    if spread >= SPREAD:
        return f"the rounds' standard deviation is {spread:.0%} of their mean"
    return None


FEWEST_ROUNDS = 2  # however long they take: one alone says nothing about its spread


@dataclass(frozen=True, slots=True)
class Effort:
    """How often a setting is loaded; after `seconds` it is enough, if they are given."""

    rounds: int
    warmup_rounds: int
    seconds: float | None = None


def measure(
    benchmark: BenchmarkFixture,
    site: BenchTarget,
    dataset: Dataset,
    setting: Setting,
    effort: Effort,
    *,
    number: int = 1,
    on_round: Callable[[int], None] = lambda _round: None,
) -> Pass | None:
    """Load the dataset with that setting, and give what was seen; None where nothing is timed.

    Inside the clock: encoding, writing, committing. Outside: reading, connecting, emptying the
    tables, and counting and checksumming them after every round. A wrong round raises, and then
    the benchmark has no result. `number` is the pass's.
    """
    work = list(dataset.batches(setting.batch_size))
    results: list[LoadResult] = []
    seen: list[Observation] = []
    wal: list[int] = []
    with (
        server_errors(site.target),
        Loader(site.target.connect, setting.method, connections=setting.connections) as loader,
        Observer(site.target.connect, loader.pids) as observer,
    ):
        rtt = site.rtt()
        begin = time.monotonic()

        def setup() -> None:
            on_round(len(results) + 1)
            site.reset()
            wal.append(site.wal_position())
            observer.begin()

        def load() -> None:
            results.append(loader.run(work))

        def teardown() -> None:
            seen.append(observer.end())
            wal[-1] = site.wal_position() - wal[-1]
            site.verify()

        # Without a load before the timed ones nobody knows how many fit into the time.
        untimed = max(effort.warmup_rounds, effort.seconds is not None)
        for _ in range(0 if benchmark.disabled else untimed):
            setup()
            load()
            teardown()
        rounds = effort.rounds
        if results and effort.seconds is not None:
            spent = time.monotonic() - begin
            rounds_left = int((effort.seconds - spent) * len(results) / spent)
            rounds = min(rounds, max(FEWEST_ROUNDS, rounds_left))
        benchmark.pedantic(load, setup=setup, teardown=teardown, rounds=rounds)  # type: ignore[no-untyped-call]
        if benchmark.stats is None:  # --benchmark-disable: one load, and no teardown
            teardown()
            return None
    return Pass(
        number=number,
        seconds=list(benchmark.stats.stats.data),
        rounds=[
            Round.of(result, observation, rtt.p50, wal_bytes)
            for result, observation, wal_bytes in zip(
                results[-rounds:], seen[-rounds:], wal[-rounds:], strict=True
            )
        ],
        rtt=rtt,
        checkpoint_between_rounds=site.may_checkpoint,
    )
