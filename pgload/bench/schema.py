"""The schema that benchmarks write to: one run has it at a time, and drops it at its end.

Its comment names the run. A run is alive while it holds an advisory lock over its session; where a
pooler leaves it no session, while its beat advances, a sequence in the schema (see
`pgload.load.heartbeat`). What is left by a run that was killed is dropped by the next one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from pgload.errors import TargetError
from pgload.load.heartbeat import Heartbeat, watch
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SCHEMA = "pgload_bench"
COMMENT = "made by pgload for a benchmark, which drops it"  # tells it from a user's
RUN = uuid4().hex  # this process
_BEAT = f"{SCHEMA}.pgload_beat"
_LOCK_KEY = f"pg_catalog.hashtext('{SCHEMA}')"
# Only functions of the catalog: whoever has made the schema may have put any code into it.
_FIND = f"""
    SELECT pg_catalog.obj_description(oid, 'pg_namespace'),
        pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass('{_BEAT}'))
    FROM pg_catalog.pg_namespace WHERE nspname = '{SCHEMA}'"""


class BenchSchema:
    """The schema on one target; `pooled` if its connections go through a pooler."""

    def __init__(
        self, target: Target, connection: Connection, *, pooled: bool, run: str = RUN
    ) -> None:
        self._target = target
        self._connection = connection
        self._pooled = pooled
        self._comment = f"{COMMENT}; run {run}"
        self._heartbeat: Heartbeat | None = None
        self._made = False

    def make(self) -> bool:
        """Make the schema, empty. Gives False if another target of this run has made it already.

        Raises `TargetError` when another benchmark uses the schema, or when no benchmark made it.
        """
        import psycopg2

        last: int | None = None

        def read() -> dict[str, int]:
            nonlocal last
            with self._connection.cursor() as cursor:
                _, last = _find(cursor)
            return {} if last is None else {SCHEMA: last}

        with self._connection.cursor() as cursor:
            if _find(cursor)[0] == self._comment:
                return False
            if watch(read):
                raise self._in_use()
            cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                if not _lock(cursor, "xact_lock" if self._pooled else "lock"):
                    raise self._in_use()
                comment, beat = _find(cursor)
                if beat != last:
                    raise self._in_use()
                self._replace(cursor, comment)
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(psycopg2.Error):  # the connection may be lost
                    cursor.execute("ROLLBACK")
                raise
        self._made = True
        if self._pooled:
            beat_statement = f"SELECT pg_catalog.nextval('{_BEAT}')".encode()
            self._heartbeat = Heartbeat(self._target.connect, beat_statement)
        return True

    def drop(self) -> None:
        """Drop the schema, if it is this run's still; over a new connection if the old one is gone.

        If that fails as well, the next benchmark drops it.
        """
        import psycopg2

        if self._heartbeat:
            self._heartbeat.close()
        if not self._made:
            return
        with suppress(psycopg2.Error, TargetError):
            lost = bool(self._connection.closed)
            usable = self._target.connect() if lost else self._connection
            with usable.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
                if _lock(cursor, "xact_lock") and _find(cursor)[0] == self._comment:
                    cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
                cursor.execute("COMMIT")
            if lost:
                usable.close()

    def _replace(self, cursor: Cursor, comment: str | None) -> None:
        """Drop what a run that was killed has left, and make the schema anew."""
        cursor.execute(f"SELECT pg_catalog.to_regnamespace('{SCHEMA}') IS NOT NULL")
        ((exists,),) = cursor.fetchall()
        if exists:
            if not (comment or "").startswith(COMMENT):
                raise TargetError(
                    f"{self._target.cloud}: the schema {SCHEMA} exists and was not made by a "
                    "benchmark; rename or drop it"
                )
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        # In one transaction: a schema without the comment would be taken for a user's.
        cursor.execute(f"CREATE SCHEMA {SCHEMA}; COMMENT ON SCHEMA {SCHEMA} IS '{self._comment}'")
        if self._pooled:
            cursor.execute(f"CREATE SEQUENCE {_BEAT}; SELECT pg_catalog.nextval('{_BEAT}')")

    def _in_use(self) -> TargetError:
        return TargetError(
            f"{self._target.cloud}: another benchmark is running in this database; "
            "wait until it has ended"
        )


def _find(cursor: Cursor) -> tuple[str | None, int | None]:
    """The schema's comment and its run's beat, as far as there are any."""
    cursor.execute(_FIND)
    found = cursor.fetchone()
    return (found[0], found[1]) if found else (None, None)


def _lock(cursor: Cursor, kind: str) -> bool:
    cursor.execute(f"SELECT pg_catalog.pg_try_advisory_{kind}({_LOCK_KEY})")
    ((locked,),) = cursor.fetchall()
    return bool(locked)
