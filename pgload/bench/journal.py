"""`Journal`: what a run has measured, on disk as soon as it is measured, for `--resume`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pgload.bench.measure import Pass
from pgload.errors import UsageError


class _Measured(msgspec.Struct, tag="pass"):
    test: str
    measured: Pass


class _Raced(msgspec.Struct, tag="race"):
    cloud: str
    found: float | str  # records per second, or why there are none


class Journal:
    """A file of JSON Lines that an interrupted run is resumed from.

    Its first line describes the run; each further one is a pass of a setting, or a load of a race.
    `resume` reads what an earlier run has written; it raises `UsageError` when there is no such
    run, or when it differs from this one. An incomplete last line is ignored.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self.passes: dict[tuple[str, int], Pass] = {}  # measured before, by test and pass number
        # A race's loads, in order, by cloud: records per second, or why there are none.
        self.raced = defaultdict[str, list[float | str]](list)
        header = msgspec.json.encode(run)
        if resume:
            self._read(header)
        else:
            path.write_bytes(header + b"\n")

    def add(self, test: str, measured: Pass) -> None:
        """Append a pass of a test."""
        self._append(_Measured(test, measured))

    def add_load(self, cloud: str, found: float | str) -> None:
        """Append a load of a cloud's race: records per second, or why there are none."""
        self._append(_Raced(cloud, found))

    def remove(self) -> None:
        """Delete the file, once the run is complete and saved."""
        self._path.unlink(missing_ok=True)

    def _append(self, line: _Measured | _Raced) -> None:
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def _read(self, header: bytes) -> None:
        try:
            first, *lines = self._path.read_bytes().splitlines(keepends=True)
            before = msgspec.json.decode(first)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            raise UsageError(
                f"--resume: there is no interrupted run of {self._path.stem.partition('_')[2]} "
                "here; omit --resume"
            ) from None
        now = msgspec.json.decode(header)
        for name in now:
            if before.get(name) != now[name]:
                raise UsageError(
                    f"--resume: the interrupted run had {name} {before.get(name)}, not "
                    f"{now[name]}: use the same, or omit --resume"
                )
        complete = [line for line in lines if line.endswith(b"\n")]
        try:
            entries = [msgspec.json.decode(line, type=_Measured | _Raced) for line in complete]
        except msgspec.DecodeError as error:
            raise UsageError(
                f"--resume: {self._path} cannot be read ({error}); omit --resume"
            ) from None
        self._path.write_bytes(first + b"".join(complete))
        for each in entries:
            if isinstance(each, _Measured):
                self.passes[each.test, each.measured.number] = each.measured
            else:
                self.raced[each.cloud].append(each.found)
