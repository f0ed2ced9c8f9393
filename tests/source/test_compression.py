"""Compressed files are recognised, and decompressed within limits."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from pgload.errors import SourceError
from pgload.source import compression
from pgload.source.compression import plain_name
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from pgload.source.stores import LocalFile
from tests.support.files import RECORDS, read

FORMATS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
every_format = pytest.mark.parametrize("suffix", FORMATS)


@every_format
def test_read(tmp_path: Path, suffix: str) -> None:
    """A file is recognised by its first bytes, whatever its name; so are several parts in one."""
    half = json.dumps(RECORDS[:3]).encode()[:-1] + b","
    rest = json.dumps(RECORDS[3:]).encode()[1:]
    compress = FORMATS[suffix]
    for name in (f"x.json{suffix}", "x.json"):
        path = tmp_path / name
        path.write_bytes(compress(half) + compress(rest))
        assert read(path) == RECORDS
    (tmp_path / f"x.jsonl{suffix}").write_bytes(compress(json.dumps({"items": []}).encode()))
    assert read(tmp_path / f"x.jsonl{suffix}") == [{"items": []}]


@every_format
def test_large(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A content of many pieces is whole and in order, with offsets of the content."""
    monkeypatch.setattr(compression, "PIECE_BYTES", 1000)
    chars = random.Random(1).choices("abcdefgh", k=30_000)
    records = [{"n": n, "text": "".join(chars[n * 30 : n * 30 + 60])} for n in range(1000)]
    text = json.dumps(records).encode()
    path = tmp_path / f"x.json{suffix}"
    path.write_bytes(FORMATS[suffix](text))
    assert read(path) == records
    batches = list(read_batches(path, 100))
    assert batches[7].offset(750) == text.index(b'{"n": 749')


@every_format
def test_damaged(tmp_path: Path, suffix: str) -> None:
    """A file that is damaged, cut off, or something else is named as such."""
    path = tmp_path / f"x.json{suffix}"
    content = FORMATS[suffix](json.dumps(RECORDS * 50).encode())
    path.write_bytes(content[:-10])
    with pytest.raises(SourceError, match=r"^x\.json\.\w+: ends in the middle of its \w+; get all"):
        read(path)
    path.write_bytes(content[:6] + b"\xff" * 40 + content[46:])
    with pytest.raises(SourceError, match=r"^x\.json\.\w+: is damaged \w+ \(.*\); get it again"):
        read(path)
    path.write_bytes(b'[{"a": 1}]')
    with pytest.raises(SourceError, match=r"^x\.json\.\w+: is not \w+, whatever its name says"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(SourceError, match=r"^x\.json\.\w+: is empty"):
        read(path)


@every_format
def test_bomb(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows beyond all proportion is refused, once much has come out of it."""
    monkeypatch.setattr(compression, "RATIO_FROM_BYTES", 2_000_000)
    monkeypatch.setattr(compression, "PIECE_BYTES", 100_000)
    path = tmp_path / f"x.json{suffix}"
    path.write_bytes(FORMATS[suffix](b"[" + b" " * 1_000_000 + b'{"a": 1}]'))
    assert read(path) == [{"a": 1}]
    path.write_bytes(FORMATS[suffix](b"[" + b" " * 3_000_000 + b'{"a": 1}]'))
    with pytest.raises(SourceError, match=r"more than 250 times as large .* \(2 MB so far\), as"):
        read(path)


def test_window_too_large(tmp_path: Path) -> None:
    """A file that needs more memory than the limit is refused with what to do."""
    options = {zstd.CompressionParameter.window_log: 27}
    packed = zstd.compress(b"[" + b" " * (40 << 20) + b"]", options=options)
    path = tmp_path / "x.json.zst"
    path.write_bytes(packed)
    with pytest.raises(SourceError, match=r"needs too much memory .*: compress it without --long"):
        read(path)


def test_without_isal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where isal is missing, Python's own zlib decompresses."""
    monkeypatch.setitem(sys.modules, "isal", None)
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(json.dumps(RECORDS).encode()))
    assert read(path) == RECORDS


def test_closed_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stops early ends the thread that decompresses."""
    monkeypatch.setattr(compression, "PIECE_BYTES", 100)
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(json.dumps(RECORDS * 100).encode()))
    with LocalFile(path).opened() as stream:
        assert stream.ahead(1)[:1] == b"["
        (thread,) = (each for each in threading.enumerate() if each.name == "pgload-source")
    assert not thread.is_alive()


def test_tail_of_nul_bytes(tmp_path: Path) -> None:
    """NUL bytes after a compressed content, as tapes have them, are no part of it."""
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b'[{"a": 1}]') + bytes(1000))
    assert scan(path).records == 1


def test_plain_name() -> None:
    """The name without a compression's suffix is that of the data."""
    names = {"a.json.gz": "a.json", "a.json.ZST": "a.json", "a.json": "a.json", "gz": "gz"}
    assert {name: plain_name(Path(name)) for name in names} == names
