"""One setting, measured at several moments of a run: does the server drift?

Burst credits that run out, throttling and noisy neighbours change a server while it is measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pgload.bench.dataset import Dataset
from pgload.bench.target import BenchTarget, server_errors
from pgload.contract import Setting
from pgload.load.loader import Loader
from pgload.report.student import t_quantile

MOMENTS = 8  # one load at each; the first has a warm-up load before it
MIN_SETTINGS = 4  # a run of fewer settings is too short to drift
MIN_CHANGE = 0.05  # smaller changes are not reported, however steady the loads are
TREND = 0.99  # probability below the t from which a slope is a trend: 1% of others exceed it
MIN_MOMENTS = 5  # fewer do not show a trend


@dataclass
class DriftProbe:
    """Loads with the same setting at moments spread over `total` settings on one cloud."""

    setting: Setting
    total: int  # settings of all passes that are measured, as far as is known
    done: int = 0  # of these
    after: list[int] = field(default_factory=list)  # settings done before each load
    seconds: list[float] = field(default_factory=list)  # of each load
    records: int = 0  # in a load
    failures: list[str] = field(default_factory=list)  # why a load has no result
    _next: int = 0  # moment

    def __post_init__(self) -> None:
        self._moments = min(MOMENTS, self.total + 1) if self.total >= MIN_SETTINGS else 0

    def measure_if_due(self, target: BenchTarget, dataset: Dataset) -> None:
        """Load if it is time to; called before the first setting and after every one.

        A load that fails is noted: it does not belong to a setting, so none fails with it.
        """
        last = self._moments - 1
        if self._next > last or self.done * last < self.total * self._next:
            return
        first = self._next == 0
        self._next = self.done * last // self.total + 1 if self.total else self._moments
        self.records = dataset.records
        try:
            if first:
                load_once(target, dataset, self.setting)
            seconds = load_once(target, dataset, self.setting)
        except Exception as error:
            self.failures.append(str(error))
        else:
            self.after.append(self.done)
            self.seconds.append(seconds)

    def report(self) -> dict[str, Any] | None:
        """For the saved JSON: records per second at the start and the end, all loads, a note."""
        if not self.seconds:
            return None
        return {
            "setting": str(self.setting),
            "start": self.records / self.seconds[0],
            "end": self.records / self.seconds[-1],
            "records": self.records,
            "after_settings": self.after,
            "seconds": self.seconds,
            "failures": self.failures,
            "note": drift_note(self.seconds),
        }


def drift_note(seconds: Sequence[float]) -> str | None:
    """A note if loads at successive moments became slower or faster throughout; None if not.

    A straight line is fitted to the logarithms; its slope is tested against their scatter around
    the line, which is how much neighbouring moments differ, with Student's t at 2%. The middle
    third also has to lie between the others, so that a change that passes is not a trend.
    """
    logs = [math.log(each) for each in seconds if 0 < each < math.inf][-MOMENTS:]
    moments = len(logs)
    if moments < MIN_MOMENTS:
        return None
    numbers = range(moments)
    slope, intercept = statistics.linear_regression(numbers, logs)
    scatter = sum((y - intercept - slope * x) ** 2 for x, y in zip(numbers, logs, strict=True))
    spread = statistics.pvariance(numbers) * moments
    error = math.sqrt(scatter / (moments - 2) / spread)
    change = slope * (moments - 1)
    third = moments // 3
    start, middle, end = map(statistics.fmean, (logs[:third], logs[third:-third], logs[-third:]))
    monotone = start < middle < end or start > middle > end
    if not monotone or abs(change) < math.log1p(MIN_CHANGE):
        return None
    if abs(slope) < t_quantile(moments - 2, TREND) * error:
        return None
    word = "slower" if change > 0 else "faster"
    return (
        f"the same setting was {math.exp(abs(change)):.2f} times {word} at the end of this run "
        "than at its start: look for burst credits, throttling or other load, and repeat it"
    )


def load_once(target: BenchTarget, dataset: Dataset, setting: Setting, repeats: int = 1) -> float:
    """The seconds of one verified load over connections of its own, without observing it."""
    batches = list(dataset.batches(setting.batch_size, repeats))
    with (
        server_errors(target.target),
        Loader(target.target.connect, setting.method, connections=setting.connections) as loader,
    ):
        loader.prepare(dataset.tables.values())
        target.check_unchanged()
        target.reset()
        seconds = loader.run(batches).seconds
        target.verify(repeats)
        target.check_unchanged()
    return seconds
