"""From `<CLOUD>_DB_…` variables, a URL and a service file to the keywords of libpq."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pgload.errors import UsageError

DEFAULTS: Mapping[str, Any] = {
    "port": "5432",
    "sslmode": "require",  # these connections cross the internet
    "connect_timeout": 15,  # seconds
    "keepalives_idle": 30,  # a dead peer is noticed within about a minute
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60000,  # ms; the same for a peer that dies while data is sent to it
}
# `<CLOUD>_DB_<KEYWORD>` has a keyword of libpq in capitals, except for these.
KEYWORDS = {"NAME": "dbname"}
NOT_KEYWORDS = ("PASSWORD_COMMAND", "AUTH", "INSTANCE_TYPE", "PRICE_PER_HOUR")
WITHOUT_DB = ("SSLMODE", "SSLROOTCERT")  # also read as `<CLOUD>_<KEYWORD>`
# Any of these shows that a cloud is meant to be configured.
ADDRESS_SUFFIXES = ("_DB_HOST", "_DB_HOSTADDR", "_DB_SERVICE", "_DATABASE_URL")

Variables = Mapping[str, str]


class Parameters(NamedTuple):
    """Keywords of libpq, `password` among them, and the variables that gave them."""

    values: dict[str, Any]
    variables: dict[str, str]  # by keyword; a default has none


def variable_name(cloud: str, keyword: str) -> str:
    """The variable that sets a keyword of libpq."""
    names = {keyword: name for name, keyword in KEYWORDS.items()}
    return f"{cloud}_DB_{names.get(keyword, keyword.upper())}"


def missing_variables(cloud: str, variables: Variables) -> list[str]:
    """The required variables that have no value.

    A URL or a service stands for all of them, and no password is required: it may be in a password
    file, or not be needed.
    """
    if variables.get(f"{cloud}_DATABASE_URL") or variables.get(f"{cloud}_DB_SERVICE"):
        return []
    host = "HOSTADDR" if variables.get(f"{cloud}_DB_HOSTADDR") else "HOST"
    names = [f"{cloud}_DB_{name}" for name in (host, "NAME", "USER")]
    return [name for name in names if not variables.get(name)]


def read_parameters(cloud: str, variables: Variables) -> Parameters:
    """What the variables, else the URL, else the service, else our defaults say.

    Raises `UsageError` for a keyword that libpq does not know, and for a malformed URL.
    """
    given = _from_variables(cloud, variables)
    url_name = f"{cloud}_DATABASE_URL"
    url = _from_url(url_name, variables[url_name]) if variables.get(url_name) else {}
    names = dict.fromkeys(url, url_name) | {keyword: name for keyword, (name, _) in given.items()}
    values = url | {keyword: value for keyword, (_, value) in given.items()}
    defaults = dict(DEFAULTS)
    if service := values.get("service"):
        found = _from_service(service, values)
        names = dict.fromkeys(found, names["service"]) | names
        values = found | values
        del defaults["port"]  # it is that of the service, also where only libpq finds the service
    elif not (values.keys() >= {"user", "dbname"} and values.keys() & {"host", "hostaddr"}):
        raise _malformed(url_name)
    # With the system's root certificates libpq accepts only this mode.
    full = {"sslmode": "verify-full"} if values.get("sslrootcert") == "system" else {}
    return Parameters({**defaults, **full, **values}, names)


def _from_variables(cloud: str, variables: Variables) -> dict[str, tuple[str, str]]:
    """By keyword: the variable's name and its value."""
    from psycopg2 import ProgrammingError
    from psycopg2.extensions import parse_dsn

    found = {
        name.lower(): (f"{cloud}_{name}", variables[f"{cloud}_{name}"])
        for name in WITHOUT_DB
        if variables.get(f"{cloud}_{name}")
    }
    prefix = f"{cloud}_DB_"
    for name, value in sorted(variables.items()):
        suffix = name.removeprefix(prefix)
        if suffix == name or suffix in NOT_KEYWORDS or not value:
            continue
        keyword = KEYWORDS.get(suffix, suffix.lower())
        try:
            parse_dsn(f"{keyword}=''")  # libpq itself knows its keywords
        except ProgrammingError:
            raise UsageError(
                f"{name} is not a setting: libpq has no connection keyword {keyword!r}; "
                "correct or remove it"
            ) from None
        found[keyword] = (name, value)
    return found


def _from_url(name: str, url: str) -> dict[str, str]:
    from psycopg2 import ProgrammingError
    from psycopg2.extensions import parse_dsn

    # With an unescaped "@" or "/" in the password, a part of it would be taken for the host or the
    # database's name, and shown.
    authority, _, rest = url.partition("://")[2].partition("?")[0].partition("/")
    if "://" not in url or authority.count("@") > 1 or "@" in rest:
        raise _malformed(name)
    try:
        found = dict(parse_dsn(url))
    except (ProgrammingError, ValueError):  # the message repeats the URL with the password
        raise _malformed(name) from None
    if "@" in found.get("host", ""):  # what follows a "?" in the password
        raise _malformed(name)
    return found


def _malformed(name: str) -> UsageError:
    return UsageError(
        f"{name} is not of the form postgresql://user:password@host:port/name?keyword=value with "
        "keywords of libpq; write other signs in user and password as %40, %2F, …"
    )


def _from_service(service: str, values: Mapping[str, str]) -> dict[str, str]:
    """What the service file sets, read as libpq reads it, so that our defaults do not override it.

    Empty where the service is in a file that only libpq knows, such as that of its installation.
    """
    own = os.environ.get("PGSERVICEFILE") or str(Path.home() / ".pg_service.conf")
    folder = os.environ.get("PGSYSCONFDIR")
    paths = [values.get("servicefile") or own, *([f"{folder}/pg_service.conf"] if folder else [])]
    for path in paths:
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        found: dict[str, str] | None = None
        for line in map(str.strip, lines):
            if line.startswith("["):
                if found is not None:
                    break
                found = {} if line.startswith(f"[{service}]") else None  # a comment may follow
            elif found is not None and "=" in line and not line.startswith(("#", "ldap")):
                keyword, _, value = line.partition("=")
                found.setdefault(keyword, value)  # as libpq, which takes the first
        if found is not None:
            return found
    return {}
