"""Whether a connection goes through a pooler, which gives it another server connection at times.

Poolers such as PgBouncer in transaction mode, which clouds offer as well, give a client a
connection to the server for one transaction at a time. Whatever outlives a transaction is then on
a connection that another client gets next: settings, temporary tables, session locks, prepared
statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler is between client and server; takes one round trip.

    On connecting a server sends the process id with which a query can be canceled. A pooler sends
    a number of its own, since it does not know yet which process will run the client's queries.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_backend_pid()")
        ((process_id,),) = cursor.fetchall()
    return bool(process_id != connection.info.backend_pid)
