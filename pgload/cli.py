"""The command line: arguments and exit codes, nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pgload import __version__
from pgload.errors import PgloadError

OK, USAGE = 0, 2  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Errors for the user go to standard error, one line."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except PgloadError as error:
        print(f"pgload: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pgload",
        description="Which PostgreSQL loads your JSON fastest, how, and why. "
        "Measure with `pytest benchmarks`, then compare here.",
    )
    parser.add_argument("--version", action="version", version=f"pgload {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    compare = commands.add_parser(
        "compare",
        help="set saved benchmark runs side by side: a table, and charts in reports/",
        description="Set saved benchmark runs side by side, as a table and as SVG charts.",
        epilog="example: python -m pgload compare 0001 0002",
    )
    compare.add_argument(
        "runs",
        nargs="*",
        metavar="FILE|GLOB",
        help="saved JSON, by path, pattern or number (default: the newest run of each cloud)",
    )
    compare.add_argument(
        "--output",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="where the charts go (default: %(default)s)",
    )
    compare.set_defaults(command=_compare)
    return parser


def _compare(options: argparse.Namespace) -> None:
    from pgload.report.compare import compare

    compare(options.runs, output=options.output)
