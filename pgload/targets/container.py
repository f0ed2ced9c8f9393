"""A PostgreSQL server in a container, by testcontainers, with the size of an instance type."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pgload.errors import TargetError, UsageError
from pgload.targets.target import Target

IMAGE = "postgres:18"
PORT = 5432
START_SECONDS = 120.0


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
            f"--cloud EMBEDDED, which needs none ({_one_line(error)})"
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
            raise TargetError(f"CONTAINER: {_one_line(error)}{hint if pulling else ''}") from None
        target = Target(
            "CONTAINER",
            {
                "host": server.get_container_host_ip(),
                "port": int(server.get_exposed_port(PORT)),
                "user": "postgres",
                "dbname": "postgres",
                "password": password,
                "connect_timeout": 5,
            },
            instance_type=shape.instance_type,
            facts={"image": shape.image, "cpus": shape.cpus, "memory_mb": shape.memory_mb},
        )
        _wait_until_up(target, server)
        yield target
    finally:
        client = server.get_docker_client().client
        with suppress(NotFound):  # by name: interrupted while it starts, `server` has no container
            client.containers.get(name).remove(force=True, v=True)
        client.close()


def _wait_until_up(target: Target, server: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            target.connect().close()
            return
        except TargetError:
            running = server.get_wrapped_container()
            running.reload()
            if running.status == "exited" or time.monotonic() > deadline:
                log = b"".join(server.get_logs()).decode(errors="replace").strip().splitlines()
                raise TargetError(
                    f"CONTAINER: the server did not start: {log[-1] if log else 'its log is empty'}"
                ) from None
            time.sleep(0.1)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
