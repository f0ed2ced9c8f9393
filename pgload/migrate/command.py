"""The `migrate` command: connect, plan, check the ledger, run; signals and exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.errors import UsageError
from pgload.migrate.console import say
from pgload.migrate.control import Control, interruptible, with_timeouts
from pgload.migrate.ledger import Ledger
from pgload.migrate.options import MigrateOptions
from pgload.migrate.plan import Plan, check_ledger, describe_plan, make_plan, read_folder
from pgload.migrate.progress import Status
from pgload.migrate.run import MigrationRun
from pgload.migrate.signals import StopOnSignal
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
    "it needs SELECT and INSERT on the tables, CREATE in a schema of its search path for the "
    "ledger (--no-ledger does without), and for --on-conflict skip or update TEMPORARY on the "
    "database, for update also UPDATE on the tables"
)


class ExitCode(IntEnum):
    """The exit codes of `migrate`. A `PgloadError` that `migrate` raises is UNUSABLE."""

    COMPLETE = 0
    INCOMPLETE = 1  # some records or batches were not written
    UNUSABLE = 2  # bad usage or configuration, or no connection: nothing was written
    INTERRUPTED = 130  # 128 + SIGINT


EXIT_CODES: dict[Status, ExitCode] = {
    "completed": ExitCode.COMPLETE,
    "completed_with_errors": ExitCode.INCOMPLETE,
    "failed": ExitCode.INCOMPLETE,
    "interrupted": ExitCode.INTERRUPTED,
}


def migrate(options: MigrateOptions) -> int:
    """Migrate; gives the exit code. Raises `PgloadError` where nothing was written."""
    variables = environment(Path.cwd())
    cloud = _cloud(options, variables)
    with ExitStack() as stack:
        signals = stack.enter_context(StopOnSignal())
        target = stack.enter_context(open_target(cloud, variables))
        target = with_timeouts(target, options.retry_timeout)
        stack.enter_context(one_line_errors(cloud, target.parameters, RIGHTS))
        with _connected(target) as connection:
            say(f"{cloud}: PostgreSQL {connection.info.parameter_status('server_version')}")
        if cloud == "EMBEDDED":
            say("EMBEDDED is a temporary server: it is removed with its data at the end")
        folder = read_folder(options.data)
        # A new connection: one that was idle while the files were read may have been cut.
        control = Control(target, options.retry_timeout)
        stack.callback(control.close)
        signals.cancel = control.cancel

        def prepare(connection: Connection) -> tuple[Plan, Ledger | None, dict[Path, str]]:
            plan = make_plan(folder, connection, options)
            ledger = Ledger(connection) if options.ledger else None
            return plan, ledger, check_ledger(plan, ledger, options) if ledger else {}

        plan, ledger, notes = control.run(prepare, say)
        for line in describe_plan(plan, notes):
            say(line)
        if plan.problems:
            for problem in plan.problems:
                say(f"problem: {problem}")
            more = f" and {len(plan.problems) - 1} more" if len(plan.problems) > 1 else ""
            raise UsageError(f"nothing was written: {plan.problems[0]}{more}")
        if options.dry_run:
            say("dry run: nothing was written")
            return ExitCode.INCOMPLETE if plan.broken else ExitCode.COMPLETE
        run = MigrationRun(
            options,
            target=target,
            control=control,
            plan=plan,
            make_plan_now=lambda: make_plan(folder, control.connection, options),
            ledger=ledger,
            ignore_first_signal=signals.ignore_first,
        )
        return EXIT_CODES[run.execute()]


def _cloud(options: MigrateOptions, variables: Environment) -> str:
    """The cloud's name. Raises `UsageError` for one that is not configured."""
    named = options.cloud or unconfigured_default(variables) or default_cloud(variables)
    cloud = named.strip().upper()
    if "," in cloud:
        raise UsageError(f"--cloud {cloud}: a migration has one target; name one of them")
    check_cloud(cloud, variables, None)
    return cloud


@contextmanager
def _connected(target: Target) -> Iterator[Connection]:
    """A connection to a server that pgload supports, closed at the end."""
    connection = interruptible(target.connect)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            ((product,),) = cursor.fetchall()
        check_server(target.cloud, connection.server_version, product)
        yield connection
    finally:
        connection.close()
