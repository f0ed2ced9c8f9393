"""The command line: arguments and exit codes, nothing else."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pgload import __version__
from pgload.errors import PgloadError

OK, USAGE, SLOWER = 0, 2, 3  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Errors for the user go to standard error, one line."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except PgloadError as error:
        print(f"pgload: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pgload",
        description="Which PostgreSQL loads your JSON fastest, how, and why. "
        "Measure with `pytest benchmarks`, then compare here.",
    )
    parser.add_argument("--version", action="version", version=f"pgload {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_compare(commands)
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
        default=Path("migration_outputs"),
        metavar="DIR",
        help="outputs of migrations for the page (default: %(default)s)",
    )
    compare.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from pgload.report.compare import Options, compare
    from pgload.report.gate import Gate, parse_percent
    from pgload.report.write import Output, parse_formats

    for stream in (sys.stdout, sys.stderr):  # a path of any alphabet on a terminal of another
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    holds = compare(
        options.runs,
        Options(
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
