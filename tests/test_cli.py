"""The command line: help, usage errors, exit codes, and output that nobody reads any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgload import __version__
from pgload.cli import main, parser
from tests.support.environment import ROOT, environment
from tests.support.saved_runs import load, save

COMMANDS = ("migrate", "verify", "compare", "dashboard")


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command in a folder; gives the exit code and what it printed."""
    read, write = os.pipe()
    with start(folder, arguments, write) as process, open(read) as pipe:  # noqa: PTH123
        printed = pipe.read()
    return process.returncode, printed


def run_unread(folder: Path, *arguments: str) -> int:
    """Run a command whose outputs are a pipe that nobody reads; gives the exit code."""
    read, write = os.pipe()
    os.close(read)
    with start(folder, arguments, write) as process:
        return process.wait()


def start(folder: Path, arguments: tuple[str, ...], output: int) -> subprocess.Popen[bytes]:
    """Start a command that writes to a descriptor, which is closed here, and buffers as usual."""
    variables = environment() | {"PYTHONPATH": str(ROOT)}
    variables.pop("PYTHONUNBUFFERED", None)
    command = [sys.executable, "-m", "pgload", *arguments]
    try:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    finally:
        os.close(output)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help of a command fits 80 columns, and every option stands in a group with a title."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert max(map(len, shown.splitlines())) <= 80
    (general,) = (part for part in shown.split("\n\n") if part.startswith("options:"))
    assert len(general.splitlines()) == 2  # the title and --help


@pytest.mark.parametrize("command", COMMANDS)
def test_default_is_shown_once(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help names the default of every option that has one, and no other value as well."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    for option in capsys.readouterr().out.split("  --"):
        assert option.count("(default: ") <= 1, option


def test_version(tmp_path: Path) -> None:
    """The version is the package's."""
    assert run(tmp_path, "--version") == (0, f"pgload {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("migrate", "--batch-size", "0"),
        ("migrate", "--connections", "two"),
        ("migrate", "--method", "magic"),
        ("migrate", "--resume", "--restart"),
        ("migrate", "--resume", "--no-ledger"),
        ("compare", "--by", "colour"),
        ("compare", "--format", "pdf"),
        ("compare",),
        ("dashboard", "--port", "70000"),
    ],
    ids=" ".join,
)
def test_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A usage error ends with exit code 2, and a message without a traceback."""
    code, printed = run(tmp_path, *arguments)
    assert code == 2
    assert printed.splitlines()[-1].startswith(("pgload: ", "python -m pgload"))
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("migrate", "--help"), 0),
        (("migrate", "--data", "missing"), 2),
        (("compare",), 2),
        (("nothing",), 2),
    ],
    ids=str,
)
def test_closed_pipe(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    """A reader that has gone, as after `| head`, changes no exit code."""
    assert run_unread(tmp_path, *arguments) == code


def test_closed_pipe_of_a_long_comparison(tmp_path: Path) -> None:
    """A comparison whose output nobody reads still writes its files, and `--fail` still counts."""
    for number, (cloud, factor) in enumerate((("GCP", 1.0), ("AZURE", 2.0)), start=1):
        loads = [
            load(
                cloud,
                batch_size=size,
                seconds=(seconds := [factor * x for x in (1.0, 1.01, 0.99)]),
                passes=[[each] for each in seconds],
            )
            for size in range(100, 12_100, 100)  # more than a buffer holds
        ]
        save(tmp_path / ".benchmarks", f"{number:04}_{cloud}", loads)
    arguments = ("compare", "--baseline", "GCP", "--format", "csv", "--fail", "throughput:-10%")
    assert run_unread(tmp_path, *arguments) == 3
    assert (tmp_path / "reports" / "compare.csv").exists()


def test_old_name_of_retry_timeout() -> None:
    """`--patience` sets the same as `--retry-timeout`."""
    for arguments, seconds in (((), 300), (("--patience", "7"), 7), (("--retry-timeout", "7"), 7)):
        assert parser().parse_args(["migrate", *arguments]).retry_timeout == seconds
