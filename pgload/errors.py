"""Errors that a user can fix: one line each, in lower case, with the value in it and what to do.

The command line and the pytest plugin print the message of a `PgloadError` without a traceback;
any other exception is a bug.
"""

from __future__ import annotations

from pathlib import Path


class PgloadError(Exception):
    """Base of all errors whose message is written for the user."""


class UsageError(PgloadError):
    """A wrong option, or a configuration with something missing."""


class TargetError(PgloadError):
    """A server that cannot be started, reached or used."""


class RefusedLoginError(TargetError):
    """A connection that the server or libpq refuses, as it would refuse the next attempt."""


class TooManyConnectionsError(TargetError):
    """The server accepts no further connection."""


class SourceError(PgloadError):
    """A file without usable data: not JSON, an error reply, empty, unreadable."""


class RecordError(SourceError):
    """One record that cannot be stored; the message names file, record number and reason.

    The attributes hold the same facts, as far as they are known, for callers that reject the
    record and continue with the others.
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


def message_of(error: Exception) -> str:
    """The message of a library's error on one line."""
    return " ".join(str(error).split())
