"""Why a server cannot be reached, in one line: what, which variable to look at, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pgload.errors import TargetError, TooManyConnectionsError

OLDEST = 13  # the oldest major version of PostgreSQL that is supported

# What libpq says → what to say instead. {cloud}, {host}, … are filled in.
_TROUBLES = (
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
        "the server refuses TLS, which {cloud}_DB_SSLMODE={sslmode} asks for: turn TLS on there, "
        "or set {cloud}_DB_SSLMODE=disable if you trust the network",
    ),
    (
        r"root certificate file",
        "no root certificate to check the server's against: set {cloud}_DB_SSLROOTCERT to the "
        "provider's file, or {cloud}_DB_SSLMODE=require to go without the check",
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
        "there is no user {user!r}: check {cloud}_DB_USER",
    ),
    (
        r"invalid response to SSL negotiation|expected authentication request|protocol version",
        "what answers at {host}:{port} is not PostgreSQL: check {cloud}_DB_PORT",
    ),
)
_TOO_MANY = re.compile(r"too many (clients|connections)|remaining connection slots")


def explain(cloud: str, parameters: Mapping[str, Any], error: Exception) -> TargetError:
    """The error to raise for one that the driver raised while connecting; never with a secret."""
    import psycopg2

    said = one_line(error)
    if _TOO_MANY.search(said):
        return TooManyConnectionsError(
            f"{cloud}: the server has no connection left for user {parameters.get('user')!r}: "
            "end other clients, raise its max_connections, or ask for fewer"
        )
    known = {"host": "", "port": 5432, "user": "", "dbname": "", "sslmode": "prefer", **parameters}
    known |= {"cloud": cloud, "password": ""}
    # libpq tells of every address that it tried; the last one decided.
    decided = said[max(0, said.rfind("connection to server")) :]
    for pattern, text in _TROUBLES:
        if re.search(pattern, decided):
            return TargetError(f"{cloud}: {text.format(**known)}")
    password = str(parameters.get("password") or "")
    if password and (password in said or not isinstance(error, psycopg2.Error)):
        said = f"the driver cannot use what {cloud} is configured with ({type(error).__name__})"
    return TargetError(f"{cloud}: {said}")


@contextmanager
def one_line_errors(cloud: str, parameters: Mapping[str, Any], rights: str) -> Iterator[None]:
    """Turn the driver's errors into a `TargetError` of one line.

    `rights` says which ones are needed and how they are given.
    """
    import psycopg2

    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise TargetError(
            f"{cloud}: user {parameters.get('user')!r} lacks a right: {one_line(error)}; {rights}, "
            f"or set another {cloud}_DB_USER"
        ) from None
    except psycopg2.Error as error:
        state = f" (SQLSTATE {error.pgcode})" if error.pgcode else ""
        raise TargetError(f"{cloud}: {one_line(error)}{state}") from None


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def check_server(cloud: str, version: int, product: str) -> None:
    """Raise `TargetError` for a server that is too old or not PostgreSQL.

    `version` is libpq's number, as 180004; `product` what the server calls itself.
    """
    if not product.startswith("PostgreSQL"):
        raise TargetError(f"{cloud}: the server is {product.split(' on ')[0]!r}, not PostgreSQL")
    if version < OLDEST * 10000:
        raise TargetError(
            f"{cloud}: the server is PostgreSQL {version // 10000}; pgload needs {OLDEST} or newer"
        )
