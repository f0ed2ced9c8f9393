"""Arguments of commands: groups with a title, defaults in the help, numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """A command with an example in its help; `run` returns its exit code."""
    command = commands.add_parser(name, help=help, description=description)
    command.epilog = f"example: {command.prog} {example}"
    command.set_defaults(run=run)
    return command


def group(command: argparse.ArgumentParser, title: str) -> Callable[..., None]:
    """A function that adds arguments to a group of the help, with their defaults and units."""
    group = command.add_argument_group(title)
    metavars = {Path: "DIR", positive: "N", whole: "N", port: "N"}

    def add(name: str, *, help: str, **how: Any) -> None:
        if how.get("type") in metavars:
            how.setdefault("metavar", metavars[how["type"]])
        if how.get("default", argparse.SUPPRESS) != argparse.SUPPRESS:
            help += " (default: %(default)s)"
        group.add_argument(name, help=help, **how)

    return add


def port(text: str) -> int:
    """The number of a port."""
    number = positive(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 1 to 65535")
    return number


def positive(text: str) -> int:
    """A whole number from 1."""
    return whole(text, least=1)


def whole(text: str, least: int = 0) -> int:
    """A whole number from `least`."""
    number = int(text) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
    return number
