"""Fresh passes of the best settings of each cloud, whose numbers nothing was chosen by.

The setting that was the fastest was so partly by luck: its own passes are too high, on average.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pgload.bench.measure import Pass
from pgload.contract import Setting

FINALISTS = 3  # of each cloud
FINAL_PASSES = 3  # at most
MIN_SETTINGS = 4  # of a cloud that has finals: there has to be something to choose from


@dataclass
class Finalist:
    """A setting that is among the best of its cloud, and its fresh loads."""

    test: str
    cloud: str
    setting: Setting
    repeats: int  # of the dataset in a load
    records: int  # in a load
    # As `passes` of a setting: the number, and the seconds of its one load.
    passes: list[dict[str, Any]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """For the saved JSON."""
        seconds = statistics.median(each["seconds"][0] for each in self.passes)
        return {
            **asdict(self.setting),
            "records_per_second": self.records / seconds,
            "passes": self.passes,
        }


def choose_finalists(
    measured: Mapping[str, Sequence[Pass]], settings: Mapping[str, tuple[str, Setting]]
) -> list[Finalist]:
    """The best settings of each cloud, by the means of their passes, best first.

    Passes, and cloud and setting, are by test. A cloud with few settings has none.
    """
    clouds = defaultdict[str, list[str]](list)
    for test in measured:
        clouds[settings[test][0]].append(test)

    def throughput(test: str) -> float:
        return statistics.geometric_mean(each.throughput for each in measured[test])

    return [
        Finalist(
            test=test,
            cloud=cloud,
            setting=settings[test][1],
            repeats=measured[test][0].repeats,
            records=measured[test][0].rounds[0].records,
        )
        for cloud, tests in clouds.items()
        if len({settings[test][1] for test in tests}) >= MIN_SETTINGS
        for test in sorted(tests, key=throughput, reverse=True)[:FINALISTS]
    ]


def run_finals(
    finalists: Sequence[Finalist],
    passes: int,
    load: Callable[[Finalist], float],
    in_time: Callable[[], bool],
) -> None:
    """Load with each finalist once in every pass, the clouds side by side, while there is time.

    `load` returns the seconds; what it raises ends the finals, and the passes so far remain.
    """
    places = defaultdict[str, list[Finalist]](list)
    for each in finalists:
        places[each.cloud].append(each)
    side_by_side = [
        of_cloud[place]
        for place in range(FINALISTS)
        for of_cloud in places.values()
        if place < len(of_cloud)
    ]
    for number in range(1, passes + 1):
        for finalist in side_by_side if number % 2 else side_by_side[::-1]:
            if not in_time():
                return
            finalist.passes.append({"number": number, "seconds": [load(finalist)]})
