"""The `migrate` command: connect, plan, check the ledger, run; signals and exit codes."""

from __future__ import annotations

from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pgload.contract import ExitCode, Setting, Status
from pgload.errors import TargetError, UsageError
from pgload.migrate.console import say
from pgload.migrate.control import Control, cloud_of, connected, open_control
from pgload.migrate.dry_run import Forecast, check_sample, describe_checks
from pgload.migrate.ledger.entries import EMPTY
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.options import MigrateOptions, check_output_dir
from pgload.migrate.plan import Plan, check_ledger, make_plan, read_folder
from pgload.migrate.plan_text import describe_plan
from pgload.migrate.run import MigrationRun
from pgload.schema.match import advance_sequences
from pgload.schema.table import add_columns
from pgload.targets.cloud import environment
from pgload.targets.target import Target

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

PRIVILEGES = (
    "it needs SELECT and INSERT on the tables, CREATE in a schema of its search path for the "
    "ledger (--no-ledger does without), and for --on-conflict skip or update TEMPORARY on the "
    "database, for update also UPDATE on the tables"
)


EXIT_CODES: dict[Status, ExitCode] = {
    "completed": ExitCode.COMPLETE,
    "completed_with_errors": ExitCode.INCOMPLETE,
    "failed": ExitCode.INCOMPLETE,
    "interrupted": ExitCode.INTERRUPTED,
}


def migrate(options: MigrateOptions, forecast: Forecast | None = None) -> int:
    """Migrate; returns the exit code. Raises `PgloadError` where nothing was written.

    `forecast` returns the lines on how long the load takes, for a dry run.
    """
    check_output_dir(options.data, options.output_dir)
    variables = environment(Path.cwd())
    cloud = cloud_of(options.cloud, variables)
    with open_control(cloud, variables, options.retry_timeout, PRIVILEGES) as (control, signals):
        target = control.target
        if cloud == "EMBEDDED":
            say("EMBEDDED is a temporary server: it is removed with its data at the end")
        folder = read_folder(options.data, infer=options.create_tables)

        def prepare(connection: Connection) -> tuple[Plan, Ledger | None, dict[Path, str]]:
            plan = make_plan(folder, connection, options)
            ledger = Ledger(connection, target.connect, say) if options.ledger else None
            return plan, ledger, check_ledger(plan, ledger, options) if ledger else {}

        plan, ledger, notes = control.run(prepare, say)
        for line in describe_plan(plan, notes, columns=options.dry_run):
            say(line)
        if plan.problems:
            for problem in plan.problems:
                say(f"problem: {problem}")
            more = f" and {len(plan.problems) - 1} more" if len(plan.problems) > 1 else ""
            raise UsageError(f"nothing was written: {plan.problems[0]}{more}")
        if options.dry_run:
            return _dry_run(plan, ledger, options, control, target, forecast)
        control.run(partial(_add_columns, plan, options.retry_timeout), say)
        run = MigrationRun(
            options,
            target=target,
            control=control,
            plan=plan,
            make_plan_now=lambda: make_plan(folder, control.connection, options),
            ledger=ledger,
            ignore_first_signal=signals.ignore_first,
        )
        with closing(ledger) if ledger else nullcontext():
            code = EXIT_CODES[run.execute()]
        if options.override_identity:
            code = max(code, _advance_sequences(plan, target))
        return code


def _dry_run(
    plan: Plan,
    ledger: Ledger | None,
    options: MigrateOptions,
    control: Control,
    target: Target,
    forecast: Forecast | None,
) -> ExitCode:
    """Check a sample of each file, and estimate the load's duration; returns the exit code."""
    checks = {file.path.name: control.run(partial(check_sample, file), say) for file in plan.files}
    for line in describe_checks(checks, plan.records):
        say(line)
    records, size = control.run(partial(_to_load, plan, ledger, options), say)
    if forecast and records:
        setting = Setting(options.method, options.batch_size, options.connections)
        for line in forecast(target.cloud, setting, records, size, target.price_per_hour):
            say(line)
    say("dry run: nothing was written")
    refused = any(check.refused for check in checks.values())
    return ExitCode.INCOMPLETE if refused or plan.broken else ExitCode.COMPLETE


def _to_load(
    plan: Plan, ledger: Ledger | None, options: MigrateOptions, connection: Connection
) -> tuple[int, int]:
    """The records that are not committed yet, and about how many bytes they have."""
    entries = {}
    if ledger and not options.writes_again:
        ledger.use(connection)
        entries = ledger.look_up([file.in_ledger for file in plan.files if file.match])
    records = size = 0
    for file in plan.files:
        entry = entries.get(file.in_ledger.key, EMPTY)
        left = file.scan.records - sum(entry.batches.values())
        records += left
        size += file.scan.bytes * left // file.scan.records
    return records, size


def _add_columns(plan: Plan, timeout: float, connection: Connection) -> None:
    """Add the planned columns, all or none; waits for locks for `timeout` seconds."""
    statements = [add_columns(table, columns, connection) for table, columns in plan.add]
    if statements:
        milliseconds = round(timeout * 1000)
        with connection.cursor() as cursor:
            begin = f"BEGIN; SET LOCAL lock_timeout = {milliseconds}"
            cursor.execute("; ".join([begin, *statements, "COMMIT"]))


def _advance_sequences(plan: Plan, target: Target) -> ExitCode:
    """Let the server continue its identity columns after the values that were written."""
    import psycopg2

    tables = {file.table for file in plan.files if file.table.override_identity}
    try:
        with connected(target) as connection:
            for table in sorted(tables, key=lambda table: table.name):
                for column in advance_sequences(table, connection):
                    say(f"{table.name}: the sequence of {column} continues after its largest value")
    except (psycopg2.Error, TargetError) as error:
        say(
            f"pgload: the sequences of identity columns were not set: {str(error).strip()}; "
            "set them with setval"
        )
        return ExitCode.INCOMPLETE
    return ExitCode.COMPLETE
