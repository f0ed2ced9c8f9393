"""Batches for tests of what is computed from them."""

from pgload.load.stats import BatchStat


def batch_of(seconds: float) -> BatchStat:
    """A batch that took that long, all of it in the write."""
    return BatchStat(1, "f.json", "t", 1, 10, 100, 0, 0.0, 0.0, seconds, 0.0)
