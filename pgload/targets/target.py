"""A target: how to connect to one server, and the facts about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from pgload.errors import RefusedLoginError, TargetError
from pgload.targets.connection_errors import connection_error
from pgload.targets.identity import Identity, stored_password
from pgload.targets.parameters import variable_name
from pgload.targets.pooler import is_pooled

if TYPE_CHECKING:  # the driver is imported on the first connection
    from psycopg2.extensions import connection as Connection  # noqa: N812

APPLICATION_NAME = "pgload"
POLL_SECONDS = 0.05  # between two attempts to connect to a server that is starting


@dataclass(frozen=True)
class Target:
    """The server behind a cloud name.

    `parameters` are libpq keywords, without a password: each connection asks `identity` for it.
    `repr` omits both, as the passphrase of a key may be among the parameters.
    """

    cloud: str
    parameters: Mapping[str, Any] = field(repr=False)
    identity: Identity = field(default=stored_password(), repr=False)
    set_by: Mapping[str, str] = field(default_factory=dict)  # the variables, by keyword
    instance_type: str | None = None
    price_per_hour: float | None = None  # in US dollars
    facts: Mapping[str, Any] = field(default_factory=dict)  # saved with its measurements

    def connect(self) -> Connection:
        """Open one connection: autocommit, UTF-8, `standard_conforming_strings` on.

        `load` builds literals and COPY text itself, which is correct only under these two
        settings, so they are set and checked. With autocommit a statement is its own transaction,
        without round trips for BEGIN and COMMIT.

        After a refusal one more attempt is made if the next secret may differ.

        Raises `TargetError` when the server cannot be reached or refuses the settings, its subclass
        `RefusedLoginError` when another attempt would be refused as well, and its subclass
        `TooManyConnectionsError` when no connection is left.
        """
        try:
            connection = self._open()
        except TargetError as error:
            # Without the frames below this one, whose variables hold the secret: pytest -l shows
            # the variables of every frame.
            raise error.with_traceback(None) from None
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

    def with_secret(self) -> dict[str, Any]:
        """The libpq keywords of one new connection, with a fresh secret. Raises `TargetError`."""
        try:
            secret = self.identity.secret(self.parameters)
        except TargetError as error:
            raise error.with_traceback(None) from None  # as in `connect`
        return {**self.parameters, **({} if secret is None else {"password": secret})}

    def variable(self, keyword: str) -> str:
        """The variable that sets a keyword: the one that was used, else the one to use."""
        if keyword == "password" and self.identity.setting is not None:
            return self.identity.setting
        return self.set_by.get(keyword, variable_name(self.cloud, keyword))

    def _open(self) -> Connection:
        """`connect` without the settings."""
        try:
            return self._attempt()
        except RefusedLoginError:
            if not self.identity.renewable:
                raise
        return self._attempt()

    def _attempt(self) -> Connection:
        import psycopg2

        arguments = {"application_name": APPLICATION_NAME, **self.with_secret()}
        arguments["client_encoding"] = "UTF8"
        if "host" in arguments:
            arguments.setdefault("hostaddr", "")  # or PGHOSTADDR would take the host's place
        try:
            connection: Connection = psycopg2.connect(
                **arguments, connection_factory=_connection_class()
            )
        except (psycopg2.Error, ValueError, TypeError) as error:
            # From None, as the driver's traceback may hold the password.
            raise connection_error(self, arguments, error) from None
        return connection


@cache
def _connection_class() -> type[Connection]:
    """The driver's class with a `repr` of its own: the driver's hides no passphrase of a key."""
    from psycopg2.extensions import connection

    class Connection(connection):
        def __repr__(self) -> str:
            return f"<connection at {id(self):#x}, closed: {self.closed}>"

    return Connection


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
