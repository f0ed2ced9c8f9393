"""The server's ceiling needs a psql that can connect; otherwise there is a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.prepared import PsqlError, prepared_copy, psql_variables
from pgload.bench.dataset import Dataset
from pgload.sample.generator import write_sample
from pgload.targets.identity import stored_password
from pgload.targets.target import Target


def test_psql_that_cannot_connect(
    server: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of a psql without TLS is reported."""
    data = tmp_path / "data"
    data.mkdir()
    write_sample(data / "BidPublicInfoService_BID_THNG_1.json", "THNG", 20)
    dataset = Dataset.read(data, schema="pgload_bench")
    monkeypatch.setenv("PATH", "")  # the wheel's psql has no TLS; the driver needs none on a socket
    required = replace(server, parameters={**server.parameters, "sslmode": "require"})
    with (
        pytest.raises(PsqlError, match=r"psql failed: .*require"),
        prepared_copy(required, dataset, 2, tmp_path),
    ):
        pass


def test_psql_variables() -> None:
    """psql gets the keywords of the target by libpq's variables, but no passphrase, which has
    none."""
    given = {"host": "h", "dbname": "d", "connect_timeout": 5, "require_auth": "gss"}
    target = Target("GCP", {**given, "sslpassword": "s3cret"}, stored_password("p/w"))
    assert psql_variables(target) == {
        "PGHOST": "h",
        "PGHOSTADDR": "",
        "PGDATABASE": "d",
        "PGCONNECT_TIMEOUT": "5",
        "PGREQUIREAUTH": "gss",
        "PGCLIENTENCODING": "UTF8",
        "PGPASSWORD": "p/w",
    }
