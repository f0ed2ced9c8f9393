"""The `rejects` command: the rejected records, to be fixed and migrated again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Raw

from pgload.errors import UsageError


class _Line(msgspec.Struct):
    """A line of `rejects.jsonl`, as far as it is read."""

    data: Raw = Raw()  # the record
    text: str | None = None  # the record where it is not JSON


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
