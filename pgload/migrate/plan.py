"""What a migration would do: which file goes to which table, and the problems in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.errors import SourceError, UsageError
from pgload.migrate.ledger.entries import LedgerFile
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.ledger.table import NAME as LEDGER
from pgload.migrate.options import MigrateOptions, OnUnknown
from pgload.schema.mapping import (
    Rule,
    check_width,
    column_name,
    format_for,
    other_names,
    plan_fields,
    read_mapping,
    table_for,
    with_empty_strings,
)
from pgload.schema.match import Catalog, Match
from pgload.schema.table import Column, Table, snake_case
from pgload.source.scan import Fields, Scan, scan
from pgload.source.stores import MAPPING_NAME, find

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SHOWN = 12  # names in a list; a table may have hundreds of columns


@dataclass
class Folder:
    """A folder's files: each JSON file is in `scans`, `empty` or `broken`, in name order."""

    path: Path
    rules: list[Rule]
    others: tuple[str, ...]  # entries that are not JSON files
    note: str = ""  # on where the data is
    scans: dict[Path, Scan] = field(default_factory=dict)
    empty: list[Path] = field(default_factory=list)  # files without records
    broken: dict[Path, SourceError] = field(default_factory=dict)


def read_folder(data: str | Path, *, infer: bool = True) -> Folder:
    """Read every file at the place that `--data` names once, to its end.

    With `infer` the types of new tables' columns are inferred, too.

    A file without data is `broken`; the others are read all the same. Raises `SourceError` for a
    place without JSON files, `UsageError` for a wrong mapping file.
    """
    there = find(data)  # first, as it explains why a folder cannot be read
    folder = Folder(there.folder, read_mapping(there.folder), tuple(there.others), there.note)
    for source in there.sources:
        file = source.path
        try:
            _, rule = table_for(file, folder.rules)
            types = infer and (rule is None or rule.infer)
            found = scan(source, infer=types, form=format_for(file, folder.rules))
            if found.records and not found.fields:
                raise SourceError(
                    f"{file.name}: its records have no field, so there is nothing to store"
                )
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
    match: Match | None  # None: the table will be created

    @property
    def path(self) -> Path:
        return self.scan.path

    @property
    def in_ledger(self) -> LedgerFile:
        return LedgerFile(self.scan.content, self.path.name, self.table)


@dataclass
class Plan:
    """What will be done with a folder's files."""

    folder: Folder
    files: list[FilePlan] = field(default_factory=list)
    duplicates: dict[Path, Path] = field(default_factory=dict)  # file → the first with its content
    broken: dict[Path, SourceError] = field(default_factory=dict)
    create: list[Table] = field(default_factory=list)
    add: list[tuple[Table, tuple[Column, ...]]] = field(default_factory=list)  # to existing tables
    problems: list[str] = field(default_factory=list)  # nothing may be written while there are any

    @property
    def records(self) -> int:
        return sum(file.scan.records for file in self.files)


def make_plan(folder: Folder, connection: Connection, options: MigrateOptions) -> Plan:
    """Match the files to the server's tables; writes nothing."""
    plan = Plan(folder, broken=dict(folder.broken))
    catalog = Catalog(connection, override_identity=options.override_identity)
    catalog.read(each for path in folder.scans for each in _tables_of(path, folder.rules))
    to_create: dict[Path, Scan] = {}
    for path, found in folder.scans.items():
        try:
            table, match = _match(path, found, folder.rules, catalog)
            if match is None:
                to_create[path] = found
                continue
            if options.on_unknown == "add" and match.unknown and match.table.columns:
                for name in match.unknown:
                    column_name(name, path)
                plan.add.append((match.table, catalog.add_columns(table, match)))
                _, match = _match(path, found, folder.rules, catalog)
                assert match is not None
            _, rule = table_for(path, folder.rules)
            file = FilePlan(found, with_empty_strings(match.table, rule), match)
            if options.on_conflict != "error":
                key = catalog.conflict_key(file.table)
                file = replace(file, table=replace(file.table, key=key))
            plan.files.append(file)
            plan.problems += _mismatches(path, match, options.on_unknown)
        except SourceError as error:
            plan.broken[path] = error
        except UsageError as error:
            plan.problems.append(f"{path.name}: {error}")
    for file in _to_be_created(plan, to_create, catalog):
        name = file.table.name
        if not options.create_tables:
            plan.problems.append(
                f"{file.path.name}: table {name} does not exist: create it with --create-tables, "
                f"or name another in {folder.path / MAPPING_NAME}"
            )
        elif options.on_conflict != "error" and not file.table.key:
            plan.problems.append(
                f"{file.path.name}: --on-conflict {options.on_conflict} needs a key, and table "
                f"{name} would have none: set one in {folder.path / MAPPING_NAME}"
            )
        elif file.table.schema is not None and not catalog.has_schema(file.table.schema):
            plan.problems.append(
                f"{file.path.name}: schema {file.table.schema} does not exist: create it (CREATE "
                f"SCHEMA), or name another in {folder.path / MAPPING_NAME}"
            )
        elif file.table not in plan.create:
            plan.create.append(file.table)
        plan.files.append(file)
    plan.files.sort(key=lambda file: file.path)
    _remove_duplicates(plan)
    return plan


def _match(
    path: Path, found: Scan, rules: list[Rule], catalog: Catalog
) -> tuple[Table, Match | None]:
    """The table of a file, and its match to an existing one of any of its names.

    Raises `SourceError` for a file named like the ledger, into which no records may be written.
    """
    possible = _tables_of(path, rules)
    for each in possible:
        if snake_case(each.name) == LEDGER:
            raise SourceError(
                f"{path.name}: {LEDGER} is the table in which pgload records what is committed: "
                f"rename the file, or name another table in {MAPPING_NAME}"
            )
        if match := catalog.match(each, found.fields):
            return each, match
    return possible[0], None


def _tables_of(path: Path, rules: list[Rule]) -> list[Table]:
    """The tables that a file may go to; the first that exists, or else the first."""
    table, rule = table_for(path, rules)
    return [table, *(other_names(path) if rule is None else ())]


def _to_be_created(plan: Plan, scans: Mapping[Path, Scan], catalog: Catalog) -> Iterator[FilePlan]:
    """Files whose table does not exist yet, with the table to create."""
    rules = plan.folder.rules
    possible: dict[Path, Fields] = {}
    for path, found in scans.items():
        try:
            (table,) = plan_fields({path: found.fields}, rules).values()
            check_width(table, path)
            possible[path] = found.fields
        except SourceError as error:  # a field that cannot be a column, or too many
            plan.broken[path] = error
    for path, table in plan_fields(possible, rules).items():
        try:
            check_width(table, path)
        except SourceError as error:  # with the fields of all its files
            plan.broken[path] = error
            continue
        schema = table.schema or catalog.current_schema()
        yield FilePlan(scans[path], replace(table, schema=schema), None)


def _remove_duplicates(plan: Plan) -> None:
    """Keep the first of several files with the same content for the same table."""
    first: dict[tuple[str, str | None, str], FilePlan] = {}
    for file in plan.files:
        key = (file.scan.content, file.table.schema, file.table.name)
        if first.setdefault(key, file) is not file:
            plan.duplicates[file.path] = first[key].path
    plan.files = [file for file in plan.files if file.path not in plan.duplicates]


def _mismatches(path: Path, match: Match, on_unknown: OnUnknown) -> Iterator[str]:
    name = match.table.name
    if not match.table.columns:
        yield f"{path.name}: none of its fields has a column in table {name}: is it the right one?"
    elif match.unknown and on_unknown == "error":
        yield (
            f"{path.name}: table {name} has no column for {listed(match.unknown)}: add it "
            "(--on-unknown add), or omit the fields (--on-unknown ignore)"
        )
    if match.identity and on_unknown != "ignore":
        yield (
            f"{path.name}: {listed(match.identity)} of table {name} is generated always as "
            "identity: write its values with --override-identity, or omit the field with "
            "--on-unknown ignore"
        )
    if match.missing and on_unknown != "ignore":
        yield (
            f"{path.name}: table {name} requires {listed(match.missing)}, which no record has: "
            "give the column a default, or have the records rejected with --on-unknown ignore"
        )


def check_ledger(plan: Plan, ledger: Ledger, options: MigrateOptions) -> dict[Path, str]:
    """What the ledger records of each file, as a note.

    Adds to the plan's problems what would lose or duplicate records.
    """
    notes: dict[Path, str] = {}
    known = [file for file in plan.files if file.match is not None]
    asked = {file.path: file.in_ledger for file in known}
    entries = ledger.look_up(list(asked.values()))
    begun = {key for key, entry in entries.items() if entry.batches}
    others = ledger.records_of_other_versions([f for f in asked.values() if f.key not in begun])
    # With --resume it makes no difference, and through a pooler it may take seconds to know.
    asks = not (options.resume or options.writes_again)
    running = ledger.being_written({key: entries[key] for key in begun}) if asks else set()
    missing: dict[Table, str] = {}
    for each in {file.table for file in known if asked[file.path].key in begun}:
        of_table = [entry for (_, table), entry in entries.items() if table == each]
        if found := ledger.rows_missing(each, of_table):
            relied, there = found
            missing[each] = (
                f"which has {there:,} rows of the {relied:,} that it should have"
                if there
                else "which is empty"
            )
    for file in known:
        name, into, key = file.path.name, file.table.name, asked[file.path].key
        entry = entries.get(key)
        if entry is None or not entry.batches:
            other = others.get(key, 0)
            if other and options.resume and options.on_conflict == "error":
                plan.problems.append(
                    f"{name}: {other:,} records of another version of this file are in {into}, "
                    "and could be loaded twice: put the new records into a file of their own "
                    "(fixed rejects: see pgload rejects), or omit --resume to load all of it"
                )
            elif other:
                notes[file.path] = (
                    f"{other:,} records of another version of this file are committed already, "
                    f"and stay; {_written_again(options)}"
                )
            continue
        notes[file.path] = f"{entry.records:,} committed already"
        if options.writes_again:
            notes[file.path] += f"; {_written_again(options)}"
        elif entry.records and file.table in missing:
            plan.problems.append(
                f"{name}: according to the ledger {entry.records:,} of its records are in {into}, "
                f"{missing[file.table]}: load all of them again with --restart"
            )
        elif not options.resume and key not in running:
            plan.problems.append(
                f"{name}: {entry.records:,} of its {file.scan.records:,} records are in {into} "
                "already: load the others with --resume, or all of them again with --restart"
            )
    return notes


def _written_again(options: MigrateOptions) -> str:
    if options.on_conflict == "error":
        return "all records of this file are added to them"
    return f"all records of this file are written, on conflict {options.on_conflict}"


def listed(names: tuple[str, ...]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
