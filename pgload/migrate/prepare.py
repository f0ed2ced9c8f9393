"""What happens on the server before the first batch: tables are created, files recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.contract import REJECTS
from pgload.errors import UsageError
from pgload.migrate.counts import tables_that_may_suppress
from pgload.migrate.durability import make_durable
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


@dataclass(frozen=True)
class Prepared:
    """A plan whose tables exist, and what the workers need to know of them."""

    plan: Plan
    entries: Mapping[Path, Entry]  # what is committed of each file
    shared: Sequence[FilePlan]  # files that another migration writes as well, or may do so
    upserts: Mapping[Table, Upsert]
    may_suppress: set[Table]
    partitionings: Mapping[Path, Partitioning]  # of files that are divided or written in order


@dataclass(frozen=True)
class Preparation:
    """What a run does on the server before its first batch.

    `make_plan_now` plans again, for tables that another migration has created in the meantime;
    `note` is called with what the user should know.
    """

    options: MigrateOptions
    ledger: Ledger | None
    connection: Connection
    make_plan_now: Callable[[], Plan]
    note: Callable[[str], None]

    def run(self, plan: Plan) -> Prepared:
        """Create the missing tables, and record the files in the ledger; may be called again.

        Raises `UsageError` where nothing can be written.
        """
        options, connection = self.options, self.connection
        plan = self._create_tables(plan)
        if self.ledger:
            for text in settle_rejects(options.output_dir, self.ledger):
                self.note(text)
        tables = [file.table for file in plan.files]
        may_suppress = tables_that_may_suppress(tables, connection)
        keys: dict[Table, TableKey] = {}
        if options.on_conflict == "update":
            for table in dict.fromkeys(tables):
                keys[table] = key_of(table, connection, may_change=table in may_suppress)
        partitionings = self._new_partitionings(plan, keys)
        entries, shared = self._begin_files(plan, partitionings)
        partitionings |= self._recorded_partitionings(plan, entries, keys, partitionings)
        make_durable(connection)  # a crash must not lose a table that has batches
        return Prepared(
            plan,
            entries,
            shared,
            make_upserts(tables, options.on_conflict, connection),
            may_suppress,
            partitionings,
        )

    def _create_tables(self, plan: Plan) -> Plan:
        """Create the tables of the plan; returns the plan that holds now."""
        import psycopg2

        unique = self.options.on_conflict != "error"
        if self.ledger:
            self.ledger.create()
        with self.connection.cursor() as cursor:
            while plan.create:
                table = plan.create[0]
                statements = [create_table(table, self.connection, unique_key=unique)]
                if self.ledger:
                    statements.append(self.ledger.delete_statement(table))
                try:
                    cursor.execute("; ".join(statements))  # one transaction
                except (psycopg2.errors.DuplicateTable, psycopg2.errors.UniqueViolation):
                    self.note(f"table {table.name} was just created by another migration")
                    plan = self.make_plan_now()
                    _check_exists(table, plan)
                    continue
                del plan.create[0]
        return plan

    def _new_partitionings(
        self, plan: Plan, keys: Mapping[Table, TableKey]
    ) -> dict[Path, Partitioning]:
        """How files are divided that no run has begun; none if their batches need no order."""
        obstacles = {table.name: key.obstacle for table, key in keys.items() if key.obstacle}
        if self.options.connections > 1:
            for name, obstacle in obstacles.items():
                self.note(
                    f"--on-conflict update writes {name} over one connection, so that of records "
                    f"with the same key the last one in the files stays: {obstacle}"
                )
        return {
            file.path: keys[file.table].partitioning(
                file.scan.records, self.options.batch_size, self.options.connections
            )
            for file in plan.files
            if file.table in keys
        }

    def _recorded_partitionings(
        self,
        plan: Plan,
        entries: Mapping[Path, Entry],
        keys: Mapping[Table, TableKey],
        new: Mapping[Path, Partitioning],
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
                self.note(f"{name}: continued over at most {recorded.count} connections, as begun")
            found[file.path] = recorded
        return found

    def _begin_files(
        self, plan: Plan, partitionings: Mapping[Path, Partitioning]
    ) -> tuple[dict[Path, Entry], list[FilePlan]]:
        """Record the files in the ledger; returns what is committed, and the shared files."""
        if self.ledger is None:
            return dict.fromkeys([file.path for file in plan.files], EMPTY), []
        begun = self.ledger.begin(
            [file.in_ledger for file in plan.files],
            self.options.batch_size,
            partitions={
                file.in_ledger.key: partitionings[file.path].to_ledger()
                for file in plan.files
                if file.path in partitionings
            },
            forget=self.options.writes_again,
            refuse_shared=self.options.restart,
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
                self.note(f"{name}: another migration writes this file as well")
            if entry.batch_size != self.options.batch_size:
                self.note(f"{name}: continued with batch size {entry.batch_size:,}, as begun")
            if entry.rejected:
                rejects = self.options.output_dir / "runs" / "*" / REJECTS
                self.note(
                    f"{name}: {entry.rejected:,} of its records were rejected by an earlier run: "
                    f"see {rejects}"
                )
        return entries, shared


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
