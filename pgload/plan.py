"""What a migration would do: which file goes where, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.errors import SourceError, UsageError
from pgload.source.catalog import Match, conflict_key, match_table
from pgload.source.folder import data_files
from pgload.source.scan import Scan, scan
from pgload.source.tables import Table, describe, plan_fields, read_mapping, table_for

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SHOWN = 12  # names in a list; a table may have hundreds of columns


@dataclass(frozen=True)
class FilePlan:
    """A file and the table that its records go to."""

    scan: Scan
    table: Table
    match: Match | None  # None: the table is to be created

    @property
    def path(self) -> Path:
        return self.scan.path


@dataclass
class Plan:
    """A folder's files in name order."""

    files: list[FilePlan] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)  # files that hold no record
    broken: dict[Path, SourceError] = field(default_factory=dict)
    create: list[Table] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # for which nothing may be written

    @property
    def records(self) -> int:
        return sum(file.scan.records for file in self.files)


def make_plan(
    folder: Path,
    connection: Connection,
    *,
    create_tables: bool,
    ignore_unknown: bool,
    on_conflict: str,
    on_scan: Callable[[Path], None] = lambda _path: None,
) -> Plan:
    """Read every file once, and the server's catalog; write nothing.

    A file that holds no data is `broken` and does not keep the others. Raises `SourceError` for a
    folder without JSON files, `UsageError` for a wrong mapping file.
    """
    plan, rules, scans = Plan(), read_mapping(folder), dict[Path, Scan]()
    for path in data_files(folder):
        on_scan(path)
        try:
            scans[path] = scan(path, infer=not table_for(path, rules)[1])
        except SourceError as error:
            plan.broken[path] = error
    new_tables = plan_fields({path: found.fields for path, found in scans.items()}, rules)
    for path, found in scans.items():
        if not found.records or path not in new_tables:
            plan.empty.append(path)
            continue
        try:
            file = _file_plan(found, new_tables[path], connection, create_tables)
            if file.match and on_conflict != "error":
                key = conflict_key(file.table, connection)
                file = replace(file, table=replace(file.table, key=key))
            elif on_conflict != "error" and not file.table.key:
                raise UsageError(
                    f"{path.name}: table {file.table.name} would have no key to tell records by: "
                    f"give it one in {folder / 'tables.toml'}, or use --on-conflict error"
                )
        except UsageError as error:
            plan.problems.append(str(error))
            continue
        plan.files.append(file)
        if file.match:
            plan.problems += () if ignore_unknown else _misfits(path, file.match)
        elif file.table not in plan.create:
            plan.create.append(file.table)
    return plan


def _file_plan(found: Scan, new: Table, connection: Connection, create_tables: bool) -> FilePlan:
    match = match_table(new, found.fields, connection)
    if match is not None:
        return FilePlan(found, match.table, match)
    if not create_tables:
        raise UsageError(
            f"{found.path.name}: there is no table {new.name}: --create-tables makes it, or name "
            "another in tables.toml"
        )
    return FilePlan(found, new, None)


def _misfits(path: Path, match: Match) -> Iterator[str]:
    name = match.table.name
    if match.unknown:
        yield (
            f"{path.name}: table {name} has no column for {_listed(match.unknown)}: add one "
            "(ALTER TABLE … ADD COLUMN), or leave them out with --ignore-unknown"
        )
    if match.missing:
        yield (
            f"{path.name}: table {name} requires {_listed(match.missing)}, which no record has: "
            "give the column a default, or have the rows refused with --ignore-unknown"
        )


def describe_plan(plan: Plan, notes: Mapping[Path, str]) -> Iterator[str]:
    """Lines on what would be done; `notes` say what is known of a file already."""
    for table in plan.create:
        yield f"new table {describe(table)}"
    for file in plan.files:
        note = f"; {notes[file.path]}" if file.path in notes else ""
        yield (
            f"{file.path.name}: {file.scan.records:,} records, {file.scan.bytes / 1e6:,.1f} MB "
            f"into {file.table.name}, {len(file.table.columns)} columns{note}"
        )
        if file.scan.first_error is not None:
            yield f"  cannot be read: {file.scan.unreadable:,} of them; {file.scan.first_error}"
        match = file.match
        for what, names in (
            ("left out, no column", match.unknown if match else ()),
            ("left out, generated by the server", match.computed if match else ()),
            ("required, in no record", match.missing if match else ()),
            (
                "named otherwise",
                [f"{c.source} → {c.name}" for c in match.renamed] if match else (),
            ),
            ("its sequence will lag behind", match.sequences if match else ()),
        ):
            if names:
                yield f"  {what}: {_listed(names)}"
    for path in plan.empty:
        yield f"{path.name}: holds no record"
    for error in plan.broken.values():
        yield f"not migrated: {error}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
