"""Compressed files: recognised by suffix or first bytes, decompressed within limits."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import PurePath
from typing import Any, NamedTuple

from pgload.errors import SourceError

PIECE_BYTES = 1 << 20  # decompressed at a time
# JSON shrinks by 5 to 50 times. What grows by more than MAX_RATIO, and is large, is a mistake or
# an attack.
MAX_RATIO = 250
RATIO_FROM_BYTES = 256 << 20
# Memory of a decompressor; the largest windows of `xz -9` and of `zstd --long=25` fit in.
XZ_BYTES = 80 << 20
ZSTD_WINDOW_LOG = 25


class _Gzip:
    """One member of a gzip file, with the attributes of `bz2.BZ2Decompressor`."""

    def __init__(self) -> None:
        try:
            from isal import isal_zlib  # twice as fast
        except ImportError:
            self._inner: Any = zlib.decompressobj(31)
        else:
            self._inner = isal_zlib.decompressobj(31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content = bytes(self._inner.decompress(self._inner.unconsumed_tail + data, max_length))
        # With a full output there may be more of it inside, although all input is used.
        self.needs_input = not self._inner.unconsumed_tail and len(content) < max_length
        return content


def _zstd() -> Any:
    try:
        from backports import zstd
    except ImportError:
        try:
            from compression import zstd  # type: ignore[import-not-found, no-redef, unused-ignore]
        except ImportError:
            raise SourceError(
                "Zstandard needs Python 3.14 or a package: pip install backports.zstd"
            ) from None
    limit = {int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=limit)


class Compression(NamedTuple):
    """A format: how it is named, how it begins, and what decompresses one stream of it."""

    name: str
    suffix: str
    magic: bytes
    decompressor: Callable[[], Any]


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", _Gzip),
    Compression("Zstandard", ".zst", b"\x28\xb5\x2f\xfd", _zstd),
    Compression("bzip2", ".bz2", b"BZh", bz2.BZ2Decompressor),
    Compression("xz", ".xz", b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=XZ_BYTES)),
)
# What the decompressors raise; those of packages that may not be there by their names.
_DAMAGED = (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError)
_DAMAGED_NAMES = ("ZstdError", "IsalError")
MAGIC_BYTES = max(len(each.magic) for each in COMPRESSIONS)


def plain_name(path: PurePath) -> str:
    """The file's name without the suffix of a compression: `orders.json` of `orders.json.gz`."""
    suffix = path.suffix.lower()
    return path.stem if any(suffix == each.suffix for each in COMPRESSIONS) else path.name


def compression_of(name: str, head: bytes) -> Compression | None:
    """The compression of a file that begins with `head`.

    Raises `SourceError` for a name that ends in a compression's suffix and a content that is none.
    """
    for each in COMPRESSIONS:
        if head.startswith(each.magic):
            return each
    for each in COMPRESSIONS:
        if name.lower().endswith(each.suffix) and head:
            raise SourceError(
                f"{name}: is not {each.name}, whatever its name says: rename it, or get it again"
            )
    return None


def decompressed(name: str, compression: Compression, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a compressed file, in pieces of at most `PIECE_BYTES`.

    Raises `SourceError` for a file that is damaged, cut off, or so much larger when decompressed
    that it is a decompression bomb.
    """
    stream = compression.decompressor()
    taken = given = 0
    for piece in pieces:
        taken += len(piece)
        while True:
            if stream.eof:
                # Another stream may follow, and NUL bytes that fill up a block.
                piece = (stream.unused_data + piece).lstrip(b"\0")
                if not piece:
                    break
                stream = compression.decompressor()
            try:
                content = stream.decompress(piece, PIECE_BYTES)
            except Exception as error:
                if not isinstance(error, _DAMAGED) and type(error).__name__ not in _DAMAGED_NAMES:
                    raise
                raise _damaged(name, compression, error) from None
            piece = b""
            given += len(content)
            if given > RATIO_FROM_BYTES and given > MAX_RATIO * taken:
                raise SourceError(
                    f"{name}: is more than {MAX_RATIO} times as large when it is decompressed "
                    f"({given / 1e6:,.0f} MB so far), as a decompression bomb is; decompress it "
                    "yourself if that is right"
                )
            if content:
                yield content
            if not stream.eof and stream.needs_input:
                break
    if not stream.eof:
        raise SourceError(f"{name}: ends in the middle of its {compression.name}; get all of it")


def _damaged(name: str, compression: Compression, error: Exception) -> SourceError:
    reason = str(error).rstrip(".").lower()
    if "memory" in reason:
        return SourceError(
            f"{name}: needs too much memory to be decompressed ({reason}): compress it without "
            "--long or --ultra"
        )
    return SourceError(f"{name}: is damaged {compression.name} ({reason}); get it again")


def plain(name: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a file that may be compressed; it raises as `decompressed` does."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= MAGIC_BYTES:
            break
    content = chain((head,), pieces)
    compression = compression_of(name, head)
    return decompressed(name, compression, content) if compression else content
