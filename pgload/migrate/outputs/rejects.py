"""Rejected records: how they are kept in `rejects.jsonl`, and read from it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Raw

from pgload.contract import HELD_REJECTS, REJECTS, to_json
from pgload.errors import UsageError
from pgload.migrate.outputs.files import AppendFile


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that could not be written."""

    file: str
    record: int  # its number in the file, from 1
    offset: int | None  # of its first byte in the file; None where that is not known
    table: str
    column: str | None  # None where the server does not name one
    sqlstate: str | None  # None where the record was refused before it was sent
    message: str
    data: bytes | Raw  # its JSON text


class RejectFile:
    """`rejects.jsonl`: one line per reject, with the keys of `Reject`.

    `data` is the record itself: `python -m pgload rejects` prints the records, to fix them and
    migrate them again. Text that is not JSON is kept as a string under `text` instead.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendFile(path)

    def write(self, rejects: Sequence[Reject]) -> None:
        """Write the rejects of a batch, from any thread; they are on the disk when it returns.

        After an `OutputError` none of them is in the file.
        """
        if rejects:
            self._file.append(b"".join(map(reject_line, rejects)), durable=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def reject_line(reject: Reject) -> bytes:
    """A reject as a line of `rejects.jsonl`."""
    facts = {
        name: getattr(reject, name)
        for name in ("file", "record", "offset", "table", "column", "sqlstate", "message")
    }
    data = bytes(reject.data)
    try:
        _any_json.decode(data)
    except (ValueError, RecursionError):
        return to_json(facts | {"text": data.decode("utf-8", "backslashreplace")}) + b"\n"
    # The text is kept as it is, since parsing could lose digits of a number. Line breaks in JSON
    # are between tokens, where a space means the same.
    one_line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return to_json(facts)[:-1] + b', "data": ' + one_line + b"}\n"


class _Line(msgspec.Struct):
    """A line of `rejects.jsonl`, as far as it is read."""

    data: Raw = Raw()  # the record
    text: str | None = None  # the record where it is not JSON


class _Number(msgspec.Struct):
    """Which record a line of `rejects.jsonl` is of."""

    file: str
    record: int


def rejected_records(path: Path) -> Iterator[str]:
    """The text of each record in a `rejects.jsonl`, as it is in its file but on one line.

    It is not parsed: a number keeps all its digits. Raises `UsageError` for a file that cannot be
    read or is not a `rejects.jsonl`.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _record(path, number, line)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be read: {reason}; name a rejects.jsonl") from None


def held_records(path: Path) -> int:
    """How many records beside a `rejects.jsonl` may have been rejected, too.

    They are of batches of which the run did not learn whether they are committed.
    """
    held = 0
    for file in Path(os.path.realpath(path)).parent.glob(HELD_REJECTS):
        with suppress(OSError), file.open("rb") as lines:
            held += sum(1 for _ in lines) - 1  # the first line says which batch it is
    return held


def rejected_numbers(output_dir: Path) -> dict[str, set[int]]:
    """By file: the numbers of the records that any run kept in the output directory has rejected.

    Lines and files that cannot be read are skipped.
    """
    found = defaultdict[str, set[int]](set)
    for path in sorted((output_dir / "runs").glob(f"*/{REJECTS}")):
        with suppress(OSError), path.open("rb") as lines:
            for line in lines:
                with suppress(ValueError, RecursionError):  # a line that is being written
                    reject = _decode_number(line)
                    found[reject.file].add(reject.record)
    return dict(found)


def _record(path: Path, number: int, line: bytes) -> str:
    try:
        found = _decode(line)
        text = bytes(found.data).decode() or found.text
    except (ValueError, RecursionError):  # msgspec's errors and Unicode's are ValueErrors
        text = None
    if text is None:
        raise UsageError(f"{path}: line {number} is not a reject: name a rejects.jsonl")
    return text.replace("\n", " ").replace("\r", " ")


_decode = msgspec.json.Decoder(_Line).decode
_decode_number = msgspec.json.Decoder(_Number).decode
_any_json = msgspec.json.Decoder()
