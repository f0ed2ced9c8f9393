"""Whether the server still has what it has confirmed.

With `synchronous_commit = off` a server that crashes loses commits that it has confirmed, and with
asynchronous replication a standby that takes over may lack some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.plan import FilePlan

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# A commit that waits for the disk makes all earlier ones durable, too. The message is what the
# transaction writes; nothing reads it.
_COMMIT = (
    "BEGIN; SET LOCAL synchronous_commit = on; "
    "SELECT pg_catalog.pg_logical_emit_message(true, 'pgload', 'loaded'); COMMIT"
)


def make_durable(connection: Connection) -> None:
    """Wait until all commits so far are on the server's disk."""
    with connection.cursor() as cursor:
        cursor.execute(_COMMIT)


def lost_records(
    files: Sequence[FilePlan], read: Mapping[Path, int], ledger: Ledger
) -> dict[Path, int]:
    """The records of each file that are no longer committed, of files that have lost any.

    `read` has how many were read of each file, all of which were committed.
    """
    there = ledger.accounted([file.in_ledger for file in files])
    lost = {file.path: read[file.path] - there.get(file.in_ledger.key, 0) for file in files}
    return {path: records for path, records in lost.items() if records > 0}
