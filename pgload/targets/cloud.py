"""Clouds as `.env` describes them: `<CLOUD>_DB_HOST` and its sisters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pgload.errors import UsageError
from pgload.targets.target import Target

REQUIRED = ("HOST", "NAME", "USER", "PASSWORD")
Environment = Mapping[str, str]


def environment(folder: Path) -> Environment:
    """The variables of `folder/.env`, with the process's real environment winning over them."""
    from dotenv import dotenv_values

    from_file = {k: v for k, v in dotenv_values(folder / ".env").items() if v is not None}
    return from_file | os.environ


def is_configured(cloud: str, variables: Environment) -> bool:
    """Whether every required variable of the cloud has a value."""
    return not _missing(cloud, variables)


def cloud_target(cloud: str, variables: Environment) -> Target:
    """The target that the variables describe.

    Raises `UsageError` naming the variables that are missing or hold no number.
    """
    missing = _missing(cloud, variables)
    if missing:
        raise UsageError(
            f"--cloud {cloud} is not configured: set {', '.join(missing)} "
            "in .env or in the environment"
        )

    def get(name: str, default: str | None = None) -> str | None:
        return variables.get(f"{cloud}_DB_{name}") or variables.get(f"{cloud}_{name}") or default

    price = get("PRICE_PER_HOUR")
    try:
        price_per_hour = None if price is None else float(price)
    except ValueError:
        raise UsageError(
            f"{cloud}_PRICE_PER_HOUR is {price!r}: give a number, as in 0.35"
        ) from None
    parameters = {
        "host": get("HOST"),
        "port": get("PORT", "5432"),
        "dbname": get("NAME"),
        "user": get("USER"),
        "password": get("PASSWORD"),
        "sslmode": get("SSLMODE", "require"),  # these connections cross the internet
        "sslrootcert": get("SSLROOTCERT"),
        "connect_timeout": 15,
        "keepalives_idle": 30,  # a dead peer is noticed within about a minute
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return Target(
        cloud,
        {name: value for name, value in parameters.items() if value is not None},
        instance_type=get("INSTANCE_TYPE", variables.get("INSTANCE_TYPE")),
        price_per_hour=price_per_hour,
    )


def _missing(cloud: str, variables: Environment) -> list[str]:
    names = [f"{cloud}_DB_{name}" for name in REQUIRED]
    return [name for name in names if not variables.get(name)]
