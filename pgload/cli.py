"""The command line: arguments and exit codes, nothing else."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgload import __version__
from pgload.contract import METHODS, OUTPUT_DIR, one_line
from pgload.errors import PgloadError, UsageError

OK, USAGE, SLOWER, INTERRUPTED = 0, 2, 3, 130  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Errors for the user go to standard error, one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
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
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pgload",
        description="Which PostgreSQL loads your JSON fastest, how, and why. "
        "Measure with `pytest benchmarks`, then compare here.",
    )
    parser.add_argument("--version", action="version", version=f"pgload {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_migrate(commands)
    _add_compare(commands)
    _add_dashboard(commands)
    return parser


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="set saved benchmark runs side by side: a decision, tables, and a page in reports/",
        description="Set saved benchmark runs side by side: what is faster, how sure that is, "
        "which setting to take. Exit code 0; 2 when there is nothing to compare; 3 with --fail "
        "when a setting is slower.",
        epilog="example: python -m pgload compare 0001 0002 --fail throughput:-10%",
    )
    compare.add_argument(
        "runs",
        nargs="*",
        metavar="FILE|GLOB",
        help="saved JSON, by path, pattern or number (default: the newest run of each cloud)",
    )
    compare.add_argument(
        "--baseline",
        metavar="CLOUD",
        help="the side that the others are compared with: a cloud, or a run's number "
        "(default: the first)",
    )
    compare.add_argument(
        "--by",
        choices=("auto", "cloud", "run", "date", "version", "instance"),
        default="auto",
        help="what a side is (default: clouds; the runs, where there is one cloud)",
    )
    compare.add_argument(
        "--output",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="where the files go (default: %(default)s)",
    )
    compare.add_argument(
        "--format",
        default="html,svg,csv,md,json",
        metavar="NAME[,NAME…]",
        help="html, svg, csv, md, json, github-action-benchmark, bencher (default: %(default)s)",
    )
    compare.add_argument(
        "--lang", choices=("en", "ko"), default="en", help="of page and charts (default: en)"
    )
    compare.add_argument(
        "--threshold",
        default="1%",
        metavar="PERCENT",
        help="a difference has to be surely larger than this (default: %(default)s)",
    )
    compare.add_argument(
        "--fail",
        metavar="EXPR",
        help="throughput:-10%% ends with exit code 3 when a setting lost more than 10%% and its "
        "interval says slower too",
    )
    compare.add_argument(
        "--migrations",
        type=Path,
        default=OUTPUT_DIR,
        metavar="DIR",
        help="outputs of migrations for the page (default: %(default)s)",
    )
    compare.set_defaults(command=_compare)


def _add_migrate(commands: Any) -> None:
    migrate = commands.add_parser(
        "migrate",
        help="load a folder of JSON files into your tables, with progress and statistics",
        description="Load a folder of JSON files into your tables: completely, and once. Exit code "
        "0: everything is committed; 1: some records were not written (see rejects.jsonl), or it "
        "ended early; 2: bad usage or configuration, or no connection; 130: interrupted.",
        epilog="example: python -m pgload migrate --cloud GCP --data data --method copy "
        "--batch-size 1000 --connections 5",
    )

    def add(group: Any, option: str, **how: Any) -> None:
        group.add_argument(option, **how)

    what = migrate.add_argument_group("from where, to where")
    add(what, "--data", type=Path, default=Path("data"), metavar="DIR",
        help="the folder of JSON files (default: %(default)s)")  # fmt: skip
    add(what, "--cloud", metavar="NAME",
        help="GCP, AZURE, AWS or any prefix configured in .env; EMBEDDED or CONTAINER for a "
        "rehearsal (default: CLOUD_PROVIDER or ENV of .env, else EMBEDDED)")  # fmt: skip
    add(what, "--create-tables", action="store_true", help="create the tables that are missing")
    add(what, "--ignore-unknown", action="store_true",
        help="leave out fields that have no column")  # fmt: skip
    add(what, "--dry-run", action="store_true",
        help="say what would be done, and write nothing")  # fmt: skip

    how = migrate.add_argument_group("how it is written")
    add(how, "--method", choices=METHODS, default="values",
        help="how a batch is written (default: %(default)s; copy is the fastest)")  # fmt: skip
    add(how, "--batch-size", type=_positive, default=1000, metavar="N",
        help="records in a batch, such as 100, 500, 1000, 2000 or 5000 "
        "(default: %(default)s)")  # fmt: skip
    add(how, "--connections", type=_positive, default=1, metavar="N",
        help="concurrent workers with a connection each, such as 1, 2, 5 or 10 "
        "(default: %(default)s)")  # fmt: skip
    add(how, "--on-conflict", choices=("error", "skip", "update"), default="error",
        help="a record whose key is in the table: reject it, skip it, or update the row "
        "(default: %(default)s)")  # fmt: skip
    add(how, "--retry-timeout", type=_positive, default=300, metavar="SECONDS",
        help="how long a batch is retried after transient errors (a lost server, a lock) while no "
        "batch can be written (default: %(default)s)")  # fmt: skip
    # The old name of --retry-timeout, for one release.
    add(how, "--patience", dest="retry_timeout", type=_positive, default=argparse.SUPPRESS,
        help=argparse.SUPPRESS)  # fmt: skip
    add(how, "--max-rejects", type=_whole, metavar="N",
        help="stop after more than N rejected records (default: never)")  # fmt: skip

    again = migrate.add_argument_group("once more")
    add(again, "--resume", action="store_true",
        help="go on with what is missing, however the last run ended")  # fmt: skip
    add(again, "--restart", action="store_true",
        help="forget what earlier runs have committed, and load everything")  # fmt: skip
    add(again, "--no-ledger", dest="ledger", action="store_false",
        help="keep no table pgload_ledger of what is committed: no --resume then, and a batch "
        "whose connection is lost ends the run, since it may be there or not")  # fmt: skip

    files = migrate.add_argument_group("what is kept")
    add(files, "--output-dir", type=Path, default=OUTPUT_DIR, metavar="DIR",
        help="progress, statistics, results, log and rejects (default: %(default)s)")  # fmt: skip
    add(files, "--keep-runs", type=_positive, default=20, metavar="N",
        help="runs whose files are kept there (default: %(default)s)")  # fmt: skip
    migrate.set_defaults(command=_migrate)


def _add_dashboard(commands: Any) -> None:
    dashboard = commands.add_parser(
        "dashboard",
        help="watch a migration, compare clouds, look into details, in a browser",
        description="Serve a page, to this machine only, over the files that `migrate` and "
        "`pytest benchmarks` write. Needs `pip install streamlit`, no server and no secret. "
        "Exit code 2: streamlit is missing, or the port is taken.",
        epilog="example: python -m pgload dashboard --lang ko --port 8502",
    )
    dashboard.add_argument(
        "--output-dir",
        type=Path,
        default=OUTPUT_DIR,
        metavar="DIR",
        help="what `migrate` writes (default: %(default)s)",
    )
    dashboard.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="the folder of JSON files to migrate (default: %(default)s)",
    )
    dashboard.add_argument(
        "--lang", choices=("ko", "en"), help="of the page (default: the browser's)"
    )
    dashboard.add_argument(
        "--port", type=_port, default=8501, metavar="N", help="(default: %(default)s)"
    )
    dashboard.set_defaults(command=_dashboard)


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


def _migrate(options: argparse.Namespace) -> int:
    from dataclasses import fields

    from pgload.migrate.command import migrate
    from pgload.migrate.options import MigrateOptions

    if options.resume and options.restart:
        raise UsageError("--resume goes on and --restart begins again: choose one")
    if options.resume and not options.ledger:
        raise UsageError("--resume needs the ledger: leave --no-ledger away")
    asked = {each.name for each in fields(MigrateOptions)}
    given = {name: value for name, value in vars(options).items() if name in asked}
    command = ["python", "-m", "pgload", *options.arguments]
    return migrate(MigrateOptions(**(given | {"command": command})))


def _dashboard(options: argparse.Namespace) -> int:
    from pgload.dashboard.serve import serve

    return serve(options.output_dir, options.data, options.lang, options.port)


def _compare(options: argparse.Namespace) -> int:
    from pgload.report.compare import CompareOptions, Output, compare, parse_formats
    from pgload.report.decision import Gate, parse_percent

    for stream in (sys.stdout, sys.stderr):  # a path of any alphabet on a terminal of another
        if isinstance(stream, io.TextIOWrapper):
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
            gate=Gate.parse(options.fail) if options.fail else None,
        ),
    )
    return OK if holds else SLOWER
