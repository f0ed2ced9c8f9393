"""Measures one setting on one target, and makes the saved `extra_info` of its rounds."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pgload.bench.dataset import Dataset
from pgload.bench.load_size import MIN_SIZING_SECONDS, LoadSize
from pgload.bench.options import Effort
from pgload.bench.target import BenchTarget, RoundTrip, server_errors
from pgload.contract import PARTS, Setting
from pgload.load.bottleneck import Attribution, attribute, bottleneck_of
from pgload.load.loader import Loader
from pgload.load.observe import Observation, Observer
from pgload.load.stats import LoadResult, latency, profile, timeline

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

Result = TypeVar("Result")

MAX_VARIATION = 0.10  # standard deviation over mean of stable passes, as pyperf has it for runs
MIN_ROUNDS = 2  # under a limit of seconds, if more than one is asked for


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
class Plan:
    """What every pass of a setting does, as it was decided in its first one."""

    repeats: int  # of the dataset in a load
    rounds: int


@dataclass(frozen=True)
class Pass:
    """The timed rounds of a setting in one sweep over all settings."""

    number: int
    seconds: list[float]  # of each round, on the benchmark's clock
    rounds: list[Round]
    rtt: RoundTrip
    checkpoint_between_rounds: bool
    repeats: int = 1  # of the dataset in a load

    @property
    def plan(self) -> Plan:
        """What the other passes of the setting do as well."""
        return Plan(self.repeats, len(self.seconds))

    @property
    def throughput(self) -> float:
        """Records per second: the mean of the rounds' logarithms."""
        timed = zip(self.rounds, self.seconds, strict=True)
        rates = [one.records / seconds for one, seconds in timed]
        return statistics.geometric_mean(rates)


def extra_info(passes: Sequence[Pass]) -> dict[str, Any]:
    """The `extra_info` of a setting in the saved JSON, over all its passes.

    `records` and `bytes` are those of a round, `dataset` has those of the dataset, which a round
    may repeat. What explains the numbers is left out if it cannot be computed, with the reason in
    `incomplete`.
    """
    repeats, first = passes[0].repeats, passes[0].rounds[0]
    seconds = statistics.median(each for one in passes for each in one.seconds)
    measured = {
        "records": first.records,
        "bytes": first.bytes,
        "dataset": {"records": first.records // repeats, "bytes": first.bytes // repeats},
        "records_per_second": first.records / seconds,
        "mb_per_second": first.bytes / 1e6 / seconds,
        "passes": [{"number": one.number, "seconds": one.seconds} for one in passes],
        "checkpoint_between_rounds": passes[-1].checkpoint_between_rounds,
        "verified": True,  # a wrong round raises
    }
    explained, error = attempt(partial(_explanation, passes))
    return measured | (explained or {"incomplete": error})


def attempt(compute: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """What `compute` returns, or None and what to report: it must not cost what was measured."""
    try:
        return compute(), None
    except Exception as error:
        return None, f"could not be computed: {type(error).__name__}: {error}"


def _explanation(passes: Sequence[Pass]) -> dict[str, Any]:
    """What explains a setting's numbers.

    Times are in seconds unless their key has a unit. Medians are over rounds, latencies over all
    batches. `checkpoints` are the seconds from the start of the median round at which checkpoints
    were noticed, `wait_events` the shares of all samples, `counters` the server's for a median
    round.
    """
    rounds = [each for one in passes for each in one.rounds]

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(map(value, rounds))

    def part(name: str) -> float:
        return median(lambda each: each.parts[name])

    parts = {name: part(name) for name in PARTS}
    bottleneck = bottleneck_of(each.bottlenecks for each in rounds)
    median_round = sorted(rounds, key=lambda each: each.seconds)[(len(rounds) - 1) // 2]
    events = sum((Counter(each.wait_events) for each in rounds), Counter[str]())
    return {
        "unstable": unstable([one.throughput for one in passes]),
        "batch_latency": latency([each for one in rounds for each in one.batch_seconds]),
        "client": {
            "cpu_seconds": median(lambda each: each.cpu_seconds),
            "cpu_share": median(lambda each: each.cpu_seconds / each.seconds),
            "encode_cpu_seconds": part("encode_cpu"),
            "write_cpu_seconds": part("write_cpu"),
            "others_share": median(lambda each: each.bottlenecks.circumstances.others),
        },
        "profile": parts,
        **parts,
        "rtt_ms": statistics.median(one.rtt.p50 for one in passes) * 1000,
        "rtt_p99_ms": max(one.rtt.p99 for one in passes) * 1000,
        "wal_bytes_per_record": median(lambda each: each.wal_bytes / each.records),
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
        "retries": sum(each.retries for each in rounds),
    }


def unstable(throughputs: Sequence[float]) -> str | None:
    """Why the passes' throughputs vary too much for a reliable median; None if they do not."""
    if len(throughputs) < 2:
        return "a single pass does not show how much passes vary"
    if variation(throughputs) < MAX_VARIATION:
        return None
    return f"the standard deviation of its passes is {variation(throughputs):.0%} of their mean"


def variation(throughputs: Sequence[float]) -> float:
    """The standard deviation as a share of the mean."""
    return statistics.stdev(throughputs) / statistics.fmean(throughputs)


def measure(
    benchmark: BenchmarkFixture,
    target: BenchTarget,
    dataset: Dataset,
    setting: Setting,
    effort: Effort,
    size: LoadSize,
    *,
    pass_number: int = 1,
    plan: Plan | None = None,
    on_load: Callable[[str], None] = lambda _load: None,
) -> Pass | None:
    """Load the dataset with that setting in timed rounds.

    Without a `plan` from an earlier pass, warm-up loads come first, and decide how often a load
    repeats the dataset. Inside the timed part: encoding, writing, committing. Outside: reading,
    connecting, emptying the tables, and counting and checksumming them after every load. A wrong
    round, or a server or table that changed, raises `LoadError`, and the benchmark has no result.
    Returns None if benchmarks are disabled and nothing is timed. `on_load` is called before each
    load with what it is.
    """
    with (
        server_errors(target.target),
        Loader(target.target.connect, setting.method, connections=setting.connections) as loader,
        Observer(
            target.target.connect, loader.pids, loader.sending, pooled=target.pooled
        ) as observer,
    ):
        loader.prepare(dataset.tables.values())
        target.check_unchanged()
        rtt = target.rtt()
        loads = _Loads(target, dataset, setting, loader, observer)
        if benchmark.disabled:
            plan = Plan(repeats=1, rounds=1)
        elif plan is None:
            least = size.least_repeats(dataset, setting)
            plan = _warm_up(loads, effort, size, least, on_load)
        loads.repeat(plan.repeats)
        loads.forget()

        def setup() -> None:
            on_load(f"load {len(loads.results) + 1} of {plan.rounds}")
            loads.before()

        benchmark.pedantic(loads.run, setup=setup, teardown=loads.after, rounds=plan.rounds)  # type: ignore[no-untyped-call]
        if benchmark.stats is None:  # --benchmark-disable: one load, and no teardown
            loads.after()
            return None
        target.check_unchanged()
    timed = zip(loads.results, loads.observations, loads.wal_bytes, strict=True)
    return Pass(
        number=pass_number,
        seconds=list(benchmark.stats.stats.data),
        rounds=[
            Round.of(result, observation, rtt=rtt.p50, wal_bytes=wal)
            for result, observation, wal in timed
        ],
        rtt=rtt,
        checkpoint_between_rounds=target.may_checkpoint,
        repeats=plan.repeats,
    )


class _Loads:
    """The loads of one setting over connections that are open, and what was observed of them."""

    def __init__(
        self,
        target: BenchTarget,
        dataset: Dataset,
        setting: Setting,
        loader: Loader,
        observer: Observer,
    ) -> None:
        self._target = target
        self._dataset = dataset
        self._batch_size = setting.batch_size
        self._loader = loader
        self._observer = observer
        self.repeat(1)
        self.forget()

    def repeat(self, repeats: int) -> None:
        """Load the dataset that often in every load that follows."""
        self.repeats = repeats
        self._batches = list(self._dataset.batches(self._batch_size, repeats))

    def forget(self) -> None:
        """Drop the results so far: they were of warm-up loads."""
        self.results: list[LoadResult] = []
        self.observations: list[Observation] = []
        self.wal_bytes: list[int] = []

    def before(self) -> None:
        """What comes before the timed part of a load."""
        self._target.reset()
        self.wal_bytes.append(self._target.wal_position())
        self._observer.begin()

    def run(self) -> None:
        """The timed part of a load."""
        self.results.append(self._loader.run(self._batches))

    def after(self) -> None:
        """What comes after the timed part of a load; raises `LoadError` if a row is wrong."""
        self.observations.append(self._observer.end())
        self.wal_bytes[-1] = self._target.wal_position() - self.wal_bytes[-1]
        self._target.verify(self.repeats)


def _warm_up(
    loads: _Loads,
    effort: Effort,
    size: LoadSize,
    least: int,
    on_load: Callable[[str], None],
) -> Plan:
    """Run the warm-up loads, and decide from the last one what every pass does.

    A warm-up load is of the dataset once, or of ten times as much again while that is too short to
    tell how long a load takes. `least` is how often a load has to repeat the dataset.
    """
    asked = max(effort.warmup_rounds, size.for_time or effort.seconds is not None)
    begin, done = time.monotonic(), 0
    while done < asked:
        on_load("warm-up")
        loads.before()
        loads.run()
        loads.after()
        if size.for_time and loads.results[-1].seconds < MIN_SIZING_SECONDS:
            loads.repeat(loads.repeats * 10)
        else:
            done += 1
    if not loads.results:
        return Plan(least, effort.rounds)
    last = loads.results[-1].seconds
    repeats = size.repeats(least, loads.repeats, last)
    if effort.seconds is None:
        return Plan(repeats, effort.rounds)
    spent = time.monotonic() - begin
    around = (spent - sum(each.seconds for each in loads.results)) / len(loads.results)
    affordable = int((effort.seconds - spent) / (around + last * repeats / loads.repeats))
    return Plan(repeats, min(effort.rounds, max(MIN_ROUNDS, affordable)))
