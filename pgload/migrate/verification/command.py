"""The `verify` command: files against their tables, at any time after a migration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pgload.contract import OUTPUT_DIR, VERIFICATION, ExitCode, one_line, to_json
from pgload.errors import UsageError
from pgload.migrate.console import say
from pgload.migrate.control import Control, cloud_of, open_control
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.options import RETRY_TIMEOUT, MigrateOptions, OnConflict, check_output_dir
from pgload.migrate.outputs.files import output_error, replace_file
from pgload.migrate.outputs.held_rejects import settle_rejects
from pgload.migrate.plan import Plan, make_plan, read_folder
from pgload.migrate.verification.results import VerifiedTable, describe, to_results
from pgload.migrate.verification.verify import verify as verify_files
from pgload.targets.cloud import LOCAL_CLOUDS, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection as Connection  # noqa: N812

    Result = TypeVar("Result")

PRIVILEGES = (
    "it needs SELECT on the tables and on the ledger (--no-ledger does without), and TEMPORARY on "
    "the database"
)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What is compared; each field is the option of the same name."""

    data: str | Path
    cloud: str | None = None
    on_conflict: OnConflict | None = None  # None: as the ledger shows
    ledger: bool = True
    override_identity: bool = False
    output_dir: Path = OUTPUT_DIR
    retry_timeout: float = RETRY_TIMEOUT

    @property
    def as_migration(self) -> MigrateOptions:
        """The options of a migration of these files, for its plan."""
        return MigrateOptions(
            data=self.data,
            cloud=self.cloud,
            on_conflict=self.on_conflict or "error",
            on_unknown="ignore",
            override_identity=self.override_identity,
            create_tables=True,  # a table that is missing is not a problem, but a result
            output_dir=self.output_dir,
        )


def verify(options: VerifyOptions) -> int:
    """Compare; returns the exit code. Raises `PgloadError` where nothing could be compared."""
    migration = options.as_migration
    check_output_dir(options.data, options.output_dir)
    variables = environment(Path.cwd())
    cloud = cloud_of(options.cloud, variables)
    if cloud in LOCAL_CLOUDS:
        raise UsageError(
            f"--cloud {cloud} is a new server, which holds no rows: name the cloud that the files "
            "were migrated to"
        )
    started = datetime.now().astimezone()
    with open_control(cloud, variables, options.retry_timeout, PRIVILEGES) as (control, _):
        folder = read_folder(options.data, infer=False)
        plan = control.run(lambda connection: make_plan(folder, connection, migration), say)
        if plan.problems:
            raise UsageError("; ".join(plan.problems))
        tables = _compare(options, plan, control)
    seconds = (datetime.now().astimezone() - started).total_seconds()
    _write(options.output_dir, _results(cloud, plan, tables, started, seconds))
    for path, first in plan.duplicates.items():
        say(f"{path.name}: not compared, it has the same content as {first.name}")
    for error in plan.broken.values():
        say(f"not compared: {error}")
    for line in describe(tables):
        say(line)
    say(f"see {options.output_dir / VERIFICATION} for each file")
    verified = not plan.broken and all(table.verified for table in tables)
    return ExitCode.COMPLETE if verified else ExitCode.INCOMPLETE


def _compare(options: VerifyOptions, plan: Plan, control: Control) -> list[VerifiedTable]:
    ledger: Ledger | None = None

    def on_server(action: Callable[[Connection], Result]) -> Result:
        def run(connection: Connection) -> Result:
            nonlocal ledger
            if ledger is not None:
                ledger.use(connection)
            return action(connection)

        return control.run(run, say)

    if options.ledger:
        ledger = found = control.run(
            lambda connection: Ledger(connection, control.target.connect, say), say
        )
        for text in on_server(lambda _: list(settle_rejects(options.output_dir, found))):
            say(text)
    return verify_files(
        plan.files,
        on_server,
        ledger,
        by_key=None if options.on_conflict is None else options.on_conflict != "error",
        output_dir=options.output_dir,
        progressed=control.progressed,
    )


def _results(
    cloud: str, plan: Plan, tables: list[VerifiedTable], started: datetime, seconds: float
) -> dict[str, Any]:
    """The content of `verification.json`."""
    found = to_results(tables, complete=not plan.broken)
    return {
        "verified": found["verified"],
        "cloud_provider": cloud,
        "total_files": len(plan.files),
        "total_records": plan.records,
        "start_time": started.isoformat(timespec="microseconds"),
        "total_duration_seconds": round(seconds, 6),
        "not_compared": [one_line(str(error)) for error in plan.broken.values()],
        "tables": found["verification"],
    }


def _write(output_dir: Path, results: dict[str, Any]) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output_dir, error) from None
    replace_file(output_dir / VERIFICATION, [to_json(results, indent=2), b"\n"], durable=True)
