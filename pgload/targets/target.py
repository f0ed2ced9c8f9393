"""A target: how to connect to one server, and the facts about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgload.errors import TargetError
from pgload.targets.connection_errors import connection_error

if TYPE_CHECKING:  # the driver is imported on the first connection
    from psycopg2.extensions import connection as Connection  # noqa: N812

APPLICATION_NAME = "pgload"


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
        with connection.cursor() as cursor:
            cursor.execute("SET standard_conforming_strings = on")
        status = connection.info.parameter_status
        for name, wanted in (("client_encoding", "UTF8"), ("standard_conforming_strings", "on")):
            if status(name) != wanted:
                connection.close()
                raise TargetError(
                    f"{self.cloud}: {name} is {status(name)!r} after it was set to {wanted!r}: "
                    "connect to the server directly, not through a pooler that refuses it"
                )
        return connection
