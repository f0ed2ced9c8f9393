"""The seeded generator of procurement notices: realistic, reproducible, and nobody's data.

The same seed gives the same bytes on every Python and platform, and a longer sample begins with
the records of a shorter one. How the values are made is in the `notices` package beside this one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from uuid import uuid4

import msgspec

from pgload.errors import UsageError
from pgload.sample.chunk import Chunk
from pgload.sample.columns import columns
from pgload.sample.draws import ROWS
from pgload.sample.fields import KINDS, field_list

__all__ = ["KINDS", "VERSION", "notices", "sample_dir", "write_sample"]

VERSION = 1  # of the generator: raise it when any value changes, so that no cached sample is stale
MONTH = "202506010000"  # of the sample, as file names have it

Record = dict[str, str]


def notices(kind: str, records: int, seed: int = 0) -> Iterator[Record]:
    """So many records of a kind, with all its fields in wire order; "" stands for nothing.

    `bidNtceNo` and `bidNtceOrd` together are unique. Raises `UsageError` for an unknown kind or a
    negative count.
    """
    return chain.from_iterable(_chunks(kind, records, seed))


def _chunks(kind: str, records: int, seed: int) -> Iterator[list[Record]]:
    if kind not in KINDS:
        raise UsageError(f"unknown kind of notice {kind!r}: choose one of {', '.join(KINDS)}")
    if records < 0:
        raise UsageError(f"a sample of {records} records: ask for 0 or more")
    names = [field.name for field in field_list().kinds[kind].fields]

    def chunk(first: int) -> list[Record]:
        rows = zip(*columns(Chunk(kind, seed, first // ROWS)), strict=True)
        return [dict(zip(names, row, strict=True)) for row in islice(rows, records - first)]

    return map(chunk, range(0, records, ROWS))


def write_sample(
    path: Path, kind: str, records: int, seed: int = 0, indent: int | None = None
) -> None:
    """Writes the records as a JSON array in UTF-8, compact when `indent` is None.

    Memory does not grow with the records. The file appears under its name, in place of an older
    one, when it is complete. Raises `UsageError` as `notices` does.
    """
    _write(path, _array(_chunks(kind, records, seed), indent))


def sample_dir(root: Path, records: int, seed: int = 0, kind: str = "THNG") -> Path:
    """A folder in `root` with one file of a sample, made the first time and then used again.

    Processes may ask for it at once: each makes the same file, the last one stays. Raises
    `UsageError` as `notices` does.
    """
    folder = root / f"v{VERSION}-{kind}-seed{seed}-{records}"
    chunks = _chunks(kind, records, seed)
    path = folder / file_name(kind)
    if not path.exists():
        _write(path, _array(chunks))
    return folder


def file_name(kind: str) -> str:
    """The name that a month's file of a kind has."""
    return f"{field_list().kinds[kind].file_prefix}{MONTH}.json"


def write_shipped(root: Path) -> None:
    """Writes the files that come with pgload: every kind, and every shape that data comes in."""
    for kind, records, shape in (
        ("CNSTWK", 60, _indented),
        ("SERVC", 60, _reply),
        ("THNG", 100, _array),
        ("FRGCPT", 50, _lines),
        ("SCSBID", 60, _indented),
    ):
        _write(root / file_name(kind), shape(_chunks(kind, records, seed=0)))


def _array(chunks: Iterable[list[Record]], indent: int | None = None) -> Iterator[bytes]:
    """A JSON array, a chunk at a time."""
    before, end = b"[", b""
    for chunk in chunks:
        text = msgspec.json.encode(chunk)
        if indent is not None:
            text = msgspec.json.format(text, indent=indent)
        inside = text[1:-1].rstrip(b"\n")
        yield before + inside
        before, end = b",", text[1 + len(inside) : -1]
    yield before if before == b"[" else end
    yield b"]"


def _indented(chunks: Iterable[list[Record]]) -> Iterator[bytes]:
    return _array(chunks, 2)


def _reply(chunks: Iterable[list[Record]]) -> Iterator[bytes]:
    """The reply of the service, with its records in `response.body.items`."""
    items = list(chain.from_iterable(chunks))
    header = {"resultCode": "00", "resultMsg": "정상"}
    body = {"items": items, "numOfRows": len(items), "pageNo": 1, "totalCount": len(items)}
    reply = msgspec.json.encode({"response": {"header": header, "body": body}})
    yield msgspec.json.format(reply, indent=2)


def _lines(chunks: Iterable[list[Record]]) -> Iterator[bytes]:
    """JSON Lines."""
    for chunk in chunks:
        yield b"".join(msgspec.json.encode(record) + b"\n" for record in chunk)


def _write(path: Path, parts: Iterable[bytes]) -> None:
    # Under another name until it is complete: a file that has its name can be trusted.
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.writelines(parts)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m pgload.sample.generator FOLDER (writes the five files of data/)")
    write_shipped(Path(sys.argv[1]))
