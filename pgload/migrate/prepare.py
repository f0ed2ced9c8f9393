"""What happens on the server before the first batch: tables are created, files recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.contract import REJECTS
from pgload.errors import UsageError
from pgload.migrate.counts import tables_that_may_suppress
from pgload.migrate.ledger.entries import EMPTY, Entry
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.options import MigrateOptions
from pgload.migrate.outputs.held_rejects import settle_rejects
from pgload.migrate.plan import FilePlan, Plan
from pgload.migrate.writing.partitions import UNDIVIDED, Partitioning, TableKey, key_of
from pgload.migrate.writing.upsert import Upsert, make_upserts
from pgload.schema.table import Table, create_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# A commit that waits for the disk makes all earlier ones durable, too, even where
# synchronous_commit is off. The message is what the transaction writes; nothing reads it.
MAKE_DURABLE = (
    "BEGIN; SET LOCAL synchronous_commit = on; "
    "SELECT pg_catalog.pg_logical_emit_message(true, 'pgload', 'loaded'); COMMIT"
)


@dataclass(frozen=True)
class Prepared:
    """A plan whose tables exist, and what the workers need to know of them."""

    plan: Plan
    entries: Mapping[Path, Entry]  # what is committed of each file
    shared: Sequence[FilePlan]  # files that another migration writes as well, or may do so
    upserts: Mapping[Table, Upsert]
    may_suppress: set[Table]
    partitionings: Mapping[Path, Partitioning]  # of files that are divided or written in order


def prepare(
    plan: Plan,
    make_plan_now: Callable[[], Plan],
    ledger: Ledger | None,
    options: MigrateOptions,
    connection: Connection,
    note: Callable[[str], None],
) -> Prepared:
    """Create the missing tables, and record the files in the ledger; may be called again.

    `make_plan_now` plans again, for tables that another migration has created in the meantime;
    `note` is called with what the user should know. Raises `UsageError` where nothing can be
    written.
    """
    plan = _create_tables(plan, make_plan_now, ledger, options, connection, note)
    if ledger:
        for text in settle_rejects(options.output_dir, ledger):
            note(text)
    tables = [file.table for file in plan.files]
    may_suppress = tables_that_may_suppress(tables, connection)
    keys: dict[Table, TableKey] = {}
    if options.on_conflict == "update":
        for table in dict.fromkeys(tables):
            keys[table] = key_of(table, connection, may_change=table in may_suppress)
    partitionings = _new_partitionings(plan, keys, options, note)
    entries, shared = _begin_files(plan, ledger, partitionings, options, note)
    partitionings |= _recorded_partitionings(plan, entries, keys, partitionings, note)
    with connection.cursor() as cursor:
        cursor.execute(MAKE_DURABLE)  # a crash must not lose a table that has batches
    return Prepared(
        plan,
        entries,
        shared,
        make_upserts(tables, options.on_conflict, connection),
        may_suppress,
        partitionings,
    )


def _create_tables(
    plan: Plan,
    make_plan_now: Callable[[], Plan],
    ledger: Ledger | None,
    options: MigrateOptions,
    connection: Connection,
    note: Callable[[str], None],
) -> Plan:
    """Create the tables of the plan; returns the plan that holds now."""
    import psycopg2

    unique = options.on_conflict != "error"
    if ledger:
        ledger.create()
    with connection.cursor() as cursor:
        while plan.create:
            table = plan.create[0]
            statements = [create_table(table, connection, unique_key=unique)]
            if ledger:
                statements.append(ledger.delete_statement(table))
            try:
                cursor.execute("; ".join(statements))  # one transaction
            except (psycopg2.errors.DuplicateTable, psycopg2.errors.UniqueViolation):
                note(f"table {table.name} was just created by another migration")
                plan = make_plan_now()
                _check_exists(table, plan)
                continue
            del plan.create[0]
    return plan


def _check_exists(table: Table, plan: Plan) -> None:
    """Raise `UsageError` if a table that could not be created is still missing."""
    problems = list(plan.problems)
    if table.name in [each.name for each in plan.create]:
        problems.append(
            f"the name {table.name} is taken by a sequence, an index or a type: name another "
            "table in tables.toml"
        )
    if problems:
        raise UsageError("; ".join(problems)) from None


def _new_partitionings(
    plan: Plan,
    keys: Mapping[Table, TableKey],
    options: MigrateOptions,
    note: Callable[[str], None],
) -> dict[Path, Partitioning]:
    """How files are divided that no run has begun; none if their batches need no order."""
    obstacles = {table.name: key.obstacle for table, key in keys.items() if key.obstacle}
    if options.connections > 1:
        for name, obstacle in obstacles.items():
            note(
                f"--on-conflict update writes {name} over one connection, so that of records with "
                f"the same key the last one in the files stays: {obstacle}"
            )
    return {
        file.path: keys[file.table].partitioning(
            file.scan.records, options.batch_size, options.connections
        )
        for file in plan.files
        if file.table in keys
    }


def _recorded_partitionings(
    plan: Plan,
    entries: Mapping[Path, Entry],
    keys: Mapping[Table, TableKey],
    new: Mapping[Path, Partitioning],
    note: Callable[[str], None],
) -> dict[Path, Partitioning]:
    """How files were divided by the runs that have begun them.

    Raises `UsageError` if that would no longer keep the order of records with the same key.
    """
    found: dict[Path, Partitioning] = {}
    for file in plan.files:
        entry = entries[file.path]
        recorded = Partitioning.from_ledger(entry.partitions)
        if not entry.batch_size or recorded == new.get(file.path, UNDIVIDED):
            continue
        name, key = file.path.name, keys.get(file.table)
        if key and recorded.count > 1 and not key.divides(recorded):
            fields = ", ".join(f"{field} ({kind})" for field, kind in recorded.key)
            raise UsageError(
                f"{name}: it was begun with its records divided by {fields}, and table "
                f"{file.table.name} was changed since: load all of them again with --restart"
            )
        if key:
            note(f"{name}: continued over at most {recorded.count} connections, as begun")
        found[file.path] = recorded
    return found


def _begin_files(
    plan: Plan,
    ledger: Ledger | None,
    partitionings: Mapping[Path, Partitioning],
    options: MigrateOptions,
    note: Callable[[str], None],
) -> tuple[dict[Path, Entry], list[FilePlan]]:
    """Record the files in the ledger; returns what is committed of each, and the shared ones."""
    if ledger is None:
        return dict.fromkeys([file.path for file in plan.files], EMPTY), []
    begun = ledger.begin(
        [file.in_ledger for file in plan.files],
        options.batch_size,
        partitions={
            file.in_ledger.key: partitionings[file.path].to_ledger()
            for file in plan.files
            if file.path in partitionings
        },
        forget=options.writes_again,
        refuse_shared=options.restart,
    )
    entries: dict[Path, Entry] = {}
    shared: list[FilePlan] = []
    for file in plan.files:
        name = file.path.name
        entry, is_shared, certain = begun[file.in_ledger.key]
        entries[file.path] = entry
        if is_shared:
            shared.append(file)
        if certain:
            note(f"{name}: another migration writes this file as well")
        if entry.batch_size != options.batch_size:
            note(f"{name}: continued with batch size {entry.batch_size:,}, as begun")
        if entry.rejected:
            rejects = options.output_dir / "runs" / "*" / REJECTS
            note(
                f"{name}: {entry.rejected:,} of its records were rejected by an earlier run: "
                f"see {rejects}"
            )
    return entries, shared
