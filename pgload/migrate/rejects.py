"""Records that were not written, kept with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pgload.contract import to_json
from pgload.migrate.run_dir import AppendFile

_any_json = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that the server, or pgload, did not take."""

    file: str
    record: int  # its number in the file, from 1
    offset: int | None  # of its first byte in the file; None where that is not known
    table: str
    column: str | None  # None where the server names none
    sqlstate: str | None  # None where the record did not come as far as the server
    message: str
    data: bytes | msgspec.Raw  # its JSON text


class RejectFile:
    """`rejects.jsonl`: one line for each reject, its keys those of `Reject`.

    `data` is the record itself, so that `jq -c .data rejects.jsonl` gives a file of records to mend
    and to migrate again. Text that is no JSON is kept as a string, under `text` instead.
    """

    def __init__(self, path: Path) -> None:
        self._file = AppendFile(path)

    def write(self, rejects: Iterable[Reject]) -> None:
        """Write the rejects of a batch; they are on the disk when it returns.

        So none is lost, if this is done before the batch is committed. May be called from any
        thread. Raises `OutputError`, after which none of them is in the file.
        """
        self._file.append(b"".join(map(_line, rejects)), durable=True)

    def close(self) -> None:
        """No more rejects."""
        self._file.close()


def _line(reject: Reject) -> bytes:
    facts = {
        name: getattr(reject, name)
        for name in ("file", "record", "offset", "table", "column", "sqlstate", "message")
    }
    data = bytes(reject.data)
    try:
        _any_json.decode(data)
    except (ValueError, RecursionError):
        return to_json(facts | {"text": data.decode("utf-8", "backslashreplace")}) + b"\n"
    # The text as it is, since a number may lose digits on its way through Python. Its line breaks
    # are between its tokens, where a space does as well.
    one_line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return to_json(facts)[:-1] + b', "data": ' + one_line + b"}\n"
