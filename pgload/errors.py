"""Errors that a user can mend: one line each, in lower case, with the value in it and what to do.

Both doors print the message of a `PgloadError` without a traceback; anything else is a bug.
"""

from __future__ import annotations

from pathlib import Path


class PgloadError(Exception):
    """Base of all errors whose message is written for the user."""


class UsageError(PgloadError):
    """A wrong option, or a configuration with something missing."""


class TargetError(PgloadError):
    """A server that cannot be started, reached or used."""


class TooManyConnectionsError(TargetError):
    """The server takes no further connection."""


class SourceError(PgloadError):
    """A file that holds no data: not JSON, an error reply, empty, unreadable."""


class RecordError(SourceError):
    """One record that no column can take; the message names file, record number and reason.

    So do the attributes, as far as it is known, for whoever goes on with the other records.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        record: int | None = None,
        field: str | None = None,
        column: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.record = record  # counted from 1
        self.field = field
        self.column = column
        self.reason = reason


class LoadError(PgloadError):
    """A load that ended early; the message names file, records, table and the server's reason."""


class OutputError(PgloadError):
    """A run's files cannot be written: a full disk, a folder without permission."""
