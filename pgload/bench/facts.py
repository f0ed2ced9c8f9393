"""What numbers depend on, once for each side: the server, and the machine that the client ran on.

Nothing that leads to a server or lets anyone in.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# What a server's write speed depends on, told even where it is the default.
SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "wal_buffers",
    "wal_sync_method",
    "max_wal_size",
    "checkpoint_timeout",
    "commit_delay",
    "shared_buffers",
    "max_connections",
    "autovacuum",
)
# Only a string can be a secret, a path or an address; of those that are strings, these are none.
HARMLESS_STRINGS = ("shared_preload_libraries", "default_table_access_method")
LEADS_THERE = ("port",)

_SETTINGS_QUERY = """
    SELECT name, current_setting(name) FROM pg_settings
    WHERE name = ANY(%s) OR (
        source NOT IN ('default', 'override', 'client', 'session')
        AND (vartype <> 'string' OR name = ANY(%s)) AND name <> ALL(%s)
    )
    ORDER BY name"""


def server_facts(target: Target, connection: Connection) -> dict[str, Any]:
    """What is known of a server; `settings` holds every one that is not the default."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT version(), (SELECT max(version) FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
        )
        ((build, tls),) = cursor.fetchall()
        names = (list(SETTINGS), list(HARMLESS_STRINGS), list(LEADS_THERE))
        cursor.execute(_SETTINGS_QUERY, names)
        settings = dict(cursor.fetchall())
    return {
        "version": connection.info.parameter_status("server_version"),
        "build": build,
        "settings": settings,
        "tls": tls,
        "instance_type": target.instance_type,
        "price_per_hour": target.price_per_hour,
        **_shape(target.instance_type),
        **target.known,
    }


def _shape(instance_type: str | None) -> dict[str, int]:
    """The size that an instance type tells by its name, as `db-custom-2-7680` does."""
    found = re.fullmatch(r"db-custom-(\d+)-(\d+)", instance_type or "")
    return {"vcpus": int(found[1]), "memory_mb": int(found[2])} if found else {}


def client_facts() -> dict[str, Any]:
    """The machine that the client runs on, and what it runs with."""
    import psycopg2

    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "driver": f"psycopg2 {psycopg2.__version__}",  # type: ignore[attr-defined]
        "libpq": psycopg2.__libpq_version__,
        "os": platform.platform(),
    }


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:  # macOS
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except OSError:
            told = ""
        return told.strip() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE)
    return found[1] if found else platform.machine()  # ARM tells no name
