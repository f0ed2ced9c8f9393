"""What several tests need to load a file and look at what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgload.load.loader import Loader
from pgload.load.stats import LoadResult
from pgload.schema.mapping import Rule, plan_tables, read_mapping
from pgload.schema.table import Table, column_names, create_table, qualified_name
from pgload.source.reader import read_batches, read_records
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def write_json(path: Path, records: Any, **options: Any) -> Path:
    """Write `records` as one JSON document; `options` are those of `json.dumps`."""
    path.write_text(json.dumps(records, **{"ensure_ascii": False, **options}), "utf-8")
    return path


def plan(*paths: Path, rules: Iterable[Rule] = ()) -> dict[Path, Table]:
    """The planned tables of whole files."""
    return plan_tables({path: list(chain(*read_records(path))) for path in paths}, rules)


def make_table(path: Path, schema: str, connection: Connection) -> Table:
    """The planned table of a file, created empty in `schema`."""
    table = plan(path, rules=read_mapping(path.parent))[path]
    table = replace(table, schema=schema)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {qualified_name(table, connection)}")
        cursor.execute(create_table(table, connection, unique_key=False))
    return table


def load(
    path: Path,
    table: Table,
    server: Target,
    method: str = "copy",
    *,
    batch_size: int = 100,
    connections: int = 1,
) -> LoadResult:
    """Load a file into its table."""
    with Loader(server.connect, method, connections=connections) as loader:
        return loader.run((table, batch) for batch in read_batches(path, batch_size))


def rows(table: Table, connection: Connection) -> list[tuple[Any, ...]]:
    """The rows of a table in the order of their ids, without what the server filled in."""
    columns = ", ".join(column_names(table, connection))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {qualified_name(table, connection)} ORDER BY id")
        return cursor.fetchall()


def empty(table: Table, connection: Connection) -> None:
    """Remove all rows of a table."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {qualified_name(table, connection)}")
