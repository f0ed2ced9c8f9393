"""The driver's errors as one line: the fault, the variable to check, what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from select import select
from typing import TYPE_CHECKING, Any

from pgload.errors import RefusedLoginError, TargetError, TooManyConnectionsError, message_of

if TYPE_CHECKING:
    from pgload.targets.target import Target

OLDEST_VERSION = 13  # the oldest major version of PostgreSQL that is supported
PROBE_SECONDS = 15.0  # that the attempt for an SQLSTATE may take
PQERRORS_SQLSTATE = 3  # of libpq's PGVerbosity: a message is severity and SQLSTATE


@dataclass(frozen=True)
class _Failure:
    """A reason why a connection fails, and how it is recognised."""

    pattern: str  # in the message of libpq, or of a server that speaks English
    # Ours, with {host}, {user}, … and {set[keyword]}, the variable of a keyword; also with the
    # groups of the pattern, and {variable}, that of the keyword in its group `keyword`.
    text: str
    sqlstate: str = ""  # of a server that speaks another language
    kind: type[TargetError] = RefusedLoginError


_FAILURES = (
    _Failure(
        r"could not translate host name",
        "the host {host!r} is unknown: check {set[host]}",
        kind=TargetError,
    ),
    _Failure(
        r"Connection refused",
        "nothing listens at {host}:{port}: check {set[host port]}, and that the server runs",
        kind=TargetError,
    ),
    _Failure(
        r"timeout expired|timed out|No route to host|Network is unreachable",
        "{host}:{port} does not answer: check {set[host]}, and that the server's firewall or "
        "authorised networks admit this machine",
        kind=TargetError,
    ),
    _Failure(
        r"too many (clients|connections)|remaining connection slots|no more connections allowed",
        "the server has no connection left for user {user!r}: end other clients, raise its "
        "max_connections (or the limit of that role or database), or use fewer connections",
        "53300",
        TooManyConnectionsError,
    ),
    _Failure(
        r"the database system is|terminating connection",
        "the server is starting or stopping ({message})",
        "57P03",
        TargetError,
    ),
    _Failure(
        r"definition of service \"(?P<name>.*)\" not found",
        "there is no service {name!r}: check {set[service]}, and PGSERVICEFILE or "
        "~/.pg_service.conf",
    ),
    _Failure(r"service file", "{message}: check {set[service]} and PGSERVICEFILE"),
    _Failure(
        r"invalid integer value .* for connection option \"(?P<keyword>\w+)\"",
        "{message}: check {variable}",
    ),
    _Failure(r"invalid \"?(?P<keyword>\w+)\"? value: ", "{message}: check {variable}"),
    _Failure(
        r"invalid port number|could not match \d+ port numbers", "{message}: check {set[port host]}"
    ),
    _Failure(
        r"could not parse network address|could not match \d+ host names",
        "{message}: check {set[hostaddr host]}",
    ),
    _Failure(
        r"unrecognized configuration parameter|invalid value for parameter|requires a value$",
        "{message}: check {set[options]}",
    ),
    _Failure(
        r"requires a valid client certificate|certificate required",
        "the server requires a client certificate: set {set[sslcert sslkey]} to files that exist",
    ),
    _Failure(
        r"certificate authentication failed",
        "the client certificate is not one for user {user!r}: check {set[sslcert user]}",
    ),
    _Failure(
        r"alert (unknown ca|bad certificate|certificate|decrypt error|unsupported certificate)",
        "the server does not accept the client certificate: check {set[sslcert]}, which has to be "
        "valid and signed by an authority that the server knows",
    ),
    _Failure(
        r"(?<!root )certificate (file|present)|private key|certificate does not match",
        "the client certificate cannot be used: {message}: check {set[sslcert sslkey]}",
    ),
    _Failure(
        r"authentication method requirement|channel binding",
        "{message}: check {set[require_auth channel_binding]}",
    ),
    _Failure(
        r"no password supplied",
        "the server asks for a password of user {user!r}, and there is none: set {set[password]}, "
        "or check {set[passfile]}, which others must not be able to read",
    ),
    _Failure(
        r"password retrieved from file \"(?P<file>.*)\"",
        "the server refuses the password of user {user!r} in {file}: check {set[user]} and that "
        "file",
    ),
    _Failure(
        r"authentication failed",
        "the server refuses the password of user {user!r}: check {set[user password]}",
        "28P01",
    ),
    _Failure(
        r"is not permitted to log in",
        "user {user!r} may not log in: check {set[user]}, or run ALTER ROLE … LOGIN there",
    ),
    _Failure(
        r"no pg_hba\.conf entry",
        "the server does not admit user {user!r} to database {dbname!r} from here with "
        "sslmode={sslmode}: check {set[sslmode user]} and the server's pg_hba.conf",
        "28000",
    ),
    _Failure(
        r"server does not support SSL",
        "the server refuses TLS, which {set[sslmode]}={sslmode} requires: turn TLS on there, or "
        "set {set[sslmode]}=disable if you trust the network",
    ),
    _Failure(
        r"root certificate file",
        "there is no root certificate to check the server's with: set {set[sslrootcert]} to the "
        "provider's file, or {set[sslmode]}=require to omit the check",
    ),
    _Failure(
        r"database \".*\" does not exist",
        "there is no database {dbname!r}: check {set[dbname]}, or create it",
        "3D000",
    ),
    _Failure(
        r"role \".*\" does not exist",
        "there is no user {user!r}: check {set[user]}, or create it",
    ),
    _Failure(
        r"permission denied for database",
        "user {user!r} may not connect to database {dbname!r}: check {set[dbname user]}, or grant "
        "CONNECT on it",
        "42501",
    ),
    _Failure(  # after those whose message has a name in it, as that of a database "certificates"
        r"certificate verify failed|does not match host name|certificate",
        "the server's certificate does not pass sslmode={sslmode}: check {set[sslrootcert]} and "
        "that {set[host]} is the name in the certificate",
    ),
    _Failure(
        r"invalid response to SSL negotiation|expected authentication request|protocol version",
        "the server at {host}:{port} is not PostgreSQL: check {set[port]}",
        kind=TargetError,  # also what a load balancer answers during a failover
    ),
)
_ADDRESS = re.compile(
    r'connection to server (?:at "([^"]*)"(?: \([^)]*\))?, port (\d+)|on socket "[^"]*") failed: '
)
# How libpq words what the server answers, whatever its language: `FATAL:  sorry, too many clients`.
_ANSWER = re.compile(r"(?:^|failed: )\S+:  ")


class _Variables(dict[str, str]):
    """`"user password"` → the variables of these keywords, joined."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __missing__(self, keywords: str) -> str:
        return " and ".join(dict.fromkeys(map(self._target.variable, keywords.split())))


def connection_error(target: Target, arguments: Mapping[str, Any], error: Exception) -> TargetError:
    """The error to raise for the driver's error while connecting; never holds the password.

    `arguments` are those of the connection that failed, with the password.
    """
    import psycopg2

    if not isinstance(error, psycopg2.Error):
        names = dict.fromkeys([*target.set_by.values(), target.variable("password")])
        return TargetError(
            f"{target.cloud}: the driver cannot use what is set ({type(error).__name__}): check "
            f"{', '.join(names)} for unusual characters"
        )
    message, password = message_of(error), str(arguments.get("password") or "")

    def hide(text: str) -> str:
        return text.replace(password, "***") if password else text

    # libpq lists every address that it tried; the last one's failure counts.
    last = message[max(0, message.rfind("connection to server")) :]
    unset = dict.fromkeys(("host", "port", "user", "dbname", "sslmode", "service"), "")
    values = {**unset, **target.parameters, "set": _Variables(target)}
    address = _ADDRESS.match(last)
    if address and address[1]:
        values["host"], values["port"] = address.groups()
    fault = last[address.end() :] if address else message
    values["message"] = reason = hide(fault)
    for failure in _FAILURES:
        if found := re.search(failure.pattern, fault):
            groups = found.groupdict()
            values |= {**groups, "variable": target.variable(groups.get("keyword", ""))}
            return failure.kind(f"{target.cloud}: {failure.text.format(**values)}")
    state = sqlstate_of_refusal(arguments) if _ANSWER.search(str(error)) else None
    for failure in _FAILURES:
        if state and failure.sqlstate == state:
            text = failure.text.format(**values)
            return failure.kind(f"{target.cloud}: {text}{'' if reason in text else f': {reason}'}")
    return TargetError(f"{target.cloud}: {hide(message)}{f' (SQLSTATE {state})' if state else ''}")


def sqlstate_of_refusal(arguments: Mapping[str, Any]) -> str | None:
    """The SQLSTATE with which a server refuses a connection; None where it cannot be had.

    The driver gives none for a connection that fails, only the server's text, which may be in any
    language. So this connects once more, and has libpq write the SQLSTATE instead of the text.
    """
    import ctypes

    import psycopg2
    from psycopg2 import _psycopg
    from psycopg2.extensions import POLL_OK, POLL_READ

    try:
        # The driver's module is linked with libpq; asynchronous, so that it can be set up before
        # the server answers.
        set_verbosity = ctypes.CDLL(_psycopg.__file__).PQsetErrorVerbosity
        set_verbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
        with closing(psycopg2.connect(**arguments, async_=True)) as connection:
            set_verbosity(connection.pgconn_ptr, PQERRORS_SQLSTATE)
            deadline = time.monotonic() + PROBE_SECONDS
            while (state := connection.poll()) != POLL_OK and time.monotonic() < deadline:
                reads = [connection] if state == POLL_READ else []
                select(reads, [connection] if not reads else [], [], 1.0)
    except psycopg2.Error as error:
        found = re.search(r": +([0-9A-Z]{5})\s*$", str(error))
        return found[1] if found else None
    except (OSError, AttributeError, ValueError):  # a driver that hides its libpq
        return None
    return None


@contextmanager
def one_line_errors(target: Target, privileges: str) -> Iterator[None]:
    """Turn the driver's errors into a `TargetError` of one line.

    `privileges` is the part of the message that says which are needed, and how to grant them.
    """
    import psycopg2

    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise TargetError(
            f"{target.cloud}: user {target.parameters.get('user')!r} lacks a privilege: "
            f"{message_of(error)}; {privileges}, or set another user in {target.variable('user')}"
        ) from None
    except psycopg2.Error as error:
        state = f" (SQLSTATE {error.pgcode})" if error.pgcode else ""
        raise TargetError(f"{target.cloud}: {message_of(error)}{state}") from None


def check_server(target: Target, version: int, product: str) -> None:
    """Raise `TargetError` for a server that is too old or not PostgreSQL.

    `version` is libpq's number, as 180004; `product` what the server calls itself.
    """
    if not product.startswith("PostgreSQL"):
        raise TargetError(
            f"{target.cloud}: the server is {product.split(' on ')[0]!r}, not PostgreSQL: "
            f"check {target.variable('host')}"
        )
    if version < OLDEST_VERSION * 10000:
        raise TargetError(
            f"{target.cloud}: the server is PostgreSQL {version // 10000}; "
            f"pgload needs {OLDEST_VERSION} or newer"
        )
