"""One setting, measured at the start, in the middle and at the end of a run: does the server drift?

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
from pgload.errors import TooManyConnectionsError
from pgload.load.loader import Loader

MOMENTS = ("start", "middle", "end")
ROUNDS = 3
MIN_SETTINGS = 4  # a run of fewer settings is too short to drift
MIN_CHANGE = 0.05  # smaller changes are not reported, however steady the rounds are
MIN_ERRORS = 3.0  # a change is drift from this multiple of its standard error on


@dataclass
class DriftProbe:
    """Measures the same setting at several moments of a run of `total` settings on one cloud."""

    setting: Setting
    total: int
    done: int = 0  # settings that are finished, measured or not
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each round, by moment
    records: int = 0

    def before_setting(self, target: BenchTarget, dataset: Dataset) -> None:
        """Measure the start or the middle if it is time to; called before every setting."""
        if self.total < MIN_SETTINGS:
            return
        if "start" not in self.seconds:
            self._measure(target, dataset, "start")
        elif "middle" not in self.seconds and self.done >= self.total // 2:
            self._measure(target, dataset, "middle")

    @property
    def end_is_due(self) -> bool:
        """Whether all settings are finished and the end is not measured yet."""
        return self.done >= self.total and "start" in self.seconds and "end" not in self.seconds

    def measure_end(self, target: BenchTarget, dataset: Dataset) -> None:
        """Measure the end; called when it is due."""
        self._measure(target, dataset, "end")

    def _measure(self, target: BenchTarget, dataset: Dataset, moment: str) -> None:
        setting = self.setting
        batches = list(dataset.batches(setting.batch_size))
        self.records = dataset.records
        connect = target.target.connect
        try:
            with (
                server_errors(target.target),
                Loader(connect, setting.method, connections=setting.connections) as loader,
            ):
                for _ in range(ROUNDS):
                    target.reset()
                    seconds = loader.run(batches).seconds
                    target.verify()
                    self.seconds.setdefault(moment, []).append(seconds)
        except TooManyConnectionsError:  # reported by the settings that follow
            self.seconds.pop(moment, None)

    def report(self) -> dict[str, Any] | None:
        """For the saved JSON: records per second at each moment, the rounds, a note on drift."""
        if "start" not in self.seconds:
            return None
        rates = {
            moment: self.records / statistics.median(seconds)
            for moment, seconds in self.seconds.items()
        }
        return {
            "setting": str(self.setting),
            **rates,
            "rounds": self.seconds,
            "note": drift_note([self.seconds[each] for each in MOMENTS if each in self.seconds]),
        }


def drift_note(moments: Sequence[Sequence[float]]) -> str | None:
    """A note if the rounds' seconds changed between the moments by more than their noise.

    Compares the means of the seconds' logarithms. Their standard error comes from the variance
    pooled over the moments.
    """
    logs = [[math.log(each) for each in seconds] for seconds in moments]
    freedom = sum(len(each) - 1 for each in logs)
    if len(logs) < 2 or freedom < 1:
        return None
    variance = sum(statistics.variance(each) * (len(each) - 1) for each in logs) / freedom
    means = [statistics.fmean(each) for each in logs]
    lowest, highest = min(means), max(means)
    error = math.sqrt(variance * (1 / len(logs[0]) + 1 / len(logs[-1])))
    if highest - lowest < max(math.log1p(MIN_CHANGE), MIN_ERRORS * error):
        return None
    change = "slower" if means.index(highest) > means.index(lowest) else "faster"
    return (
        f"the same setting became {math.expm1(highest - lowest):.0%} {change} within this run: "
        "numbers measured early and late are not comparable; repeat it with --passes 5, and look "
        "for burst credits, throttling or other load"
    )
