"""The connection of the main thread, which plans and keeps the ledger, and how it is opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from pgload.errors import TargetError, UsageError
from pgload.migrate.backoff import pauses
from pgload.migrate.console import say
from pgload.migrate.signals import StopOnSignal
from pgload.migrate.sqlstates import is_transient, must_reconnect
from pgload.migrate.writing.session_settings import session_settings
from pgload.targets.cloud import Environment, check_cloud, chosen_cloud, open_target
from pgload.targets.connection_errors import check_server, one_line_errors
from pgload.targets.pooler import is_pooled
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SIGNAL_INTERVAL = 0.2  # seconds; a signal that arrives just before a wait is handled at its end
Result = TypeVar("Result")


class Control:
    """A connection that is renewed after transient errors, within `retry_timeout` seconds."""

    def __init__(self, target: Target, retry_timeout: float) -> None:
        self.target = target
        self._retry_timeout = retry_timeout
        self._connection: Connection | None = None
        self._began = 0.0  # when the server last made progress; time.monotonic

    @property
    def connection(self) -> Connection:
        """The connection; opened if there is none. Raises `TargetError`."""
        if self._connection is None or self._connection.closed:
            self._connection = interruptible(self.target.connect)
            if not is_pooled(self._connection):
                with self._connection.cursor() as cursor:
                    cursor.execute(session_settings(self._retry_timeout))
        return self._connection

    def run(self, action: Callable[[Connection], Result], note: Callable[[str], None]) -> Result:
        """What `action(connection)` returns; it is called again after a transient error.

        `note` is called with the reason. Raises the error that is not transient or does not pass.
        """
        import psycopg2

        self.progressed()
        for pause in pauses():
            try:
                return action(self.connection)
            except (psycopg2.Error, TargetError) as error:
                tried = time.monotonic() - self._began
                if not is_transient(error) or tried > self._retry_timeout:
                    raise
                if must_reconnect(error):
                    self.close()
                note(f"{self.target.cloud}: {' '.join(str(error).split())}: trying again")
            time.sleep(pause)
        raise AssertionError  # pragma: no cover: `pauses` does not end

    def progressed(self) -> None:
        """Count `retry_timeout` from now on, as a long action has received an answer."""
        self._began = time.monotonic()

    def cancel(self) -> None:
        """Cancel what the server runs for the main thread; may be called from any thread."""
        if self._connection is not None:
            self._connection.cancel()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()


def interruptible(connect: Callable[[], Result]) -> Result:
    """What `connect()` returns, called in a thread, so that Ctrl-C interrupts the wait."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(connect())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="pgload-connect", daemon=True).start()
    while True:
        with suppress(TimeoutError):
            done.exception(timeout=SIGNAL_INTERVAL)
            return done.result()


def with_timeouts(target: Target, retry_timeout: float) -> Target:
    """The target with connections that notice a silent network within `retry_timeout`.

    Half of it, so that another attempt follows; what is configured is never made longer.
    """
    half = max(int(retry_timeout / 2), 1)  # seconds
    limits = {
        "connect_timeout": max(half, 2),
        "keepalives_idle": max(half - 20, 1),
        "keepalives_interval": max(min(half // 4, 10), 1),
        "tcp_user_timeout": 1000 * half,  # ms
    }
    parameters = dict(target.parameters)
    if str(parameters.get("host", "")).startswith("/"):  # a socket of this machine
        return target
    for name, limit in limits.items():
        with suppress(ValueError):  # libpq reports what is not a number
            given = int(parameters.get(name) or 0)
            parameters[name] = min(given, limit) if given > 0 else limit
    if "," in str(parameters.get("host", "")):  # after a failover, the one that takes writes
        parameters.setdefault("target_session_attrs", "read-write")
    return replace(target, parameters=parameters)


@contextmanager
def open_control(
    cloud: str, variables: Environment, retry_timeout: float, privileges: str
) -> Iterator[tuple[Control, StopOnSignal]]:
    """A `Control` for a cloud, and the signals that interrupt it; reports the server's version.

    `privileges` is what the user needs, for the error where the server denies something.
    """
    with ExitStack() as stack:
        signals = stack.enter_context(StopOnSignal())
        target = with_timeouts(stack.enter_context(open_target(cloud, variables)), retry_timeout)
        stack.enter_context(one_line_errors(target, privileges))
        # `Control` opens another connection: one that is idle for long may be cut.
        with connected(target) as connection:
            pooler = ", through a connection pooler" if is_pooled(connection) else ""
            say(f"{cloud}: PostgreSQL {connection.info.parameter_status('server_version')}{pooler}")
        control = Control(target, retry_timeout)
        stack.callback(control.close)
        signals.cancel = control.cancel
        yield control, signals


@contextmanager
def connected(target: Target) -> Iterator[Connection]:
    """A connection to a server that pgload supports, closed at the end."""
    connection = interruptible(target.connect)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            ((product,),) = cursor.fetchall()
        check_server(target, connection.server_version, product)
        yield connection
    finally:
        connection.close()


def cloud_of(name: str | None, variables: Environment) -> str:
    """The name of the cloud, by default that of `.env`.

    Raises `UsageError` for a cloud that is not configured.
    """
    cloud = chosen_cloud(variables) if name is None else name.strip().upper()
    if "," in cloud:
        raise UsageError(f"--cloud {cloud}: a migration has one target; name one of them")
    check_cloud(cloud, variables, None)
    return cloud
