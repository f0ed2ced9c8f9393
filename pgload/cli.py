"""The command line: arguments and exit codes, nothing else.

Each command has two functions: `_add_<command>` defines its arguments, `_<command>` runs it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from pgload import __version__
from pgload.arguments import add_command, group, port
from pgload.contract import HELD_REJECTS, OUTPUT_DIR, REJECTS, ExitCode, one_line
from pgload.errors import PgloadError, UsageError
from pgload.migrate.arguments import add_migrate_arguments, add_verify_arguments
from pgload.migrate.options import MigrateOptions

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MODULE = "python -m pgload"
Options = TypeVar("Options")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error for the user is one line on standard error.

    Without arguments the command is that of `sys.argv`, and its time counts from the start of the
    process.
    """
    started = _process_started() if arguments is None else time.time()
    out, err = (stream and _UntilClosed(stream) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            return _run(sys.argv[1:] if arguments is None else arguments, started)
        finally:  # Python flushes when it exits, too late to handle a closed pipe
            for stream in filter(None, (out, err)):
                stream.flush()


class _UntilClosed:
    """An output stream that discards what is written after its reader, as in `| head`, has gone.

    The command continues, and its exit code is that of its work.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _process_started() -> float:
    """The POSIX time at which this process began; elsewhere than on Linux, that of this call."""
    try:
        after_name = Path("/proc/self/stat").read_text("utf-8").rpartition(")")[2].split()
        ticks = int(after_name[19])  # since the machine was started
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        age = 0.0
    return time.time() - age


def _run(arguments: Sequence[str], started: float) -> int:
    options = parser().parse_args(arguments)
    options.arguments, options.started = arguments, started
    try:
        code: int = options.run(options)
    except PgloadError as error:
        print(f"pgload: {one_line(str(error))}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except KeyboardInterrupt:
        print("pgload: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return code


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Which PostgreSQL loads your JSON fastest, how, and why. "
        "Measure with `pytest benchmarks`, then compare here.",
    )
    parser.add_argument("--version", action="version", version=f"pgload {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_migrate(commands)
    _add_verify(commands)
    _add_rejects(commands)
    _add_compare(commands)
    _add_dashboard(commands)
    return parser


def _program() -> str:
    """The command as it was called: the console script, or the module."""
    return "pgload" if Path(sys.argv[0]).stem == "pgload" else MODULE


def _add_migrate(commands: Commands) -> None:
    command = add_command(
        commands,
        "migrate",
        _migrate,
        help="load a folder of JSON files into your tables, with progress and statistics",
        description="Load a folder of JSON files into your tables: completely, and once. Exit code "
        "0: everything is committed; 1: some records were not written (see rejects.jsonl), or it "
        "ended early; 2: bad usage or configuration, or no connection; 130: interrupted.",
        example="--cloud GCP --data data --method copy --batch-size 1000 --connections 5",
    )
    add_migrate_arguments(command)


def _migrate(options: argparse.Namespace) -> int:
    from pgload.migrate.command import migrate
    from pgload.report.forecast import forecast

    if options.resume and options.restart:
        raise UsageError("--resume continues the last run and --restart starts over: choose one")
    if options.resume and not options.ledger:
        raise UsageError("--resume needs the ledger: omit --no-ledger")
    if options.verify and not options.ledger:
        raise UsageError("--verify needs the ledger, which has the rejects: omit --no-ledger")
    options.command = [*_program().split(), *options.arguments]
    return migrate(_only_fields(MigrateOptions, options), forecast)


def _add_verify(commands: Commands) -> None:
    command = add_command(
        commands,
        "verify",
        _verify,
        help="compare a folder of JSON files with the tables that they were loaded into",
        description="Compare a folder of JSON files with the tables that they were loaded into, "
        "row by row, by the server. Nothing is written to a table. Exit code 0: every record has "
        "its row or was rejected, skipped or suppressed; 1: rows are missing or changed, or "
        "records are not committed; 2: bad usage or configuration, or no connection; 130: "
        "interrupted.",
        example="--cloud GCP --data data",
    )
    add_verify_arguments(command)


def _verify(options: argparse.Namespace) -> int:
    from pgload.migrate.verification.command import VerifyOptions, verify

    return verify(_only_fields(VerifyOptions, options))


def _only_fields(kind: type[Options], options: argparse.Namespace) -> Options:
    """A command's options, from the arguments that have the names of their fields."""
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(options).items() if name in names})


def _add_rejects(commands: Commands) -> None:
    command = add_command(
        commands,
        "rejects",
        _rejects,
        help="print the records that a migration rejected, to fix them and migrate them again",
        description="Print the records of a rejects.jsonl exactly as they are in their files, one "
        "on each line. Exit code 0; 2 when there is no such file.",
        example=f"{OUTPUT_DIR / REJECTS} > again/orders.jsonl",
    )
    command.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        default=OUTPUT_DIR / REJECTS,
        help="default: %(default)s",
    )


def _rejects(options: argparse.Namespace) -> int:
    from pgload.migrate.outputs.rejects import held_records, rejected_records

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # data, whatever the terminal's encoding is
    for record in rejected_records(options.file):
        print(record)
    if held := held_records(options.file):
        print(
            f"pgload: {held:,} more records belong to batches that were being committed when "
            "the run was killed, or still are: migrate --resume finds out whether they were "
            f"rejected (without a ledger, compare {HELD_REJECTS} beside it with the table)",
            file=sys.stderr,
        )
    return ExitCode.COMPLETE


def _add_compare(commands: Commands) -> None:
    command = add_command(
        commands,
        "compare",
        _compare,
        help="set saved benchmark runs side by side: a decision, tables, and a page in reports/",
        description="Set saved benchmark runs side by side: what is faster, how sure that is, "
        "which setting to take. Exit code 0; 2 when there is nothing to compare; 3 with --fail "
        "when a setting is slower.",
        example="0001 0002 --fail throughput:-10%",
    )
    add = group(command, "what is compared")
    add(
        "runs",
        nargs="*",
        metavar="FILE|GLOB",
        help="saved JSON, by path, pattern or number (default: the newest run of each cloud)",
    )
    add(
        "--baseline",
        metavar="CLOUD",
        help="the side that the others are compared with: a cloud, or a run's number "
        "(default: the first)",
    )
    add(
        "--by",
        choices=("auto", "cloud", "run", "date", "version", "instance"),
        default="auto",
        help="what a side is; auto: a cloud, or a run where all runs are of one cloud",
    )

    add = group(command, "verdicts")
    add(
        "--threshold",
        default="1%",
        metavar="PERCENT",
        help="a difference has to be surely larger than this",
    )
    add(
        "--fail",
        metavar="EXPR",
        help="throughput:-10%% ends with exit code 3 when a setting lost more than 10%%, by the "
        "whole of its corrected interval, or was not measured again",
    )
    add(
        "--allow-missing",
        action="store_true",
        help="--fail accepts that settings of the baseline were not measured again",
    )

    add = group(command, "output files")
    add("--output", type=Path, default=Path("reports"), help="where the files go")
    add("--format", default="html,svg,csv,md,json", metavar="NAME[,NAME…]", help="which files")
    add("--lang", choices=("en", "ko"), default="en", help="of page and charts")
    add("--migrations", type=Path, default=OUTPUT_DIR, help="outputs of migrations for the page")


def _compare(options: argparse.Namespace) -> int:
    from pgload.report.compare import CompareOptions, Output, compare, parse_formats
    from pgload.report.gate import Gate, parse_percent

    for stream in (sys.stdout, sys.stderr):  # which may lack characters of a path
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    holds = compare(
        options.runs,
        CompareOptions(
            baseline=options.baseline,
            by=options.by,
            threshold=parse_percent("--threshold", options.threshold),
            output=Output(
                folder=options.output,
                formats=parse_formats(options.format),
                language=options.lang,
                migrations=options.migrations,
            ),
            gate=Gate.parse(options.fail, allow_missing=options.allow_missing)
            if options.fail
            else None,
        ),
    )
    return ExitCode.COMPLETE if holds else ExitCode.SLOWER


def _add_dashboard(commands: Commands) -> None:
    command = add_command(
        commands,
        "dashboard",
        _dashboard,
        help="watch a migration, compare clouds, look into details, in a browser",
        description="Serve a page, to this machine only, over the files that `migrate` and "
        "`pytest benchmarks` write. Needs `pip install streamlit`, no server and no secret. "
        "Exit code 2: streamlit is missing, or the port is taken.",
        example="--lang ko --port 8502",
    )
    add = group(command, "options of the page")
    add("--output-dir", type=Path, default=OUTPUT_DIR, help="what `migrate` writes")
    add("--data", type=Path, default=Path("data"), help="the folder of JSON files to migrate")
    add("--lang", choices=("ko", "en"), help="of the page (default: the browser's)")
    add("--port", type=port, default=8501, help="on this machine")


def _dashboard(options: argparse.Namespace) -> int:
    from pgload.dashboard.serve import serve

    return serve(options.output_dir, options.data, options.lang, options.port)
