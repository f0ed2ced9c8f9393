"""From a cloud's name to a target that can be connected to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgload.targets.cloud import Environment, cloud_target, is_configured
from pgload.targets.embedded import embedded
from pgload.targets.target import Target


def default_cloud(variables: Environment) -> str:
    """`CLOUD_PROVIDER`, else `ENV`, where that cloud is configured; otherwise EMBEDDED."""
    for variable in ("CLOUD_PROVIDER", "ENV"):
        cloud = variables.get(variable, "").upper()
        if cloud and is_configured(cloud, variables):
            return cloud
    return "EMBEDDED"


def check_cloud(cloud: str, variables: Environment) -> None:
    """Raise `UsageError` if the cloud is not configured; connects to nothing."""
    if cloud != "EMBEDDED":
        cloud_target(cloud, variables)


@contextmanager
def open_target(cloud: str, variables: Environment) -> Iterator[Target]:
    """The target of that name, started first where it is one that we start, stopped at the end.

    Raises `UsageError` for a cloud that is not configured, `TargetError` for one that cannot start.
    """
    if cloud == "EMBEDDED":
        with embedded() as target:
            yield target
    else:
        yield cloud_target(cloud, variables)
