"""Which runs are alive, to find out who else writes a file now.

A run has a key. It is alive while an advisory lock with this key is held. Where a pooler leaves it
no lock, it has a row of the ledger instead, of the file '', in which its beat advances, and which
it deletes at its end. Nothing is lost where a live run is considered dead, since a batch is
committed only once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

from pgload.load.heartbeat import INTERVAL, MISSED, Heartbeat, watch
from pgload.migrate.ledger.queries import LedgerQueries

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# Keys of the advisory locks that are held in this database, and by which backend.
_HELD = """
    SELECT classid::bigint << 32 | objid::bigint, pid FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND database =
        (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"""


class Liveness:
    """Shows that this run is alive, and finds out which others are.

    Runs its statements over the ledger's connection; `connect` opens the connection of the beats;
    `note` is called before a wait with the reason.
    """

    def __init__(
        self,
        ledger: LedgerQueries,
        connect: Callable[[], Connection],
        note: Callable[[str], None],
    ) -> None:
        self.run_id = uuid4().hex
        self.key = int.from_bytes(bytes.fromhex(self.run_id)[:8], signed=True)
        self._ledger = ledger
        self._connect = connect
        self._note = note
        self._heartbeat: Heartbeat | None = None
        self._begun_at = 0.0  # time.monotonic
        self._before: dict[int, int] = {}  # the beats when this run began, by key
        self._seen = set[int]()  # keys of runs whose beat has advanced
        self._dead: dict[int, int] = {}  # by key: the last beat

    def find(self, runs: Collection[int]) -> set[int]:
        """Which of the runs are alive; waits for the beats of those that hold no lock."""
        others = set(runs) - {self.key}
        alive = self.holders().keys() & others
        unknown = self._beats().keys() & (others - alive) if others - alive else set[int]()
        if not unknown:
            return alive
        self._note(
            f"another migration may be writing the same file: waiting up to "
            f"{MISSED * INTERVAL:.0f} s for a sign of it"
        )
        last: dict[int, int] = {}

        def read() -> dict[int, int]:
            last.update((key, beat) for key, beat in self._beats().items() if key in unknown)
            return dict(last)

        self._seen |= watch(read)
        self._dead |= {key: beat for key, beat in last.items() if key not in self._seen}
        return alive | (unknown & self._seen)

    def holders(self) -> dict[int, int]:
        """The backends that hold advisory locks, by the locks' keys."""
        return {key: backend for key, backend in self._ledger.execute(_HELD) if key != self.key}

    def others(self, holders: Collection[int]) -> set[int]:
        """The keys of the other runs that are alive, or may be."""
        return set(holders) | self._beats().keys()

    def is_certain(self, run: int, holders: Collection[int]) -> bool:
        """Whether a run is known to be alive."""
        return run in holders or run in self._seen

    def begin(self, *, pooled: bool) -> None:
        """Show that this run is alive; belongs in the transaction in which it begins files."""
        if self._dead:
            self._ledger.execute(self._delete(self._dead))
        if not pooled:
            self.lock()
            return
        self._before = self._beats()
        self._ledger.execute(self._beat())
        self._begun_at = time.monotonic()

    def lock(self) -> None:
        """Hold this run's lock over the ledger's connection.

        The server may not have noticed yet that the connection which has held it so far is lost.
        """
        self._ledger.execute(
            f"SELECT pg_catalog.pg_terminate_backend(pid) FROM ({_HELD}) AS held (key, pid) "
            f"WHERE key = {self.key} AND pid <> pg_catalog.pg_backend_pid()"
        )
        self._ledger.execute(f"SELECT pg_catalog.pg_advisory_lock({self.key})")

    def start(self) -> None:
        """Advance the beat until `close`."""
        if self._heartbeat is None:
            beat = f"SET LOCAL synchronous_commit = off; {self._beat()}"
            self._heartbeat = Heartbeat(self._connect, beat.encode())

    def close(self) -> None:
        """Show that this run has ended."""
        if self._heartbeat is None:
            return
        # Rows without a beat since this run began are of runs that were killed.
        long_ago = time.monotonic() - self._begun_at > MISSED * INTERVAL
        self._heartbeat.close(self._delete(self._before if long_ago else {}).encode())
        self._heartbeat = None

    def _beats(self) -> dict[int, int]:
        """The beats of other runs by key, without those that are known to be dead."""
        rows = self._ledger.execute(
            f"SELECT l.writers[1], l.beat FROM {self._ledger.source} AS l WHERE file = ''"
        )
        return {key: n for key, n in rows if key != self.key and self._dead.get(key) != n}

    def _beat(self) -> str:
        return (
            f'INSERT INTO {self._ledger.name} AS l (file, "table", first_record, records, '
            f"rejected, batch_size, file_name, run, writers, beat) "
            f"VALUES ('', '{self.run_id}', 0, 0, 0, 0, '', '{self.run_id}', '{{{self.key}}}', 1) "
            'ON CONFLICT (file, "table", first_record) DO UPDATE SET beat = l.beat + 1'
        )

    def _delete(self, beats: Mapping[int, int]) -> str:
        """The statement that deletes the rows of this run and of those with these beats."""
        rows = ", ".join(f"({key}, {beat})" for key, beat in [(self.key, 0), *beats.items()])
        return (
            f"DELETE FROM {self._ledger.name} WHERE file = '' AND "
            f"(\"table\" = '{self.run_id}' OR (writers[1], beat) IN ({rows}))"
        )
