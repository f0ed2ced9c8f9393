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
FEWEST_SETTINGS = 4  # in a run of fewer there is no time to drift
DRIFT = 0.05  # less is not worth a word, however steady the rounds are
NOISES = 3.0  # a difference is drift from so many times its standard error


@dataclass
class DriftProbe:
    """The probe of one cloud in a run of `total` settings."""

    setting: Setting
    total: int
    done: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each round, by moment
    records: int = 0

    def before_setting(self, site: BenchTarget, dataset: Dataset) -> None:
        """To be called before each setting that is measured."""
        if self.total < FEWEST_SETTINGS:
            return
        if "start" not in self.seconds:
            self._measure(site, dataset, "start")
        elif "middle" not in self.seconds and self.done >= self.total // 2:
            self._measure(site, dataset, "middle")

    @property
    def is_due(self) -> bool:
        """Whether all settings are done with, and the end is still to be measured."""
        return self.done >= self.total and "start" in self.seconds and "end" not in self.seconds

    def at_the_end(self, site: BenchTarget, dataset: Dataset) -> None:
        """To be called when it is due."""
        self._measure(site, dataset, "end")

    def _measure(self, site: BenchTarget, dataset: Dataset, moment: str) -> None:
        work, setting = list(dataset.batches(self.setting.batch_size)), self.setting
        self.records = dataset.records
        connect = site.target.connect
        try:
            with (
                server_errors(site.target),
                Loader(connect, setting.method, connections=setting.connections) as loader,
            ):
                for _ in range(ROUNDS):
                    site.reset()
                    seconds = loader.run(work).seconds
                    site.verify()
                    self.seconds.setdefault(moment, []).append(seconds)
        except TooManyConnectionsError:  # the settings to come will say so
            self.seconds.pop(moment, None)

    def report(self) -> dict[str, Any] | None:
        """Records per second at each moment, the rounds they come from, and a note on drift."""
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
            "note": drift([self.seconds[each] for each in MOMENTS if each in self.seconds]),
        }


def drift(moments: Sequence[Sequence[float]]) -> str | None:
    """What the seconds of rounds at several moments say of drift between them, if they show any.

    The means of their logarithms are compared. Their standard error comes from the rounds within
    the moments, which are taken to be as noisy as each other.
    """
    logs = [[math.log(each) for each in seconds] for seconds in moments]
    freedom = sum(len(each) - 1 for each in logs)
    if len(logs) < 2 or freedom < 1:
        return None
    variance = sum(statistics.variance(each) * (len(each) - 1) for each in logs) / freedom
    means = [statistics.fmean(each) for each in logs]
    least, most = min(means), max(means)
    error = math.sqrt(variance * (1 / len(logs[0]) + 1 / len(logs[-1])))
    if most - least < max(math.log1p(DRIFT), NOISES * error):
        return None
    became = "slower" if means.index(most) > means.index(least) else "faster"
    return (
        f"the same setting became {math.expm1(most - least):.0%} {became} within this run: numbers "
        "measured early and late are not alike; repeat it with --passes 5, and look for burst "
        "credits, throttling or other load"
    )
