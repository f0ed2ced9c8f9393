"""The CONTAINER cloud, on a Docker engine. Without one these tests are skipped, but fail in CI.

PGLOAD_TEST_IMAGE names the image to start, where it is not the default one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgload.errors import TargetError, UsageError
from pgload.targets.cloud import cloud_target
from pgload.targets.container import IMAGE, Shape, container
from pgload.targets.target import Target
from tests.support.servers import certificate

TEST_IMAGE = os.environ.get("PGLOAD_TEST_IMAGE", IMAGE)


@pytest.fixture(scope="module")
def docker() -> None:
    """Skips, or fails in CI, where no Docker engine answers."""
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    if done.returncode != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Docker engine answers")


@pytest.fixture(scope="module")
def started(docker: None) -> Iterator[Target]:  # noqa: ARG001
    """A container shaped like an instance."""
    shape = Shape.of_instance(TEST_IMAGE, "db-custom-1-512")
    with container(shape) as target:
        yield target


def containers() -> set[str]:
    """The ids of all containers there are."""
    out = subprocess.run(["docker", "ps", "-aq"], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_shape(started: Target) -> None:
    """An instance type in Google's notation limits processors and memory, and is recorded."""
    assert started.instance_type == "db-custom-1-512"
    assert started.facts == {"image": TEST_IMAGE, "cpus": 1, "memory_mb": 512}
    limits = [
        subprocess.run(
            ["docker", "inspect", "-f", "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}", one],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for one in containers()
    ]
    assert [str(10**9), str(512 << 20)] in limits


@pytest.mark.usefixtures("docker")
def test_removed_at_the_end() -> None:
    """The container is gone when the target is closed, after an error too."""
    before = containers()

    def fail() -> None:
        with container(Shape(TEST_IMAGE)) as target:
            target.connect().close()
            assert len(containers() - before) == 1
            raise RuntimeError("meanwhile")

    with pytest.raises(RuntimeError, match="meanwhile"):
        fail()
    assert containers() == before


@pytest.mark.usefixtures("docker")
def test_unknown_image() -> None:
    """An image that cannot be had is an error that names the option."""
    with (
        pytest.raises(TargetError, match="check --image no-such/image:1"),
        container(Shape("no-such/image:1")),
    ):
        pass


def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an engine the error names EMBEDDED, which needs none."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with (
        pytest.raises(UsageError, match=r"needs a Docker engine .* use --cloud EMBEDDED"),
        container(Shape(TEST_IMAGE)),
    ):
        pass


def test_limits() -> None:
    """An instance type in Google's notation limits processors and memory."""
    shape = Shape.of_instance(IMAGE, "db-custom-2-7680")
    assert shape.limits() == {"nano_cpus": 2 * 10**9, "mem_limit": "7680m"}
    assert Shape().limits() == {}


@pytest.mark.parametrize("name", ["db-f1-micro", "db-custom-1", "2x4"])
def test_unknown_instance(name: str) -> None:
    """An instance type in another notation is an error that shows the right one."""
    with pytest.raises(UsageError, match="write db-custom-<vCPUs>-<MB>"):
        Shape.of_instance(TEST_IMAGE, name)


@pytest.fixture(scope="module")
def tls(started: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The container with TLS on and a certificate for localhost; as variables of the cloud GCP."""
    folder = tmp_path_factory.mktemp("tls")
    pem = certificate(folder, "localhost")
    pem_and_key = (("server.crt", pem), ("server.key", pem.with_suffix(".key")))
    connection = started.connect()
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        data = cursor.fetchone()[0]
        for name, path in pem_and_key:
            lines = path.read_text().splitlines()
            cursor.execute("COPY (SELECT unnest(%s)) TO %s", (lines, f"{data}/{name}"))
        cursor.execute(
            "COPY (SELECT 1) TO PROGRAM %s", (f"cat > /dev/null; chmod 600 {data}/server.key",)
        )
        cursor.execute("ALTER SYSTEM SET ssl = on")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    parameters = started.parameters
    return {
        "GCP_DB_HOST": "localhost",
        "GCP_DB_PORT": str(parameters["port"]),
        "GCP_DB_NAME": "postgres",
        "GCP_DB_USER": "postgres",
        "GCP_DB_PASSWORD": str(started.with_secret()["password"]),
        "GCP_DB_SSLROOTCERT": str(folder / "localhost.pem"),
    }


def ssl_in_use(variables: dict[str, str]) -> bool:
    connection = cloud_target("GCP", variables).connect()
    used: bool = connection.info.ssl_in_use
    connection.close()
    return used


def test_tls(tls: dict[str, str], tmp_path: Path) -> None:
    """A connection uses TLS by default; verify-full checks the certificate against its root."""
    unchecked = {name: value for name, value in tls.items() if "ROOT" not in name}
    assert ssl_in_use(unchecked)
    full = tls | {"GCP_DB_SSLMODE": "verify-full"}
    assert ssl_in_use(full)

    certificate(tmp_path, "elsewhere")
    with pytest.raises(TargetError, match="certificate does not pass sslmode=verify-full"):
        ssl_in_use(full | {"GCP_DB_SSLROOTCERT": str(tmp_path / "elsewhere.pem")})
    with pytest.raises(TargetError, match="certificate does not pass sslmode=verify-full"):
        ssl_in_use(full | {"GCP_DB_HOST": "127.0.0.1"})
    with pytest.raises(TargetError, match=r"no root certificate .* set GCP_DB_SSLROOTCERT"):
        ssl_in_use(full | {"GCP_DB_SSLROOTCERT": "/nowhere/root.pem"})
