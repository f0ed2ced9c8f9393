"""Thousands of small files: few locks, few statements.

PGLOAD_FILES=15000 pytest tests/migrate/test_many_files.py
"""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from pathlib import Path

from pgload.targets.embedded import newest_install
from tests.support.migrating import make_sandbox, wait_while_running
from tests.support.servers import embedded

# More than the server has locks for.
FILES, TABLES = int(os.environ.get("PGLOAD_FILES", "500")), 100
SETTINGS = {"fsync": "off", "max_connections": "25", "max_locks_per_transaction": "10"}


def test_many_small_files(tmp_path: Path) -> None:
    """They need no more locks than a few files: another session dumps 100 tables meanwhile."""
    install = newest_install()
    assert install is not None
    with (
        embedded(**SETTINGS) as target,
        make_sandbox(target, tmp_path) as sandbox,
    ):
        sandbox.sql("; ".join(f"CREATE TABLE other_{n} (a int)" for n in range(TABLES)))
        for n in range(FILES):
            sandbox.numbers(f"t_{n:05}.json", 2, start=2 * n)
        (sandbox.data / "tables.toml").write_text(
            '[[table]]\nfiles = "t_*.json"\nname = "t"\n', "utf-8"
        )
        dump = [str(install / "bin/pg_dump"), "-h", str(target.parameters["host"])]
        dump += ["-U", "postgres", "-d", sandbox.name, "-f", os.devnull]
        dumps = 0
        with (
            (tmp_path / "output").open("w") as output,
            sandbox.start("--connections", "4", stdout=output) as process,
            closing(sandbox.connect()) as truth,
        ):
            wait_while_running(process, lambda: sandbox.committed(truth))
            while process.poll() is None:
                subprocess.run(dump, check=True)
                dumps += 1
        assert process.returncode == 0, (tmp_path / "output").read_text()
        assert dumps > 0
        assert sandbox.sql("SELECT count(*), count(DISTINCT n) FROM t") == [(2 * FILES, 2 * FILES)]
        assert sandbox.migrate("--resume") == 0
        assert sandbox.output("migration_results.json")["total_records"] == 0
