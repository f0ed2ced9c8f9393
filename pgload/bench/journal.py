"""What a run has measured so far, on the disk, so that it can be gone on with however it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pgload.bench.rounds import Pass
from pgload.errors import UsageError


class _Entry(msgspec.Struct):
    test: str
    measured: Pass


class Journal:
    """JSON Lines: first what the run is, then each pass of each setting as it is measured.

    With `resume` what an earlier run has written is read first; raises `UsageError` when there is
    none, or when it was a run of something else. A line that was cut off counts as not there.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self.kept: dict[tuple[str, int], Pass] = {}  # by test and number of the pass
        header = msgspec.json.encode(run)
        if resume:
            self._read(header)
        else:
            path.write_bytes(header + b"\n")

    def add(self, test: str, measured: Pass) -> None:
        """Keep a pass of a test."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(_Entry(test, measured)) + b"\n")

    def remove(self) -> None:
        """The run is complete, and saved elsewhere."""
        self._path.unlink(missing_ok=True)

    def _read(self, header: bytes) -> None:
        try:
            first, *lines = self._path.read_bytes().splitlines(keepends=True)
            before = msgspec.json.decode(first)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            raise UsageError(
                f"--resume: there is no interrupted run of {self._path.stem.partition('_')[2]} "
                "here; leave it away"
            ) from None
        now = msgspec.json.decode(header)
        for name in now:
            if before.get(name) != now[name]:
                raise UsageError(
                    f"--resume: the interrupted run had {name} {before.get(name)}, not "
                    f"{now[name]}: ask for the same, or leave --resume away"
                )
        whole = [line for line in lines if line.endswith(b"\n")]
        self._path.write_bytes(first + b"".join(whole))
        for line in whole:
            entry = msgspec.json.decode(line, type=_Entry)
            self.kept[entry.test, entry.measured.number] = entry.measured
