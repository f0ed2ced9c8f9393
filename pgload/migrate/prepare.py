"""What happens on the server before the first batch: tables are created, files recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.contract import REJECTS
from pgload.errors import UsageError
from pgload.migrate.counts import tables_that_may_suppress
from pgload.migrate.ledger import EMPTY, Entry, Ledger
from pgload.migrate.options import MigrateOptions
from pgload.migrate.plan import FilePlan, Plan
from pgload.migrate.upsert import Upsert, make_upserts
from pgload.schema.table import Table, create_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

# One commit that waits for the disk: with it every earlier commit is there, too, even where
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
    entries, shared = _begin_files(plan, ledger, options, note)
    with connection.cursor() as cursor:
        cursor.execute(MAKE_DURABLE)  # a crash must not take a table that batches were put into
    tables = [file.table for file in plan.files]
    return Prepared(
        plan,
        entries,
        shared,
        make_upserts(tables, options.on_conflict, connection),
        tables_that_may_suppress(tables, connection),
    )


def _create_tables(
    plan: Plan,
    make_plan_now: Callable[[], Plan],
    ledger: Ledger | None,
    options: MigrateOptions,
    connection: Connection,
    note: Callable[[str], None],
) -> Plan:
    """Create the tables of the plan; gives the plan that holds now."""
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
    """Raise `UsageError` if a table that could not be created is missing still."""
    problems = list(plan.problems)
    if table.name in [each.name for each in plan.create]:
        problems.append(
            f"the name {table.name} is taken by a sequence, an index or a type: name another "
            "table in tables.toml"
        )
    if problems:
        raise UsageError("; ".join(problems)) from None


def _begin_files(
    plan: Plan, ledger: Ledger | None, options: MigrateOptions, note: Callable[[str], None]
) -> tuple[dict[Path, Entry], list[FilePlan]]:
    """Record the files in the ledger; gives what is committed of each, and the shared ones."""
    if ledger is None:
        return dict.fromkeys([file.path for file in plan.files], EMPTY), []
    begun = ledger.begin(
        [file.in_ledger for file in plan.files],
        options.batch_size,
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
