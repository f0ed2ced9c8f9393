"""A PostgreSQL server in a container, by testcontainers, with the size of an instance type."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pgload.errors import TargetError, UsageError, message_of
from pgload.targets.identity import stored_password
from pgload.targets.target import Target, wait_until_up

IMAGE = "postgres:18"
PORT = 5432
START_SECONDS = 120.0
MESSAGE_LENGTH = 160  # of Docker's errors, some of which repeat a whole reply


@dataclass(frozen=True)
class Shape:
    """The image of a container, and how much of the machine it gets."""

    image: str = IMAGE
    cpus: float | None = None  # None: all of them
    memory_mb: int | None = None  # None: all of it
    instance_type: str | None = None

    @classmethod
    def of_instance(cls, image: str, name: str) -> Shape:
        """The shape of an instance type in Google's notation: `db-custom-<vCPUs>-<MB>`.

        Raises `UsageError` for any other name.
        """
        found = re.fullmatch(r"db-custom-([1-9]\d*)-([1-9]\d*)", name)
        if found is None:
            raise UsageError(
                f"--instance {name!r}: write db-custom-<vCPUs>-<MB>, as in db-custom-1-3840"
            )
        return cls(image, cpus=int(found[1]), memory_mb=int(found[2]), instance_type=name)

    def limits(self) -> dict[str, Any]:
        """The limits as arguments of Docker's `containers.run`."""
        limits: dict[str, Any] = {}
        if self.cpus is not None:
            limits["nano_cpus"] = round(self.cpus * 1e9)
        if self.memory_mb is not None:
            limits["mem_limit"] = f"{self.memory_mb}m"
        return limits


@contextmanager
def container(shape: Shape) -> Iterator[Target]:
    """Start the container, wait until its server answers, remove it at the end.

    Raises `UsageError` when testcontainers or Docker is missing, `TargetError` when the image
    cannot be pulled or the server does not start.
    """
    try:
        from docker.errors import APIError, DockerException, NotFound
        from testcontainers.core.container import DockerContainer
    except ImportError:
        raise UsageError(
            "--cloud CONTAINER needs testcontainers: pip install testcontainers"
        ) from None
    password = secrets.token_urlsafe(16)  # the container's own
    name = f"pgload-{secrets.token_hex(6)}"
    try:
        server = DockerContainer(shape.image).with_name(name).with_exposed_ports(PORT)
    except DockerException as error:
        raise UsageError(
            "--cloud CONTAINER needs a Docker engine that this user may use: start it, or use "
            f"--cloud EMBEDDED, which needs none ({message_of(error)[:MESSAGE_LENGTH]})"
        ) from None
    server.with_kwargs(**shape.limits()).with_env("POSTGRES_PASSWORD", password)
    try:
        try:
            server.start()
        except APIError as error:
            hint = (
                f"; check --image {shape.image}; if the image of testcontainers' reaper cannot be "
                "pulled, set TESTCONTAINERS_RYUK_DISABLED=true"
            )
            pulling = "/images/" in str(error)
            raise TargetError(
                f"CONTAINER: {message_of(error)[:MESSAGE_LENGTH]}{hint if pulling else ''}"
            ) from None
        target = Target(
            "CONTAINER",
            {
                "host": server.get_container_host_ip(),
                "port": int(server.get_exposed_port(PORT)),
                "user": "postgres",
                "dbname": "postgres",
                "sslmode": "prefer",  # not PGSSLMODE
                "connect_timeout": 5,
            },
            stored_password(password),
            instance_type=shape.instance_type,
            facts={"image": shape.image, "cpus": shape.cpus, "memory_mb": shape.memory_mb},
        )
        wait_until_up(target, partial(_failure, server), START_SECONDS)
        yield target
    finally:
        client = server.get_docker_client().client
        with suppress(NotFound):  # by name: interrupted while it starts, `server` has no container
            client.containers.get(name).remove(force=True, v=True)
        client.close()


def _failure(server: Any) -> str | None:
    """Why the server has exited; None while it runs."""
    running = server.get_wrapped_container()
    running.reload()
    if running.status != "exited":
        return None
    log = b"".join(server.get_logs()).decode(errors="replace").strip().splitlines()
    return log[-1] if log else "its log is empty"
