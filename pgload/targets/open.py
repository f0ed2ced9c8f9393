"""From a cloud's name to a target that can be connected to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches

from pgload.errors import UsageError
from pgload.targets.cloud import Environment, cloud_target, configured, is_configured
from pgload.targets.container import Shape, container
from pgload.targets.delay import delayed
from pgload.targets.embedded import embedded
from pgload.targets.target import Target

STARTED_HERE = ("EMBEDDED", "CONTAINER")  # the clouds that need no account


def default_cloud(variables: Environment) -> str:
    """`CLOUD_PROVIDER`, else `ENV`, where that cloud is configured; otherwise EMBEDDED."""
    for variable in ("CLOUD_PROVIDER", "ENV"):
        cloud = variables.get(variable, "").upper()
        if cloud in STARTED_HERE or (cloud and is_configured(cloud, variables)):
            return cloud
    return "EMBEDDED"


def unconfigured_default(variables: Environment) -> str | None:
    """The cloud that CLOUD_PROVIDER names although it is not configured, if it does."""
    cloud = variables.get("CLOUD_PROVIDER", "").upper()
    known = cloud in STARTED_HERE or not cloud or is_configured(cloud, variables)
    return None if known else cloud


def check_cloud(cloud: str, variables: Environment, rtt_ms: float | None) -> None:
    """Raise `UsageError` if the cloud cannot be meant so; connects to nothing."""
    if cloud in STARTED_HERE:
        return
    near = get_close_matches(cloud, (*STARTED_HERE, *configured(variables)), n=1)
    if near and not is_configured(cloud, variables):
        raise UsageError(f"--cloud {cloud} is not configured: did you mean {near[0]}?")
    cloud_target(cloud, variables)
    if rtt_ms is not None:
        raise UsageError(
            f"--rtt is for {' and '.join(STARTED_HERE)}: {cloud} has a distance of its own"
        )


@contextmanager
def open_target(
    cloud: str, variables: Environment, *, shape: Shape | None = None, rtt_ms: float | None = None
) -> Iterator[Target]:
    """The target of that name, started first where it is one that we start, stopped at the end.

    `shape` is for CONTAINER; `rtt_ms` moves a server started here so many milliseconds away.
    Raises `UsageError` for a cloud that is not configured, `TargetError` for one that cannot start.
    """
    with ExitStack() as stack:
        if cloud == "EMBEDDED":
            target = stack.enter_context(embedded())
        elif cloud == "CONTAINER":
            target = stack.enter_context(container(shape or Shape()))
        else:
            target = cloud_target(cloud, variables)
        if rtt_ms is not None and cloud in STARTED_HERE:
            target = stack.enter_context(delayed(target, rtt_ms))
        yield target
