"""The command line: arguments and exit codes, nothing else.

Each command has two functions: `_add_<command>` defines its arguments, `_<command>` runs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pgload import __version__
from pgload.contract import METHODS, OUTPUT_DIR, REJECTS, one_line
from pgload.errors import PgloadError, UsageError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

OK, USAGE, SLOWER, INTERRUPTED = 0, 2, 3, 130  # exit codes
MODULE = "python -m pgload"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Errors for the user go to standard error, one line."""
    out, err = (stream and _UntilClosed(stream) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:  # Python flushes when it exits, too late to handle a closed pipe
            for stream in filter(None, (out, err)):
                stream.flush()


class _UntilClosed:
    """An output stream that discards what is written after its reader, as in `| head`, has gone.

    The command goes on, and its exit code is that of its work.
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


def _run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    options.arguments = arguments
    try:
        code: int = options.command(options)
    except PgloadError as error:
        print(f"pgload: {one_line(str(error))}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("pgload: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    by_script = Path(sys.argv[0]).stem == "pgload"
    parser = argparse.ArgumentParser(
        prog="pgload" if by_script else MODULE,
        description="Which PostgreSQL loads your JSON fastest, how, and why. "
        "Measure with `pytest benchmarks`, then compare here.",
    )
    parser.add_argument("--version", action="version", version=f"pgload {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_migrate(commands)
    _add_rejects(commands)
    _add_compare(commands)
    _add_dashboard(commands)
    return parser


def _add_migrate(commands: Commands) -> None:
    command = _add_command(
        commands,
        "migrate",
        _migrate,
        help="load a folder of JSON files into your tables, with progress and statistics",
        description="Load a folder of JSON files into your tables: completely, and once. Exit code "
        "0: everything is committed; 1: some records were not written (see rejects.jsonl), or it "
        "ended early; 2: bad usage or configuration, or no connection; 130: interrupted.",
        example="--cloud GCP --data data --method copy --batch-size 1000 --connections 5",
    )
    add = _group(command, "source and target")
    add(
        "--data",
        default="data",
        metavar="DIR|FILE|URL",
        help="a folder of JSON files, a file, a pattern in quotes, - for standard input, or a URL: "
        "s3://, gs://, az:// or https://; also .gz, .zst, .bz2 and .xz",
    )
    add(
        "--cloud",
        metavar="NAME",
        help="GCP, AZURE, AWS or any prefix configured in .env; EMBEDDED or CONTAINER to try it "
        "on a temporary server (default: CLOUD_PROVIDER or ENV of .env)",
    )
    add("--create-tables", action="store_true", help="create the tables that are missing")
    add(
        "--on-unknown",
        choices=("error", "ignore", "add"),
        default="error",
        help="a field that has no column: refuse to start, omit it, or add the column (text, or "
        "its type in tables.toml)",
    )
    add(
        "--ignore-unknown",
        dest="on_unknown",
        action="store_const",
        const="ignore",
        default=argparse.SUPPRESS,  # or it would replace what --on-unknown has set
        help="the same as --on-unknown ignore",
    )
    add(
        "--override-identity",
        action="store_true",
        help="write fields into columns that are generated always as identity, and set their "
        "sequences to the largest value at the end",
    )
    add("--dry-run", action="store_true", help="print what would be done, and write nothing")

    add = _group(command, "how batches are written")
    add(
        "--method",
        choices=METHODS,
        default="values",
        help="how a batch is written; copy is the fastest",
    )
    add(
        "--batch-size",
        type=_positive,
        default=1000,
        help="records in a batch, such as 100, 500, 1000, 2000 or 5000",
    )
    add(
        "--connections",
        type=_positive,
        default=1,
        help="concurrent workers with a connection each, such as 1, 2, 5 or 10",
    )
    add(
        "--on-conflict",
        choices=("error", "skip", "update"),
        default="error",
        help="a record whose key is in the table: reject it, skip it, or update the row",
    )
    add(
        "--retry-timeout",
        type=_positive,
        default=300,
        metavar="SECONDS",
        help="how long a batch is retried after transient errors (a lost server, a lock) while no "
        "batch can be written",
    )
    # The old name of --retry-timeout, for one release.
    add(
        "--patience",
        dest="retry_timeout",
        type=_positive,
        default=argparse.SUPPRESS,  # or it would replace what --retry-timeout has set
        help=argparse.SUPPRESS,
    )
    add("--max-rejects", type=_whole, help="stop after more than N rejects (default: never)")

    add("--verify", action="store_true", help="compare the files with their tables after the load")

    add = _group(command, "after an earlier run")
    add("--resume", action="store_true", help="load what is missing, however the last run ended")
    add("--restart", action="store_true", help="forget what is committed, and load everything")
    add(
        "--no-ledger",
        dest="ledger",
        action="store_false",
        help="keep no table pgload_ledger of what is committed: no --resume then, and a batch "
        "whose connection is lost ends the run, since it may be committed or not",
    )

    add = _group(command, "output files")
    add(
        "--output-dir",
        type=Path,
        default=OUTPUT_DIR,
        help="progress, statistics, results, log and rejects",
    )
    add("--keep-runs", type=_positive, default=20, help="runs whose files are kept there")


def _migrate(options: argparse.Namespace) -> int:
    from dataclasses import fields

    from pgload.migrate.command import migrate
    from pgload.migrate.options import MigrateOptions

    if options.resume and options.restart:
        raise UsageError("--resume continues the last run and --restart starts over: choose one")
    if options.resume and not options.ledger:
        raise UsageError("--resume needs the ledger: omit --no-ledger")
    if options.verify and not options.ledger:
        raise UsageError("--verify needs the ledger, which has the rejects: omit --no-ledger")
    asked = {each.name for each in fields(MigrateOptions)}
    given = {name: value for name, value in vars(options).items() if name in asked}
    command = [*MODULE.split(), *options.arguments]
    return migrate(MigrateOptions(**(given | {"command": command})))


def _add_rejects(commands: Commands) -> None:
    command = _add_command(
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
    from pgload.migrate.rejects import rejected_records

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")  # it is data, whatever the terminal's alphabet is
    for record in rejected_records(options.file):
        print(record)
    return OK


def _add_compare(commands: Commands) -> None:
    command = _add_command(
        commands,
        "compare",
        _compare,
        help="set saved benchmark runs side by side: a decision, tables, and a page in reports/",
        description="Set saved benchmark runs side by side: what is faster, how sure that is, "
        "which setting to take. Exit code 0; 2 when there is nothing to compare; 3 with --fail "
        "when a setting is slower.",
        example="0001 0002 --fail throughput:-10%",
    )
    add = _group(command, "what is compared")
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

    add = _group(command, "verdicts")
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

    add = _group(command, "output files")
    add("--output", type=Path, default=Path("reports"), help="where the files go")
    add("--format", default="html,svg,csv,md,json", metavar="NAME[,NAME…]", help="which files")
    add("--lang", choices=("en", "ko"), default="en", help="of page and charts")
    add("--migrations", type=Path, default=OUTPUT_DIR, help="outputs of migrations for the page")


def _compare(options: argparse.Namespace) -> int:
    from pgload.report.compare import CompareOptions, Output, compare, parse_formats
    from pgload.report.decision import Gate, parse_percent

    for stream in (sys.stdout, sys.stderr):  # a path of any alphabet on a terminal of another
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
    return OK if holds else SLOWER


def _add_dashboard(commands: Commands) -> None:
    command = _add_command(
        commands,
        "dashboard",
        _dashboard,
        help="watch a migration, compare clouds, look into details, in a browser",
        description="Serve a page, to this machine only, over the files that `migrate` and "
        "`pytest benchmarks` write. Needs `pip install streamlit`, no server and no secret. "
        "Exit code 2: streamlit is missing, or the port is taken.",
        example="--lang ko --port 8502",
    )
    add = _group(command, "options of the page")
    add("--output-dir", type=Path, default=OUTPUT_DIR, help="what `migrate` writes")
    add("--data", type=Path, default=Path("data"), help="the folder of JSON files to migrate")
    add("--lang", choices=("ko", "en"), help="of the page (default: the browser's)")
    add("--port", type=_port, default=8501, help="on this machine")


def _dashboard(options: argparse.Namespace) -> int:
    from pgload.dashboard.serve import serve

    return serve(options.output_dir, options.data, options.lang, options.port)


def _group(command: argparse.ArgumentParser, title: str) -> Callable[..., None]:
    """A function that adds arguments to a group of the help, with their defaults and units."""
    group = command.add_argument_group(title)
    metavars = {Path: "DIR", _positive: "N", _whole: "N", _port: "N"}

    def add(name: str, *, help: str, **how: Any) -> None:
        if how.get("type") in metavars:
            how.setdefault("metavar", metavars[how["type"]])
        if how.get("default", argparse.SUPPRESS) != argparse.SUPPRESS:
            help += " (default: %(default)s)"
        group.add_argument(name, help=help, **how)

    return add


def _add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=description)
    command.epilog = f"example: {command.prog} {example}"
    command.set_defaults(command=run)
    return command


def _port(text: str) -> int:
    number = _positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 1 to 65535")
    return number


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _whole(text: str, least: int = 0) -> int:
    number = int(text) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
    return number
