"""What a target is: how to reach one server, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgload.errors import TargetError
from pgload.targets.connection_errors import explain

if TYPE_CHECKING:  # the driver is imported on first use: a target is cheap to describe
    from psycopg2.extensions import connection as Connection  # noqa: N812

APPLICATION_NAME = "pgload"


@dataclass(frozen=True)
class Target:
    """The server behind a cloud name.

    `parameters` are libpq keywords; they hold the password and are left out of `repr`.
    """

    cloud: str
    parameters: Mapping[str, Any] = field(repr=False)
    instance_type: str | None = None
    price_per_hour: float | None = None  # in US dollars
    known: Mapping[str, Any] = field(default_factory=dict)  # what else belongs beside its numbers

    def connect(self) -> Connection:
        """Open one connection: autocommit, UTF-8, `standard_conforming_strings` on.

        Literals and COPY text are made by hand in `load`, which is right only under these two
        settings; so they are set here and checked. Autocommit because a statement is then its
        own transaction, without round trips for BEGIN and COMMIT.

        Raises `TargetError` when the server cannot be reached or refuses the settings, its child
        `TooManyConnectionsError` when it has no connection left.
        """
        import psycopg2

        ours = {"application_name": APPLICATION_NAME, "client_encoding": "UTF8"}
        try:
            connection: Connection = psycopg2.connect(**{**self.parameters, **ours})
        except (psycopg2.Error, ValueError, TypeError) as error:  # no traceback shows a password
            raise explain(self.cloud, self.parameters, error) from None
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET standard_conforming_strings = on")
        status = connection.info.parameter_status
        for name, wanted in (("client_encoding", "UTF8"), ("standard_conforming_strings", "on")):
            if status(name) != wanted:
                connection.close()
                raise TargetError(f"{self.cloud}: the server keeps {name} at {status(name)!r}")
        return connection
