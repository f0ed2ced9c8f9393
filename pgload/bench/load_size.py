"""How many records a load needs to show its setting, and how often it repeats the dataset."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgload.contract import Setting

if TYPE_CHECKING:
    from pgload.bench.dataset import Dataset

# With fewer, a good part of a load is the time in which some connections have no batch any more.
MIN_BATCHES = 10  # of each connection
MIN_ROUND_SECONDS = 1.0
# Seconds that a round is planned to last: a server may be faster than in the warm-up load.
PLANNED_SECONDS = 1.1
# A load that is much shorter says little of how long a longer one takes.
MIN_SIZING_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LoadSize:
    """How a load's size may be chosen: the dataset is repeated for batches, for time, or not."""

    for_batches: bool
    for_time: bool

    def least_repeats(self, dataset: Dataset, setting: Setting) -> int:
        """How often the dataset has to be loaded to give every connection its batches."""
        batches = dataset.whole_batches(setting.batch_size)
        if not (self.for_batches and batches):
            return 1
        return math.ceil(MIN_BATCHES * setting.connections / batches)

    def repeats(self, least: int, loaded: int, seconds: float) -> int:
        """How often to load the dataset, `least` or more, given the seconds of `loaded` times."""
        if not self.for_time:
            return least
        return max(least, math.ceil(loaded * PLANNED_SECONDS / seconds))

    def repeats_for(self, load: Callable[[int], float]) -> int:
        """How often to load the dataset, by what `load` takes: seconds for that many times."""
        if not self.for_time:
            return 1
        loaded = 1
        while (seconds := load(loaded)) < MIN_SIZING_SECONDS:
            loaded *= 10
        return self.repeats(least=1, loaded=loaded, seconds=seconds)


def too_few_records(dataset: Dataset, setting: Setting, size: LoadSize) -> str | None:
    """Why the dataset cannot show the setting, and the records that it would need, or None."""
    batch_size, connections = setting.batch_size, setting.connections
    batches = dataset.whole_batches(batch_size)
    if not batches:
        short = f"no file fills a batch of {batch_size}"
    elif not size.for_batches and batches < MIN_BATCHES * connections:
        each = f"{MIN_BATCHES} on each of {connections} connections"
        short = f"too few batches ({batches}) for {each}"
    else:
        return None
    needed = MIN_BATCHES * connections * batch_size if not size.for_batches else batch_size
    if len(dataset.files) == 1:
        return f"{short}; needs {needed:,} records (--records {needed})"
    # The records at the end of a file that do not fill a batch: at most one batch for each file.
    needed += (len(dataset.files) - 1) * batch_size
    return f"{short}; needs {needed:,} records in its {len(dataset.files)} files"
