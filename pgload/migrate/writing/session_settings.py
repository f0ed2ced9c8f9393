"""Settings that bound how long a lost connection or a lock can block a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

LONGEST_LOCK_WAIT = 30.0  # seconds; then the wait is reported, and the batch retried


def session_settings(retry_timeout: float) -> bytes:
    """The settings of a connection; `retry_timeout` is in seconds.

    A batch whose connection is lost is retried at once, and its ledger row then waits until the
    server closes the lost connection, by default after hours. A wait for a lock ends, so that it
    counts against `retry_timeout`; a shorter `lock_timeout` of the role stays.
    """
    wait = _lock_timeout(retry_timeout)
    return f"""
        SET idle_in_transaction_session_timeout = '1min';
        SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10;
        SET tcp_keepalives_count = 3; SET tcp_user_timeout = 60000;
        SELECT pg_catalog.set_config('lock_timeout', '{wait}', false) FROM pg_catalog.pg_settings
        WHERE name = 'lock_timeout' AND setting::bigint NOT BETWEEN 1 AND {wait}
    """.encode()


def transaction_settings(retry_timeout: float, connection: Connection) -> bytes:
    """The settings of a transaction, where a pooler leaves none to the session: `lock_timeout`."""
    wait = _lock_timeout(retry_timeout)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setting::bigint NOT BETWEEN 1 AND %s FROM pg_catalog.pg_settings "
            "WHERE name = 'lock_timeout'",
            (wait,),
        )
        ((longer,),) = cursor.fetchall()
    return f"SET LOCAL lock_timeout = {wait}".encode() if longer else b""


def _lock_timeout(retry_timeout: float) -> int:
    """In milliseconds."""
    return round(1000 * min(retry_timeout, LONGEST_LOCK_WAIT))
