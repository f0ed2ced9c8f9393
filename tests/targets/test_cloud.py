"""A cloud is configured in `.env` or by environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.errors import UsageError
from pgload.targets.cloud import (
    check_cloud,
    chosen_cloud,
    cloud_target,
    configured,
    default_cloud,
    environment,
    open_target,
    unconfigured_default,
)
from tests.support.servers import SECRET

GCP = {"GCP_DB_HOST": "h", "GCP_DB_NAME": "d", "GCP_DB_USER": "u", "GCP_DB_PASSWORD": SECRET}


def test_variables() -> None:
    """Variables become connection parameters, with TLS unless another mode is set."""
    target = cloud_target("GCP", GCP)
    assert target.parameters == {
        "host": "h",
        "port": "5432",
        "dbname": "d",
        "user": "u",
        "sslmode": "require",
        "connect_timeout": 15,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60000,
    }
    assert target.with_secret() == {**target.parameters, "password": SECRET}
    more = {
        "GCP_DB_PORT": "6432",
        "GCP_DB_SSLMODE": "verify-full",
        "GCP_DB_SSLROOTCERT": "/ca.pem",
        "GCP_INSTANCE_TYPE": "db-custom-2-7680",
        "GCP_PRICE_PER_HOUR": "0.14",
    }
    target = cloud_target("GCP", GCP | more)
    assert target.parameters["port"] == "6432"
    assert target.parameters["sslmode"] == "verify-full"
    assert target.parameters["sslrootcert"] == "/ca.pem"
    assert (target.instance_type, target.price_per_hour) == ("db-custom-2-7680", 0.14)


def test_price_not_a_number() -> None:
    """A price has to be a number."""
    with pytest.raises(UsageError, match="GCP_PRICE_PER_HOUR is 'cheap': give a number"):
        cloud_target("GCP", GCP | {"GCP_PRICE_PER_HOUR": "cheap"})


def test_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real environment variables win over `.env`."""
    (tmp_path / ".env").write_text("GCP_DB_HOST=from-file\nGCP_DB_NAME=from-file\n")
    monkeypatch.setenv("GCP_DB_HOST", "from-environment")
    variables = environment(tmp_path)
    assert variables["GCP_DB_HOST"] == "from-environment"
    assert variables["GCP_DB_NAME"] == "from-file"


def test_default_cloud() -> None:
    """CLOUD_PROVIDER, then ENV, if that cloud is configured; otherwise EMBEDDED."""
    assert default_cloud({}) == "EMBEDDED"
    assert default_cloud({"CLOUD_PROVIDER": "gcp"}) == "EMBEDDED"
    assert default_cloud({"CLOUD_PROVIDER": "gcp"} | GCP) == "GCP"
    assert default_cloud({"ENV": "GCP"} | GCP) == "GCP"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, r"no cloud is named: give --cloud NAME, .*\(configured: GCP;"),
        ({"ENV": "GPC"}, "ENV=GPC of .* is not configured: set GPC_DB_HOST, .*; did you mean GCP"),
        ({"CLOUD_PROVIDER": "aws", "ENV": "GCP"}, "CLOUD_PROVIDER=AWS of .*: set AWS_DB_HOST, "),
        ({"ENV": "GCP", "GCP_DB_USER": ""}, r"ENV=GCP .* is not configured: set GCP_DB_USER \("),
        ({"ENV": "embedded"}, "ENV=EMBEDDED of .* names a temporary server, .* --cloud EMBEDDED"),
    ],
)
def test_chosen_cloud(variables: dict[str, str], message: str) -> None:
    """CLOUD_PROVIDER, else ENV, names a configured cloud; anything else is an error."""
    assert chosen_cloud({"ENV": "gcp"} | GCP) == "GCP"
    assert chosen_cloud({"ENV": "production", "CLOUD_PROVIDER": "GCP"} | GCP) == "GCP"
    with pytest.raises(UsageError, match=f"^{message}"):
        chosen_cloud(GCP | variables)


def test_unreadable_environment(tmp_path: Path) -> None:
    """A `.env` that cannot be read is an error; a folder of that name is a virtual environment."""
    (tmp_path / ".env").mkdir()
    assert "GCP_DB_HOST" not in environment(tmp_path)
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").write_bytes("GCP_DB_NAME=가".encode("cp949"))
    with pytest.raises(UsageError, match=r"\.env is not UTF-8"):
        environment(tmp_path)
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").symlink_to(".env")  # as unreadable for root as for anybody
    with pytest.raises(UsageError, match=r"\.env cannot be read: too many levels of symbolic"):
        environment(tmp_path)


def test_configured() -> None:
    """The configured clouds are those with all variables, or a URL."""
    variables = {"AWS_DB_HOST": "h", "NEON_DATABASE_URL": "postgresql://u:p@h/d", "_DB_HOST": "h"}
    assert configured(GCP | variables | {"OWN_DB_SERVICE": "own"}) == ["GCP", "NEON", "OWN"]


def test_unconfigured_default() -> None:
    """A CLOUD_PROVIDER that is not configured is reported, not replaced silently."""
    assert unconfigured_default({"CLOUD_PROVIDER": "aws"}) == "AWS"
    assert unconfigured_default({"CLOUD_PROVIDER": "container"}) is None
    assert unconfigured_default({}) is None


@pytest.mark.parametrize(
    ("cloud", "rtt_ms", "message"),
    [
        ("A/B", None, "--cloud 'A/B' cannot be a cloud's name"),
        ("", None, "--cloud '' cannot be a cloud's name"),
        ("GPC", None, "--cloud GPC is not configured: did you mean GCP"),
        ("EMBEDED", None, "--cloud EMBEDED is not configured: did you mean EMBEDDED"),
        ("NEON", None, "--cloud NEON is not configured: set NEON_DB_HOST, NEON_DB_NAME, NEON_DB_"),
        ("GCP", 20.0, "--rtt 20 is for EMBEDDED and CONTAINER, not for GCP"),
    ],
)
def test_check_cloud(cloud: str, rtt_ms: float | None, message: str) -> None:
    """A wrong name, a missing variable, or a latency where none can be added, is an error."""
    check_cloud("GCP", GCP, None)
    check_cloud("EMBEDDED", {}, 20)
    with pytest.raises(UsageError, match=f"^{message}"):
        check_cloud(cloud, GCP, rtt_ms)


def test_open_target(tmp_path: Path) -> None:
    """A local cloud is started, with the latency asked for; another one is only described."""
    with open_target("GCP", GCP) as target:
        assert target.parameters["host"] == "h"
    cache = tmp_path / "cache"
    with open_target("EMBEDDED", {"EMBEDDED_CACHE": str(cache)}, rtt_ms=1) as target:
        assert target.facts == {"rtt_asked_ms": 1}
        target.connect().close()
    assert len(list(cache.iterdir())) == 1
