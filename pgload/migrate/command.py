"""The real migration: from a folder's files into the user's own tables, completely."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.errors import UsageError
from pgload.migrate.console import say
from pgload.migrate.ledger import Ledger
from pgload.migrate.plan import (
    FilePlan,
    MigrateOptions,
    Plan,
    describe_plan,
    make_plan,
    read_folder,
)
from pgload.migrate.run import COMPLETE, INCOMPLETE, MigrationRun
from pgload.targets.cloud import (
    Environment,
    check_cloud,
    default_cloud,
    environment,
    open_target,
    unconfigured_default,
)
from pgload.targets.connection_errors import check_server, one_line_errors
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

RIGHTS = (
    "it needs SELECT and INSERT on the tables (for --on-conflict update UPDATE, too, and TEMPORARY "
    "on the database) and CREATE in a schema of its search path, for the ledger; --no-ledger does "
    "without the last"
)


def migrate(asked: MigrateOptions) -> int:
    """Migrate; gives the exit code. Raises `PgloadError` where nothing was begun."""
    variables = environment(Path.cwd())
    cloud = _cloud(asked, variables)
    with ExitStack() as stack:
        target = stack.enter_context(open_target(cloud, variables))
        stack.enter_context(one_line_errors(cloud, target.parameters, RIGHTS))
        with _connected(target) as connection:
            say(f"{cloud}: PostgreSQL {connection.info.parameter_status('server_version')}")
        if cloud == "EMBEDDED":
            say("EMBEDDED is a rehearsal: this server is removed when the migration has ended")
        folder = read_folder(asked.data)
        # Only now, for a connection that is idle while files are read may be cut.
        control = stack.enter_context(_connected(target))

        def plan_now() -> Plan:
            return make_plan(folder, control, asked)

        plan = plan_now()
        ledger = Ledger(control) if asked.ledger else None
        notes = _look_up(plan, ledger, asked) if ledger else {}
        for line in describe_plan(plan, notes):
            say(line)
        if plan.problems:
            for problem in plan.problems:
                say(f"problem: {problem}")
            more = f" and {len(plan.problems) - 1} more" if len(plan.problems) > 1 else ""
            raise UsageError(f"nothing was written: {plan.problems[0]}{more}")
        if asked.dry_run:
            say("dry run: nothing was written")
            return INCOMPLETE if plan.broken else COMPLETE
        return MigrationRun(asked, target, control, plan, plan_now, ledger).go()


def _cloud(asked: MigrateOptions, variables: Environment) -> str:
    """The cloud's name. Raises `UsageError` for one that is not configured."""
    named = asked.cloud or unconfigured_default(variables) or default_cloud(variables)
    cloud = named.strip().upper()
    if "," in cloud:
        raise UsageError(f"--cloud {cloud}: a migration has one target; name one of them")
    check_cloud(cloud, variables, None)
    return cloud


@contextmanager
def _connected(target: Target) -> Iterator[Connection]:
    connection = target.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            ((product,),) = cursor.fetchall()
        check_server(target.cloud, connection.server_version, product)
        yield connection
    finally:
        connection.close()


def _look_up(plan: Plan, ledger: Ledger, asked: MigrateOptions) -> dict[Path, str]:
    """What the ledger says of the files; adds to the plan's problems what would do harm."""
    notes: dict[Path, str] = {}
    for file in plan.files:
        if file.match is None:
            continue
        content, name, table = file.scan.content, file.path.name, file.table.name
        entry = ledger.read(content, file.table)
        if entry is None or not entry.batches:
            former = ledger.records_of_name(name, content, file.table)
            if former and asked.resume and asked.on_conflict == "error":
                plan.problems.append(
                    f"{name}: {former:,} records of other content under this name are in {table}, "
                    "and would be there twice: put what is new into a file of its own (mended "
                    "rejects: jq -c .data rejects.jsonl), or leave --resume away to load all of it"
                )
            elif former:
                notes[file.path] = (
                    f"{former:,} records of other content under this name are there already, and "
                    f"stay; {_how_again(asked)}"
                )
            continue
        notes[file.path] = f"{entry.records:,} are there already"
        if asked.writes_again:
            notes[file.path] += f"; {_how_again(asked)}"
        elif entry.records and ledger.is_empty(file.table):
            plan.problems.append(
                f"{name}: by the ledger {entry.records:,} of its records are in {table}, which is "
                "empty: --restart forgets that, and begins again"
            )
        elif not asked.resume and not ledger.in_work(content, file.table):
            plan.problems.append(_begun_before(file, entry.records))
    return notes


def _how_again(asked: MigrateOptions) -> str:
    if asked.on_conflict == "error":
        return "all of these are written beside them"
    return f"all of these are written, on conflict {asked.on_conflict}"


def _begun_before(file: FilePlan, records: int) -> str:
    return (
        f"{file.path.name}: {records:,} of its {file.scan.records:,} records are in "
        f"{file.table.name} already: --resume goes on with the rest, --restart loads all of them "
        "once more"
    )
