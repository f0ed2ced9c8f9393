"""The last migrations, by the files that `python -m pgload migrate` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgload.contract import OUTPUT_DIR, PROGRESS, RESULTS, STATS

SHOWN = 5  # migrations, the newest first
LISTED = 200  # files and failures of each


@dataclass(frozen=True)
class TableLoad:
    """What one migration wrote into one table."""

    name: str
    records: int
    batches: int
    seconds: float  # summed over connections


@dataclass(frozen=True)
class SavedMigration:
    """One migration; `results` has the keys of its file, empty while it has none."""

    folder: Path
    results: Mapping[str, Any]
    files: tuple[Mapping[str, Any], ...]
    tables: tuple[TableLoad, ...]
    failures: tuple[Mapping[str, Any], ...]  # batches with an error

    @property
    def file_columns(self) -> list[str]:
        """What is known of the files, without what holds further values."""
        return list(
            dict.fromkeys(
                name
                for each in self.files
                for name, value in each.items()
                if not isinstance(value, dict | list)
            )
        )


def read_migrations(folder: Path = OUTPUT_DIR) -> tuple[list[SavedMigration], list[str]]:
    """The newest migrations below a folder, and what could not be read, a line each.

    The newest run's files lie in the folder itself, every run's in `runs/<time>/`. No folder is no
    migration.
    """
    found: list[SavedMigration] = []
    problems: list[str] = []
    runs = sorted((folder / "runs").glob("*/"), reverse=True)
    for each in (folder, *runs):
        try:
            migration = _read(each)
        except (OSError, ValueError) as error:
            problems.append(f"{each}: not the files of a migration: {error}")
            continue
        if migration and not any(_same(migration, other) for other in found):
            found.append(migration)
        if len(found) == SHOWN:
            break
    return found, problems


def _read(folder: Path) -> SavedMigration | None:
    results = _json(folder / RESULTS) or _json(folder / PROGRESS)
    stats = _json(folder / STATS)
    if not results and not stats:
        return None
    batches = _mappings(stats.get("batches"))
    return SavedMigration(
        folder,
        {**stats, **results},
        _mappings(results.get("files"))[:LISTED],
        _tables(batches),
        tuple(each for each in batches if each.get("error"))[:LISTED],
    )


def _same(one: SavedMigration, other: SavedMigration) -> bool:
    """The folder's own files and those of its last run are one migration."""
    keys = ("completion_time", "start_time", "total_records", "total_duration_seconds")
    return all(one.results.get(key) == other.results.get(key) for key in keys)


def _tables(batches: tuple[Mapping[str, Any], ...]) -> tuple[TableLoad, ...]:
    found: dict[str, TableLoad] = {}
    for each in batches:
        name = str(each.get("table_name"))
        known = found.get(name, TableLoad(name, 0, 0, 0.0))
        found[name] = TableLoad(
            name,
            known.records + int(_number(each.get("records_count"))),
            known.batches + 1,
            known.seconds + _number(each.get("total_duration_seconds")),
        )
    return tuple(found[name] for name in sorted(found))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no object")
    return content


def _mappings(values: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(values, list):
        return ()
    return tuple(each for each in values if isinstance(each, dict))
