"""From a cloud's name to its target: configured as `<CLOUD>_DB_…` in `.env`, or started here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from pgload.errors import UsageError
from pgload.targets.container import Shape, container
from pgload.targets.delay import delayed
from pgload.targets.embedded import embedded
from pgload.targets.identity import make_identity, stored_password
from pgload.targets.parameters import (
    ADDRESS_SUFFIXES,
    Variables,
    missing_variables,
    read_parameters,
)
from pgload.targets.target import Target

LOCAL_CLOUDS = ("EMBEDDED", "CONTAINER")  # started by pgload; they need no account
Environment = Variables
# The name is the beginning of variables' names, and is in the names of files.
_CLOUD_NAME = re.compile(r"\w+")


def environment(folder: Path) -> Environment:
    """The variables of `folder/.env`; real environment variables win over them.

    Raises `UsageError` for a `.env` that is there but cannot be read.
    """
    from dotenv import dotenv_values

    path = folder / ".env"
    try:
        text = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):  # a virtual environment may have this name
        text = ""
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8: convert it to UTF-8 first") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be read: {reason}; make it readable (chmod u+r)") from None
    # Without interpolation, as a "$" in a password is a "$".
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None} | os.environ


def is_configured(cloud: str, variables: Environment) -> bool:
    """Whether every required variable of the cloud has a value."""
    return not missing_variables(cloud, variables)


def configured(variables: Environment) -> list[str]:
    """The clouds of which every required variable has a value."""
    names = {
        name.removesuffix(suffix)
        for name in variables
        for suffix in ADDRESS_SUFFIXES
        if name.endswith(suffix)
    }
    return sorted(name for name in names if name and is_configured(name, variables))


def default_cloud(variables: Environment) -> str:
    """`CLOUD_PROVIDER`, else `ENV`, if that cloud is configured; otherwise EMBEDDED."""
    for variable in ("CLOUD_PROVIDER", "ENV"):
        cloud = variables.get(variable, "").upper()
        if cloud in LOCAL_CLOUDS or (cloud and is_configured(cloud, variables)):
            return cloud
    return "EMBEDDED"


def unconfigured_default(variables: Environment) -> str | None:
    """The cloud that CLOUD_PROVIDER names, if it is not configured."""
    cloud = variables.get("CLOUD_PROVIDER", "").upper()
    usable = cloud in LOCAL_CLOUDS or not cloud or is_configured(cloud, variables)
    return None if usable else cloud


def chosen_cloud(variables: Environment) -> str:
    """The cloud that `CLOUD_PROVIDER`, else `ENV`, names; it has to be configured.

    Raises `UsageError` where neither is set, or for a name that a migration cannot use. A local
    cloud is not taken from a variable: its server is removed with its data at the end.
    """
    for variable in ("CLOUD_PROVIDER", "ENV"):
        cloud = variables.get(variable, "").strip().upper()
        if not cloud:
            continue
        setting = f"{variable}={cloud} of .env or the environment"
        if cloud in LOCAL_CLOUDS:
            raise UsageError(
                f"{setting} names a temporary server, which is removed with its data at the end: "
                f"confirm that with --cloud {cloud}, or name another cloud"
            )
        if missing := missing_variables(cloud, variables):
            near = get_close_matches(cloud, configured(variables), n=1)
            raise UsageError(
                f"{setting} is not configured: set {', '.join(missing)} (or {cloud}_DATABASE_URL)"
                + (f"; did you mean {near[0]}?" if near else ", or name a cloud with --cloud")
            )
        return cloud
    names = configured(variables)
    raise UsageError(
        "no cloud is named: give --cloud NAME, or set ENV in .env in this folder "
        f"(configured: {', '.join(names) or 'none'}; --cloud EMBEDDED is a temporary server)"
    )


def check_cloud(cloud: str, variables: Environment, rtt_ms: float | None) -> None:
    """Raise `UsageError` for a cloud that is not configured, without connecting to anything.

    `rtt_ms` is the simulated latency, which only a local cloud can have.
    """
    if cloud in LOCAL_CLOUDS:
        return
    if not _CLOUD_NAME.fullmatch(cloud):
        raise UsageError(
            f"--cloud {cloud!r} cannot be a cloud's name, which has letters, digits and _ only"
        )
    near = get_close_matches(cloud, (*LOCAL_CLOUDS, *configured(variables)), n=1)
    if near and not is_configured(cloud, variables):
        raise UsageError(f"--cloud {cloud} is not configured: did you mean {near[0]}?")
    cloud_target(cloud, variables)
    if rtt_ms is not None:
        raise UsageError(
            f"--rtt {rtt_ms:g} is for {' and '.join(LOCAL_CLOUDS)}, not for {cloud}, which has a "
            "latency of its own: omit it"
        )


@contextmanager
def open_target(
    cloud: str, variables: Environment, *, shape: Shape | None = None, rtt_ms: float | None = None
) -> Iterator[Target]:
    """The target of that name; a local cloud's server is started first and stopped at the end.

    `shape` is for CONTAINER; `rtt_ms` adds that simulated latency to a local cloud's server.
    Raises `UsageError` for a cloud that is not configured, `TargetError` for a server that does
    not start.
    """
    with ExitStack() as stack:
        if cloud == "EMBEDDED":
            cache = variables.get("EMBEDDED_CACHE")
            target = stack.enter_context(embedded(Path(cache) if cache else None))
        elif cloud == "CONTAINER":
            target = stack.enter_context(container(shape or Shape()))
        else:
            target = cloud_target(cloud, variables)
        if rtt_ms is not None and cloud in LOCAL_CLOUDS:
            target = stack.enter_context(delayed(target, rtt_ms))
        yield target


def cloud_target(cloud: str, variables: Environment) -> Target:
    """The target that the variables describe.

    Raises `UsageError` naming the variables that are missing or malformed.
    """

    def get_either(name: str) -> str | None:
        return variables.get(f"{cloud}_DB_{name}") or variables.get(f"{cloud}_{name}") or None

    missing = missing_variables(cloud, variables)
    if missing:
        raise UsageError(
            f"--cloud {cloud} is not configured: set {', '.join(missing)} "
            f"(or {cloud}_DATABASE_URL) in .env or in the environment"
        )
    parameters, set_by = read_parameters(cloud, variables)
    password, setting = parameters.pop("password", None), set_by.pop("password", None)
    if password is None and "PGPASSWORD" in os.environ:
        setting = "PGPASSWORD"  # which libpq reads itself
    stored = stored_password(password, setting)
    return Target(
        cloud,
        parameters,
        make_identity(cloud, variables, parameters, stored),
        set_by,
        instance_type=get_either("INSTANCE_TYPE") or variables.get("INSTANCE_TYPE"),
        price_per_hour=_price(cloud, get_either("PRICE_PER_HOUR")),
    )


def _price(cloud: str, text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise UsageError(f"{cloud}_PRICE_PER_HOUR is {text!r}: give a number, as in 0.35") from None
