"""A network that swallows packets: nothing is refused or closed, and no answer comes."""

from __future__ import annotations

import subprocess
import time
from contextlib import closing

from tests.support.migrating import CLOUD, MigrationSandbox, wait_while_running
from tests.support.network import in_network

PORT = 15432  # in a network of its own


def start(sandbox: MigrationSandbox, *options: str) -> subprocess.Popen[str]:
    """Migrate over a network that can be taken down by writing to the process."""
    parameters = sandbox.target.parameters
    server = f"{parameters['host']}/.s.PGSQL.{parameters['port']}"
    variables = {f"{CLOUD}_DB_HOST": "127.0.0.1", f"{CLOUD}_DB_PORT": str(PORT)}
    return sandbox.start(
        *("--batch-size", "10", "--connections", "2", *options),
        prefix=in_network(server, PORT),
        env=sandbox.environment | variables,
        stdin=subprocess.PIPE,
    )


def switch(process: subprocess.Popen[str], state: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{state}\n")
    process.stdin.flush()


def test_network_that_comes_back(sandbox: MigrationSandbox) -> None:
    """Silence is noticed within half of --retry-timeout, and the batches are retried."""
    path = sandbox.numbers("t.json", 8000)
    with start(sandbox, "--retry-timeout", "8") as process, closing(sandbox.connect()) as truth:
        wait_while_running(process, lambda: sandbox.committed(truth) > 100)
        switch(process, "down")
        wait_while_running(process, lambda: sandbox.output("migration_progress.json")["retries"])
        switch(process, "up")
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    sandbox.check(path)
    assert sandbox.output("migration_results.json")["total_records"] == 8000


def test_network_that_stays_down(sandbox: MigrationSandbox) -> None:
    """The run ends soon after --retry-timeout, and its resume command completes it."""
    path = sandbox.numbers("t.json", 8000)
    with start(sandbox, "--retry-timeout", "4") as process, closing(sandbox.connect()) as truth:
        wait_while_running(process, lambda: sandbox.committed(truth) > 100)
        switch(process, "down")
        begin = time.monotonic()
        output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begin < 30, output
    assert process.returncode == 1, output
    assert "resume with: " in output
    results = sandbox.output("migration_results.json")
    assert results["status"] == "failed"
    assert results["retries"] >= 1
    assert sandbox.migrate("--resume") == 0
    sandbox.check(path)
