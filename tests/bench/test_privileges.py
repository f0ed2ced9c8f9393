"""What the suite needs of a server: its version, privileges, and no other benchmark on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.target import prepare
from pgload.errors import TargetError
from pgload.load.loader import Loader
from pgload.targets.cloud import cloud_target
from pgload.targets.target import Target
from tests.support.loading import write_json
from tests.support.servers import tcp_server


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """A server on TCP with passwords, as variables of the cloud GCP."""
    with tcp_server() as variables:
        yield variables


@contextmanager
def presenting_itself_as(version: bytes, server: Target) -> Iterator[Target]:
    """A proxy to the server that replaces the version which it reports."""
    ours = f"{server.parameters['host']}/.s.PGSQL.5432"
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def serve() -> None:
            near = stack.enter_context(listener.accept()[0])
            far = stack.enter_context(socket.socket(socket.AF_UNIX))
            far.connect(ours)

            def forward() -> None:
                with suppress(OSError):
                    while data := near.recv(65536):
                        far.sendall(data)
                    far.shutdown(socket.SHUT_WR)

            threading.Thread(target=forward, daemon=True).start()
            while data := far.recv(65536):
                near.sendall(data.replace(b"server_version\x0018.4\x00", version))

        thread = threading.Thread(target=serve)
        thread.start()
        address = {"host": "127.0.0.1", "port": listener.getsockname()[1], "sslmode": "disable"}
        yield Target("GCP", {**server.parameters, **address})
        thread.join()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten records."""
    write_json(tmp_path / "numbers.json", [{"n": str(n)} for n in range(10)])
    return Dataset.read(tmp_path, schema="pgload_bench")


def test_too_old(server: Target, dataset: Dataset) -> None:
    """A server older than PostgreSQL 13 is refused before anything is created on it."""
    with (
        presenting_itself_as(b"server_version\x0012.4\x00", server) as target,
        pytest.raises(TargetError, match="GCP: the server is PostgreSQL 12; pgload needs 13"),
        prepare(target, dataset),
    ):
        pass


def test_plain_owner(variables: dict[str, str], dataset: Dataset) -> None:
    """A role with no privilege but its own database can measure, without CHECKPOINT."""
    with prepare(cloud_target("GCP", variables), dataset) as site:
        site.reset()
        assert not site.may_checkpoint
        with Loader(site.target.connect, "copy") as loader:
            loader.run(dataset.batches(3))
        site.verify()
        assert 0 < site.rtt().p50 <= site.rtt().p99
        assert site.wal_position() > 0


def test_may_not_make_a_schema(variables: dict[str, str], dataset: Dataset) -> None:
    """A role that may not create a schema is an error with the grant that it needs."""
    guest = cloud_target("GCP", variables | {"GCP_DB_USER": "guest"})
    with (
        pytest.raises(TargetError, match="user 'guest' lacks a privilege: permission denied"),
        prepare(guest, dataset),
    ):
        pass


def test_second_benchmark(server: Target, dataset: Dataset) -> None:
    """While a benchmark holds the schema, another one in the same database is refused."""
    with (
        prepare(server, dataset),
        pytest.raises(TargetError, match="another benchmark is running in this database"),
        prepare(server, dataset, run="another"),
    ):
        pass
