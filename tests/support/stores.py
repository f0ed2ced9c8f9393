"""Stores of objects on this machine: S3 (moto), Azure (azurite), Google (an emulator), the web."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.waiting import wait_until

AZURE_ACCOUNT = "devstoreaccount1"
# Azurite's published key, the same everywhere
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass
class Store:
    """A place for objects that the environment gives access to."""

    url: str  # of a folder in it, with a slash at the end
    put: Callable[[str, bytes], None]
    environment: dict[str, str] = field(default_factory=dict)
    web: Any = None  # the web server's state


class _Web(BaseHTTPRequestHandler):
    """Files with ETags and ranges, as far as the server's state allows."""

    server: WebServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        server, path = self.server, self.path.partition("?")[0]
        if path == "/d/":
            links = "".join(f'<a href="{name[3:]}">x</a>' for name in server.files)
            self._send(200, links.encode(), with_body, {"Content-Type": "text/html"})
            return
        if path not in server.files:
            self._send(404, b"", with_body, {})
            return
        version, content = server.files[path]
        headers = {"ETag": f'"{version}"'} if server.etags else {}
        status = 200
        if server.ranges:
            headers["Accept-Ranges"] = "bytes"
            if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(found[1]), int(found[2] or len(content))
                if first >= len(content):
                    self._send(416, b"", with_body, headers)
                    return
                part = content[first : last + 1]
                end = first + len(part) - 1
                headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
                status, content = 206, part
        server.requests += with_body
        if with_body and server.cut_next:
            server.cut_next -= 1
            self._send(status, content, with_body, headers, cut=len(content) // 2)
        else:
            self._send(status, content, with_body, headers)

    def _send(
        self, status: int, content: bytes, with_body: bool, headers: dict[str, str], cut: int = 0
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[: cut or None])
        if cut:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class WebServer(ThreadingHTTPServer):
    """A web server whose files and faults a test sets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Web)
        self.files: dict[str, tuple[int, bytes]] = {}  # by path: version and content
        self.etags = self.ranges = True
        self.requests = 0  # for content
        self.cut_next = 0  # answers that end in the middle

    def put(self, name: str, content: bytes) -> None:
        """Add or replace a file."""
        version = self.files.get(f"/d/{name}", (0, b""))[0]
        self.files[f"/d/{name}"] = version + 1, content


@contextmanager
def web_store() -> Iterator[Store]:
    """A web server."""
    with WebServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Store(f"http://127.0.0.1:{server.server_port}/d/", server.put, web=server)
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def s3_store() -> Iterator[Store]:
    """A bucket of moto's server."""
    needed("moto.server")
    needed("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        yield _by_fsspec("s3://pgload-test", variables)
    finally:
        server.stop()


@contextmanager
def azure_store(work: Path) -> Iterator[Store]:
    """A container of azurite."""
    needed("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        missing("azurite-blob (npm install --global azurite)")
    port = free_port()
    command = [str(program), "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    with subprocess.Popen(
        [*command, "--skipApiVersionCheck", "--disableTelemetry"],
        cwd=work,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: accepts(port))
            connection = (
                f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
                f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
            )
            variables = {"AZURE_STORAGE_CONNECTION_STRING": connection}
            yield _by_fsspec("az://pgload-test", variables)
        finally:
            process.kill()


@contextmanager
def google_store() -> Iterator[Store]:
    """A bucket of an emulator of Google Cloud Storage."""
    needed("gcsfs")
    needed("gcp_storage_emulator.server")
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="pgload-test")
    server.start()
    variables = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "x"}
    try:
        yield _by_fsspec("gs://pgload-test", variables, bucket=False)
    finally:
        server.stop()


def _by_fsspec(place: str, variables: dict[str, str], *, bucket: bool = True) -> Store:
    import fsspec

    def system() -> Any:
        return fsspec.core.url_to_fs(place, skip_instance_cache=True)[0]

    def put(name: str, content: bytes) -> None:
        with patch.dict(os.environ, variables):
            system().pipe_file(f"{place}/d/{name}", content)

    if bucket:
        with patch.dict(os.environ, variables), suppress(FileExistsError):
            system().mkdir(place)  # moto keeps those of the process
    return Store(f"{place}/d/", put, variables)


def needed(module: str) -> None:
    """Skip the test, or fail it in CI, when a package is missing."""
    try:
        __import__(module)
    except ImportError:
        missing(f"{module} (pip install -r tests/stores-requirements.txt)")


def missing(what: str) -> None:
    """Skip the test, or fail it in CI, for want of something."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
