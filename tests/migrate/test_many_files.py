"""Thousands of small files: few locks, few statements."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.support.migrating import make_sandbox
from tests.support.servers import embedded

FILES, TABLES = 3000, 300


def test_many_small_files(tmp_path: Path) -> None:
    """They need no more locks than a few files, even while another session locks 300 tables."""
    with embedded(max_connections="25") as target, make_sandbox(target, tmp_path) as sandbox:
        with closing(sandbox.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("; ".join(f"CREATE TABLE other_{n} (a int)" for n in range(TABLES)))
            cursor.execute("BEGIN")
            names = ", ".join(f"other_{n}" for n in range(TABLES))
            cursor.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
            for n in range(FILES):
                sandbox.numbers(f"t_{n:04}.json", 2, start=2 * n)
            (sandbox.data / "tables.toml").write_text(
                '[[table]]\nfiles = "t_*.json"\nname = "t"\n', "utf-8"
            )
            assert sandbox.migrate("--connections", "4") == 0
            cursor.execute("ROLLBACK")
        assert sandbox.sql("SELECT count(*), count(DISTINCT n) FROM t") == [(2 * FILES, 2 * FILES)]
        assert sandbox.migrate("--resume") == 0
        assert sandbox.output("migration_results.json")["total_records"] == 0
