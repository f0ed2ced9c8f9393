"""Objects of S3, Azure, Google and web servers are found, read, and recognised."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from pgload.errors import SourceError
from pgload.source import json_stream, objects, reader
from pgload.source.objects import Version, identity_of
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from pgload.source.stores import find, without_secrets
from tests.support.stores import Store, azure_store, google_store, s3_store, web_store

RECORDS = [{"n": n, "text": "x" * 70} for n in range(60)]
CONTENT = json.dumps(RECORDS).encode()


@pytest.fixture(scope="module", params=["web", "s3", "az", "gs"])
def any_store(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Store]:
    """Each of the stores."""
    stores = {
        "web": web_store,
        "s3": s3_store,
        "az": lambda: azure_store(tmp_path_factory.mktemp("azurite")),
        "gs": google_store,
    }
    with stores[request.param]() as found, patch.dict(os.environ, found.environment):
        yield found


@pytest.fixture
def web() -> Iterator[Store]:
    """A web server of the test's own."""
    with web_store() as found:
        yield found


def names(url: str) -> list[str]:
    """The names of the objects that are found."""
    return [source.path.name for source in find(url).sources]


def test_found_and_read(any_store: Store) -> None:
    """An object, a pattern and a prefix give the objects, compressed or not."""
    any_store.put("b.json", CONTENT)
    any_store.put("a.json.gz", gzip.compress(CONTENT))
    any_store.put("notes.txt", b"x")
    url = any_store.url
    assert names(url) == ["a.json.gz", "b.json"]
    assert names(f"{url}b.json") == ["b.json"]
    assert names(f"{url}*.gz") == ["a.json.gz"]
    for source in find(url).sources:
        scanned = scan(source)
        assert scanned.records == 60
        assert scanned.content == scan(source).content
        assert len(scanned.content) == 64
        batches = list(read_batches(source, 25, scanned.stamp))
        assert [len(batch.records) for batch in batches] == [25, 25, 10]
        assert batches[1].offset(26) == CONTENT.index(b'{"n": 25')
    with pytest.raises(SourceError, match=r"d/none\.json does not exist: name an object or"):
        find(f"{url}none.json")


def test_replaced_while_read(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is replaced while it is read, or after its scan, is refused."""
    for module, name in ((json_stream, "WINDOW_BYTES"), (reader, "HEAD_BYTES")):
        monkeypatch.setattr(module, name, 512)
    monkeypatch.setattr(objects, "PIECE_BYTES", 512)
    any_store.put("b.json", CONTENT)
    (source,) = find(f"{any_store.url}b.json").sources
    stamp = scan(source).stamp
    batches = read_batches(source, 2, stamp)
    next(batches)
    any_store.put("b.json", CONTENT.replace(b"x", b"y"))
    with pytest.raises(SourceError, match=r"^b\.json: changed while it was in use; start again"):
        list(batches)
    with pytest.raises(SourceError, match=r"^b\.json: changed while it was in use; start again"):
        next(read_batches(source, 2, stamp))


def test_same_content(web: Store) -> None:
    """Without an ETag the content is hashed, so that it is known wherever it is."""
    web.web.etags = False
    web.put("a.json", CONTENT)
    web.put("b.json.gz", gzip.compress(CONTENT))
    a, b = (scan(source) for source in find(web.url).sources)
    assert a.content == b.content


def test_without_ranges(web: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web server that gives whole files only is read from the beginning to the end."""
    monkeypatch.setattr(objects, "PIECE_BYTES", 512)
    web.web.ranges = False
    web.put("a.json", CONTENT)
    (source,) = find(f"{web.url}a.json").sources
    assert scan(source).records == 60
    assert web.web.requests <= 3  # one for the first piece, one that fails, one for all


def test_request_that_fails(web: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is cut off is repeated; if it fails every time, the object is named."""
    monkeypatch.setattr(objects, "PIECE_BYTES", 1024)
    monkeypatch.setattr(objects, "PAUSE", 0.01)
    web.put("a.json", CONTENT)
    (source,) = find(f"{web.url}a.json?signature=secret").sources
    web.web.cut_next = 2
    assert scan(source).records == 60
    web.web.cut_next = 1000
    with pytest.raises(SourceError, match=r"^a\.json: cannot be read: .*; check the") as caught:
        scan(source)
    assert "secret" not in str(caught.value)


def test_secrets() -> None:
    """What gives access to a URL is not shown."""
    assert without_secrets("https://me:word@host/a.json?sig=x") == "https://host/a.json"
    assert without_secrets("data/what?.json") == "data/what?.json"


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing is named with the command that installs it."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(SourceError, match=r"^s3://b/a: s3:// needs a package: pip install 's3fs'"):
        find("s3://b/a")
    with pytest.raises(SourceError, match=r"^ftp://b/a: ftp:// is not a store that is read: use"):
        find("ftp://b/a")


@pytest.mark.parametrize(
    ("facts", "same_elsewhere"),
    [
        ({"md5Hash": "abc==", "generation": "1"}, True),
        ({"ETag": f'"{"0" * 32}"', "LastModified": "now"}, True),
        ({"ETag": f'"{"0" * 32}-2"'}, False),
        ({"etag": "0x8D", "content_settings": {"content_md5": b"abc"}}, True),
        ({"etag": "0x8D", "content_settings": {"content_md5": None}}, False),
    ],
)
def test_identity(facts: dict[str, object], same_elsewhere: bool) -> None:
    """A checksum identifies a content wherever it is, a version only where it is."""
    version = Version.of({"size": 7, **facts})
    here, elsewhere = identity_of("s3://a/x", version), identity_of("s3://b/x", version)
    assert here is not None
    assert (here == elsewhere) == same_elsewhere
    assert identity_of("s3://a/x", Version.of({"size": 8, **facts})) != here


def test_no_identity() -> None:
    """A time or a weak ETag does not identify a content."""
    for facts in ({"ETag": 'W/"1"'}, {"Last-Modified": "now"}):
        assert identity_of("https://a/x", Version.of({"size": 7, **facts})) is None
