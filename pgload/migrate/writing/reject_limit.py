"""`--max-rejects`: how many rejects end a run."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from pgload.errors import LoadError
from pgload.load.session import EncodedBatch
from pgload.migrate.options import MANY_REJECTS
from pgload.migrate.outputs.rejects import Reject


class RejectLimit:
    """Counts the rejects of all workers: those of committed batches, and those that are held.

    More than `limit` end the run; if it is None, `MANY_REJECTS` do that are more than half of the
    records.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._rejects = 0
        self._held: dict[int, int] = {}  # by worker: rejects of the batch that it is writing
        self._records = 0  # of the batches that are written
        self._lock = Lock()

    def hold(self, worker: int, encoded: EncodedBatch, rejects: Sequence[Reject]) -> None:
        """Count the rejects of a worker's batch, instead of those of an earlier attempt.

        Raises `LoadError` for too many.
        """
        with self._lock:
            self._rejects += len(rejects) - self._held.get(worker, 0)
            self._held[worker] = len(rejects)
            count, records = self._rejects, self._records + len(encoded.batch.records)
        last = f"{encoded.batch.path.name}: record {rejects[-1].record}"
        if self._limit is None:
            if count >= MANY_REJECTS and 2 * count > records:
                raise LoadError(
                    f"{last}: {rejects[-1].message}; {count:,} of the {records:,} records so far "
                    "are rejected: fix the cause, or continue with --max-rejects none"
                )
        elif count > self._limit:
            raise LoadError(
                f"{last} is reject number {count}, and --max-rejects is {self._limit}: "
                f"{rejects[-1].message}"
            )

    def confirm(self, worker: int, records: int) -> None:
        """A worker's batch of `records`, with the rejects that it holds, is committed."""
        with self._lock:
            self._records += records
            self._held.pop(worker, None)

    def drop(self, worker: int) -> None:
        """The rejects that a worker holds, if it holds any, were not committed."""
        with self._lock:
            self._rejects -= self._held.pop(worker, 0)
