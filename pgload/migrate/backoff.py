"""The pauses between the attempts of a retry."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST, LONGEST = 0.1, 32.0  # seconds


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt: doubled, less up to half at random.

    So workers that have lost their connections together do not reconnect together.
    """
    longest = FIRST
    while True:
        yield longest * random.uniform(0.5, 1.0)
        longest = min(2 * longest, LONGEST)
