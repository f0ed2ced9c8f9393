"""What is asked for, and what a migration would do: which file goes where, and what hinders it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pgload.errors import SourceError, UsageError
from pgload.migrate.outputs import KEEP_RUNS
from pgload.migrate.retry import PATIENCE
from pgload.migrate.upsert import OnConflict
from pgload.schema.mapping import Rule, plan_fields, read_mapping, table_for
from pgload.schema.match import Match, conflict_key, match_table
from pgload.schema.table import Table, describe
from pgload.source.scan import Scan, scan
from pgload.source.stores import data_files

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SHOWN = 12  # names in a list; a table may have hundreds of columns


@dataclass(frozen=True, kw_only=True)
class MigrateOptions:
    """What the command line asks for."""

    data: Path
    cloud: str | None = None
    method: str = "values"
    batch_size: int = 1000
    connections: int = 1
    output_dir: Path = Path("migration_outputs")
    on_conflict: Literal["error", OnConflict] = "error"
    resume: bool = False
    restart: bool = False
    create_tables: bool = False
    ignore_unknown: bool = False
    dry_run: bool = False
    ledger: bool = True
    max_rejects: int | None = None
    patience: float = PATIENCE
    keep_runs: int = KEEP_RUNS
    command: Sequence[str] = ()  # how it was called, to say how to go on

    @property
    def writes_again(self) -> bool:
        """Whether what earlier runs have committed is written once more."""
        return self.restart or (self.on_conflict != "error" and not self.resume)


@dataclass
class Folder:
    """What a folder holds: each file is in exactly one of these, in name order."""

    path: Path
    rules: list[Rule]
    scans: dict[Path, Scan] = field(default_factory=dict)
    empty: list[Path] = field(default_factory=list)  # files that hold no record
    broken: dict[Path, SourceError] = field(default_factory=dict)


def read_folder(path: Path) -> Folder:
    """Read every file once, to its end.

    One that holds no data is `broken` and does not keep the others. Raises `SourceError` for a
    folder without JSON files, `UsageError` for a wrong mapping file.
    """
    folder = Folder(path, read_mapping(path))
    for file in data_files(path):
        try:
            found = scan(file, infer=not table_for(file, folder.rules)[1])
            if found.records and not found.fields:
                raise SourceError(f"{file.name}: its records have no field, so nothing to store")
        except SourceError as error:
            folder.broken[file] = error
            continue
        if found.records:
            folder.scans[file] = found
        else:
            folder.empty.append(file)
    return folder


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
    """What is to become of a folder's files."""

    folder: Folder
    files: list[FilePlan] = field(default_factory=list)
    duplicates: dict[Path, Path] = field(default_factory=dict)  # file → the one that it equals
    broken: dict[Path, SourceError] = field(default_factory=dict)
    create: list[Table] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # for which nothing may be written

    @property
    def records(self) -> int:
        return sum(file.scan.records for file in self.files)


def make_plan(folder: Folder, connection: Connection, asked: MigrateOptions) -> Plan:
    """Match the files to the server's tables; write nothing."""
    plan = Plan(folder, broken=dict(folder.broken))
    to_create: dict[Path, Scan] = {}
    for path, found in folder.scans.items():
        table, _ = table_for(path, folder.rules)
        try:
            match = match_table(table, found.fields, connection)
            if match is None:
                to_create[path] = found
                continue
            file = FilePlan(found, match.table, match)
            if asked.on_conflict != "error":
                key = conflict_key(file.table, connection)
                file = replace(file, table=replace(file.table, key=key))
            plan.files.append(file)
            plan.problems += _misfits(path, match, asked.ignore_unknown)
        except UsageError as error:
            plan.problems.append(f"{path.name}: {error}")
    for file in _to_be_created(plan, to_create, connection):
        name = file.table.name
        if not asked.create_tables:
            plan.problems.append(
                f"{file.path.name}: there is no table {name}: --create-tables makes it, or name "
                f"another in {folder.path / 'tables.toml'}"
            )
        elif asked.on_conflict != "error" and not file.table.key:
            plan.problems.append(
                f"{file.path.name}: table {name} would have no key to tell records by: give it one "
                f"in {folder.path / 'tables.toml'}, or use --on-conflict error"
            )
        elif file.table not in plan.create:
            plan.create.append(file.table)
        plan.files.append(file)
    plan.files.sort(key=lambda file: file.path)
    _leave_out_twins(plan)
    return plan


def _to_be_created(
    plan: Plan, scans: Mapping[Path, Scan], connection: Connection
) -> Iterator[FilePlan]:
    """Files for which there is no table yet."""
    if not scans:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()::text")
        ((schema,),) = cursor.fetchall()
    rules = plan.folder.rules
    fit: dict[Path, Scan] = {}
    for path, found in scans.items():
        try:
            plan_fields({path: found.fields}, rules)
            fit[path] = found
        except SourceError as error:  # a field that cannot be a column
            plan.broken[path] = error
    tables = plan_fields({path: found.fields for path, found in fit.items()}, rules)
    for path, table in tables.items():
        yield FilePlan(fit[path], replace(table, schema=schema), None)


def _leave_out_twins(plan: Plan) -> None:
    """Of files with the same content for the same table the first one counts."""
    first: dict[tuple[str, str | None, str], FilePlan] = {}
    for file in plan.files:
        key = (file.scan.content, file.table.schema, file.table.name)
        if first.setdefault(key, file) is not file:
            plan.duplicates[file.path] = first[key].path
    plan.files = [file for file in plan.files if file.path not in plan.duplicates]


def _misfits(path: Path, match: Match, ignore_unknown: bool) -> Iterator[str]:
    name = match.table.name
    if not match.table.columns:
        yield f"{path.name}: no field of it has a column in table {name}: is it the right table?"
    elif match.unknown and not ignore_unknown:
        yield (
            f"{path.name}: table {name} has no column for {_listed(match.unknown)}: add one "
            "(ALTER TABLE … ADD COLUMN), or leave them out with --ignore-unknown"
        )
    if match.missing and not ignore_unknown:
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
    for path, twin in plan.duplicates.items():
        yield f"{path.name}: left out, it holds the same as {twin.name}"
    for path in plan.folder.empty:
        yield f"{path.name}: holds no record"
    for error in plan.broken.values():
        yield f"not migrated: {error}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
