"""Objects of S3, Google Cloud Storage, Azure and web servers, by fsspec."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pgload.errors import SourceError, message_of
from pgload.source.compression import plain
from pgload.source.stores import Source, changed, is_data, no_data, without_secrets
from pgload.source.stream import Prefetch, Stream

PIECE_BYTES = 4 << 20  # of a request
ATTEMPTS = 4  # for a request
PAUSE = 1.0  # seconds before the second one; each is longer by as much
# By scheme: the package that fsspec needs.
PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "https": "fsspec[http]",
    "http": "fsspec[http]",
}
# What a store says of an object's content or version, the most certain first: a checksum, then a
# number that every write changes, then a time.
CHECKSUMS = ("md5Hash", "Content-MD5", "content_md5", "crc32c", "ChecksumSHA256")
VERSIONS = ("generation", "VersionId", "version_id", "ETag", "etag")
TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime")
_S3_MD5 = re.compile(r'"?[0-9a-f]{32}"?')  # the ETag of an object that was uploaded in one part


@dataclass(frozen=True, slots=True)
class Version:
    """What a store says of an object, so that a change shows without reading it again."""

    size: int | None  # bytes; None if the server does not say
    values: tuple[tuple[str, str], ...]  # checksums, versions and times, by their names

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Version:
        names = (*CHECKSUMS, *VERSIONS, *TIMES)
        azure = facts.get("content_settings") or {}
        md5 = azure.get("content_md5") if isinstance(azure, dict) else azure.content_md5
        facts = facts | {"content_md5": bytes(md5).hex() if md5 else None}
        values = tuple((name, str(facts[name])) for name in names if facts.get(name))
        return cls(facts.get("size"), values)


@dataclass(frozen=True)
class ObjectFile(Source):
    """An object of a store; it is checked for changes at every request."""

    path: Path
    url: str = field(repr=False)  # may hold a signature
    system: Any = field(compare=False, repr=False)

    @contextmanager
    def opened(self, stamp: Any = None, *, hashing: bool = False) -> Iterator[Stream]:
        now = self._version()
        if stamp is not None and now != stamp:
            raise changed(self.path, stamp, now)
        name = self.path.name
        fetched = Prefetch(self._pieces(now))
        content = Prefetch(plain(name, iter(fetched)))
        try:
            yield Stream(name, content.readinto, stamp=now, hashing=hashing)
        finally:
            content.close()
            fetched.close()

    def identity(self, stamp: Any) -> str | None:
        """A hash of what the store says of the content, with the URL unless that is a checksum."""
        return identity_of(without_secrets(self.url), stamp)

    def _pieces(self, version: Version) -> Iterator[bytes]:
        """The content in requests one after the other; a request that fails is repeated."""
        offset = failures = 0
        block = PIECE_BYTES
        while True:
            try:
                with self.system.open(self.url, "rb", block_size=block, cache_type="none") as file:
                    _go_to(file, offset, by_reading=not block)
                    while piece := file.read(PIECE_BYTES):
                        self._check(version)
                        yield piece
                        offset += len(piece)
                        failures = 0
                    if version.size not in (None, offset):
                        raise EOFError(f"ended after {offset:,} of {version.size:,} bytes")
                    return
            except SourceError:
                raise
            except Exception as error:
                self._check(version)  # of an object that was replaced, stores refuse the rest
                if block and "range requests" in str(error):
                    block = 0  # a web server without ranges: one request for all
                    continue
                failures += 1
                if failures == ATTEMPTS:
                    raise _unreadable(self.path.name, error) from None
                time.sleep(PAUSE * failures)

    def _check(self, version: Version) -> None:
        now = self._version()
        if now != version:
            raise changed(self.path, version, now)

    def _version(self) -> Version:
        try:
            self.system.invalidate_cache()
            return Version.of(self.system.info(self.url))
        except Exception as error:
            raise _unreadable(self.path.name, error) from None


def _go_to(file: Any, offset: int, *, by_reading: bool) -> None:
    if not by_reading:
        file.seek(offset)
    while by_reading and offset and (piece := file.read(min(offset, PIECE_BYTES))):
        offset -= len(piece)


def identity_of(place: str, version: Version) -> str | None:
    """What identifies an object's content, in hexadecimal; None if the store does not say.

    A checksum identifies it wherever the object is; a version or an ETag only at its place.
    """
    known = dict(version.values)
    etag = known.get("ETag", "")
    for name in CHECKSUMS:
        if name in known:
            return _hash(name, known[name], str(version.size))
    if place.startswith("s3:") and _S3_MD5.fullmatch(etag):
        return _hash("md5", etag.strip('"'), str(version.size))
    for name in VERSIONS:
        if name in known and not known[name].startswith("W/"):  # a weak ETag may stay the same
            return _hash(place, name, known[name], str(version.size))
    return None


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def find_objects(url: str) -> list[Source]:
    """The object at a URL, those that match it as a pattern, or those directly below a prefix.

    Raises `SourceError` when there is none, when the store cannot be read, and when a package for
    it is missing.
    """
    scheme = url.partition("://")[0]
    place = without_secrets(url)
    if scheme not in PACKAGES:
        raise SourceError(
            f"{place}: {scheme}:// is not a store that is read: use {', '.join(PACKAGES)}"
        )
    try:
        system, names = _list(url, scheme)
    except ImportError:
        package = PACKAGES[scheme]
        raise SourceError(
            f"{place}: {scheme}:// needs a package: pip install '{package}' (or pgload[objects])"
        ) from None
    except FileNotFoundError:
        raise SourceError(f"{place} does not exist: name an object or a prefix") from None
    except Exception as error:
        raise _unreadable(place, error) from None
    if not names:
        raise no_data(place)
    return [ObjectFile(_path(scheme, name), name, system) for name in names]


def _list(url: str, scheme: str) -> tuple[Any, list[str]]:
    """The file system, and the names in it of the objects that a URL means, in order."""
    import fsspec

    system, name = fsspec.core.url_to_fs(url)
    web = scheme in ("http", "https")
    if any(sign in name for sign in ("*[" if web else "*?[")):
        return system, sorted(each for each in system.glob(name) if not each.endswith("/"))
    if name.endswith("/") or (not web and system.isdir(name)):
        found = [each for each in system.ls(name, detail=False) if not each.endswith("/")]
        return system, sorted(each for each in found if is_data(_path(scheme, each)))
    system.info(name)
    return system, [name]


def _path(scheme: str, name: str) -> Path:
    """What names an object: `s3:/bucket/folder/orders.json`."""
    plain_url = without_secrets(name)
    if "://" in plain_url:  # a web server's
        plain_url = unquote(plain_url.partition("://")[2])
    return Path(f"{scheme}:/{plain_url}")


def _unreadable(place: str, error: Exception) -> Exception:
    if isinstance(error, SourceError):
        return error
    reason = re.sub(r"\?\S*", "?…", message_of(error))  # a signature
    return SourceError(
        f"{place}: cannot be read: {reason or type(error).__name__}; check the name, the "
        "permission and the connection"
    )
