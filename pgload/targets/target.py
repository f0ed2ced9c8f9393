"""A target: how to connect to one server, and the facts about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgload.errors import TargetError
from pgload.targets.connection_errors import connection_error
from pgload.targets.pooler import is_pooled

if TYPE_CHECKING:  # the driver is imported on the first connection
    from psycopg2.extensions import connection as Connection  # noqa: N812

APPLICATION_NAME = "pgload"
POLL_SECONDS = 0.05  # between two attempts to connect to a server that is starting


@dataclass(frozen=True)
class Target:
    """The server behind a cloud name.

    `parameters` are libpq keywords; as they hold the password, `repr` omits them.
    """

    cloud: str
    parameters: Mapping[str, Any] = field(repr=False)
    instance_type: str | None = None
    price_per_hour: float | None = None  # in US dollars
    facts: Mapping[str, Any] = field(default_factory=dict)  # saved with its measurements

    def connect(self) -> Connection:
        """Open one connection: autocommit, UTF-8, `standard_conforming_strings` on.

        `load` builds literals and COPY text itself, which is correct only under these two
        settings, so they are set and checked. With autocommit a statement is its own transaction,
        without round trips for BEGIN and COMMIT.

        Raises `TargetError` when the server cannot be reached or refuses the settings, and its
        subclass `TooManyConnectionsError` when no connection is left.
        """
        import psycopg2

        ours = {"application_name": APPLICATION_NAME, "client_encoding": "UTF8"}
        try:
            connection: Connection = psycopg2.connect(**{**self.parameters, **ours})
        except (psycopg2.Error, ValueError, TypeError) as error:
            # From None, as the driver's traceback may hold the password.
            raise connection_error(self.cloud, self.parameters, error) from None
        connection.autocommit = True
        status = connection.info.parameter_status
        # Only where it is off: a proxy may reserve a server connection for a client that sets
        # something.
        if status("standard_conforming_strings") != "on":
            if is_pooled(connection):
                connection.close()
                raise TargetError(
                    f"{self.cloud}: standard_conforming_strings is off, and a pooler keeps no "
                    "setting for its clients: run ALTER ROLE … SET standard_conforming_strings = "
                    "on, or connect to the server directly"
                )
            with connection.cursor() as cursor:
                cursor.execute("SET standard_conforming_strings = on")
        for name, wanted in (("client_encoding", "UTF8"), ("standard_conforming_strings", "on")):
            if status(name) != wanted:
                connection.close()
                raise TargetError(
                    f"{self.cloud}: {name} is {status(name)!r} after it was set to {wanted!r}: "
                    "connect to the server directly, not through a pooler that refuses it"
                )
        return connection


def wait_until_up(target: Target, failure: Callable[[], str | None], seconds: float) -> None:
    """Wait until a server that was just started accepts connections.

    `failure` returns the reason once the server cannot start any more, and None before. Raises
    `TargetError` with that reason, or with the last error of connecting after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            target.connect().close()
            return
        except TargetError as error:
            reason = failure()
            if reason is None and time.monotonic() > deadline:
                last = str(error).removeprefix(f"{target.cloud}: ")
                reason = f"no connection within {seconds:.0f} s: {last}"
            if reason is not None:
                raise TargetError(f"{target.cloud}: the server did not start: {reason}") from None
        time.sleep(POLL_SECONDS)
