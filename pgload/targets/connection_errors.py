"""The driver's errors as one line: the fault, the variable to check, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pgload.errors import TargetError, TooManyConnectionsError, message_of

OLDEST_VERSION = 13  # the oldest major version of PostgreSQL that is supported

# A pattern in libpq's message → our message, with {cloud}, {host}, … filled in.
_MESSAGES = (
    (
        r"could not translate host name",
        "the host {host!r} is unknown: check {cloud}_DB_HOST",
    ),
    (
        r"Connection refused",
        "nothing listens at {host}:{port}: check {cloud}_DB_HOST and {cloud}_DB_PORT, and that the "
        "server runs",
    ),
    (
        r"timeout expired|timed out|No route to host|Network is unreachable",
        "{host}:{port} does not answer: check {cloud}_DB_HOST, and that the server's firewall or "
        "authorised networks admit this machine",
    ),
    (
        r"password authentication failed|no password supplied|authentication failed",
        "the server refuses the password of user {user!r}: check {cloud}_DB_USER and "
        "{cloud}_DB_PASSWORD",
    ),
    (
        r"no pg_hba\.conf entry",
        "the server does not admit user {user!r} to database {dbname!r} from here with "
        "sslmode={sslmode}: check {cloud}_DB_SSLMODE, {cloud}_DB_USER and the server's pg_hba.conf",
    ),
    (
        r"server does not support SSL",
        "the server refuses TLS, which {cloud}_DB_SSLMODE={sslmode} requires: turn TLS on there, "
        "or set {cloud}_DB_SSLMODE=disable if you trust the network",
    ),
    (
        r"root certificate file",
        "there is no root certificate to check the server's with: set {cloud}_DB_SSLROOTCERT to "
        "the provider's file, or {cloud}_DB_SSLMODE=require to omit the check",
    ),
    (
        r"certificate verify failed|does not match host name|certificate",
        "the server's certificate does not pass sslmode={sslmode}: check {cloud}_DB_SSLROOTCERT "
        "and that {cloud}_DB_HOST is the name in the certificate",
    ),
    (
        r"database \".*\" does not exist",
        "there is no database {dbname!r}: check {cloud}_DB_NAME, or create it",
    ),
    (
        r"role \".*\" does not exist",
        "there is no user {user!r}: check {cloud}_DB_USER, or create it",
    ),
    (
        r"invalid response to SSL negotiation|expected authentication request|protocol version",
        "the server at {host}:{port} is not PostgreSQL: check {cloud}_DB_PORT",
    ),
)
_TOO_MANY = re.compile(r"too many (clients|connections)|remaining connection slots")


def connection_error(cloud: str, parameters: Mapping[str, Any], error: Exception) -> TargetError:
    """The error to raise for the driver's error while connecting; never holds the password."""
    import psycopg2

    message = message_of(error)
    if _TOO_MANY.search(message):
        return TooManyConnectionsError(
            f"{cloud}: the server has no connection left for user {parameters.get('user')!r}: "
            "end other clients, raise its max_connections, or use fewer connections"
        )
    values = {"host": "", "port": 5432, "user": "", "dbname": "", "sslmode": "prefer", **parameters}
    values |= {"cloud": cloud, "password": ""}
    # libpq lists every address that it tried; the last one's failure counts.
    last = message[max(0, message.rfind("connection to server")) :]
    for pattern, text in _MESSAGES:
        if re.search(pattern, last):
            return TargetError(f"{cloud}: {text.format(**values)}")
    password = str(parameters.get("password") or "")
    if password and (password in message or not isinstance(error, psycopg2.Error)):
        message = (
            f"the driver cannot use the values that {cloud} is configured with "
            f"({type(error).__name__}): check the {cloud}_DB_ variables for unusual characters"
        )
    return TargetError(f"{cloud}: {message}")


@contextmanager
def one_line_errors(cloud: str, parameters: Mapping[str, Any], privileges: str) -> Iterator[None]:
    """Turn the driver's errors into a `TargetError` of one line.

    `privileges` is the part of the message that says which are needed, and how to grant them.
    """
    import psycopg2

    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise TargetError(
            f"{cloud}: user {parameters.get('user')!r} lacks a privilege: {message_of(error)}; "
            f"{privileges}, or set another {cloud}_DB_USER"
        ) from None
    except psycopg2.Error as error:
        state = f" (SQLSTATE {error.pgcode})" if error.pgcode else ""
        raise TargetError(f"{cloud}: {message_of(error)}{state}") from None


def check_server(cloud: str, version: int, product: str) -> None:
    """Raise `TargetError` for a server that is too old or not PostgreSQL.

    `version` is libpq's number, as 180004; `product` what the server calls itself.
    """
    if not product.startswith("PostgreSQL"):
        raise TargetError(
            f"{cloud}: the server is {product.split(' on ')[0]!r}, not PostgreSQL: "
            f"check {cloud}_DB_HOST"
        )
    if version < OLDEST_VERSION * 10000:
        raise TargetError(
            f"{cloud}: the server is PostgreSQL {version // 10000}; "
            f"pgload needs {OLDEST_VERSION} or newer"
        )
