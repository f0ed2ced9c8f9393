"""The API's envelopes give their records; its error replies are errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgload.errors import SourceError
from pgload.source import reader
from tests.support.files import envelope, read


@pytest.mark.parametrize("items", ["", None, [], {"item": []}], ids=repr)
def test_no_items(tmp_path: Path, items: object) -> None:
    """A reply that found nothing holds no records, and is not an error."""
    path = tmp_path / "nothing.json"
    path.write_text(json.dumps(envelope(items)))
    assert read(path) == []


@pytest.mark.parametrize("items", [{"a": 1}, {"item": {"a": 1}}], ids=repr)
def test_one_item(tmp_path: Path, items: object) -> None:
    """A reply converted from XML holds a single record without a list around it."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(envelope(items)))
    assert read(path) == [{"a": 1}]


@pytest.mark.parametrize("record", [{"resultCode": "99", "a": 1}, {"items": "hello"}], ids=repr)
def test_records_that_look_like_replies(tmp_path: Path, record: dict[str, object]) -> None:
    """A record may have fields called like parts of a reply."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(record))
    assert read(path) == [record]
    path.write_text(json.dumps([record, record]))
    assert read(path) == [record, record]


NO_DATA = {
    "": "is empty",
    " \n": "is empty",
    "API quota exceeded": "is not JSON but begins with 'API quota exceeded'",
    "<a/>": "is XML, not JSON: ask the API for type=json",
    json.dumps(
        {
            "nkoneps.com.response.ResponseError": {
                "header": {"resultCode": "07", "resultMsg": "입력범위값 초과 에러"}
            }
        }
    ): "is an error reply, not data: 07 입력범위값 초과 에러",
    json.dumps(
        {
            "OpenAPI_ServiceResponse": {
                "cmmMsgHeader": {"returnAuthMsg": "KEY_NOT_REGISTERED", "returnReasonCode": "30"}
            }
        },
        indent=1,
    ): "is an error reply, not data: 30 KEY_NOT_REGISTERED",
    "<OpenAPI_ServiceResponse><cmmMsgHeader><errMsg>SERVICE ERROR</errMsg>"
    "<returnReasonCode>22</returnReasonCode></cmmMsgHeader></OpenAPI_ServiceResponse>": (
        "is an error reply, not data: 22 SERVICE ERROR"
    ),
    json.dumps(
        {"response": {"header": {"resultCode": "99", "resultMsg": "no"}, "body": {"items": []}}}
    ): "is an error reply, not data: 99 no",
    json.dumps(
        {"response": {"body": {"items": []}, "header": {"resultCode": "98", "resultMsg": "no"}}}
    ): "is an error reply, not data: 98 no",
}


@pytest.mark.parametrize("text", NO_DATA)
def test_not_data(tmp_path: Path, text: str) -> None:
    """A file that holds no records is an error with the file's name and what it holds instead."""
    path = tmp_path / "reply.json"
    path.write_text(text, "utf-8")
    with pytest.raises(SourceError) as caught:
        read(path)
    assert str(caught.value).startswith(f"reply.json: {NO_DATA[text]}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ['[{"a": 1}]', '{"가": 1}'])
def test_utf16(tmp_path: Path, encoding: str, text: str) -> None:
    """A file in UTF-16 is named as such, with and without a byte order mark."""
    path = tmp_path / "wide.json"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(SourceError, match=r"^wide\.json: is UTF-16.*: convert it to UTF-8 first"):
        read(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x04\x22\x4d\x18\x64", r"compressed \(LZ4\): decompress it first"),
        (b"PK\x03\x04\x14\0", r"compressed \(zip\)"),
    ],
)
def test_compressed(tmp_path: Path, content: bytes, what: str) -> None:
    """A file in a compression that is not read is named as such."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"^x\.json: is {what}"):
        read(path)


def test_nul_bytes(tmp_path: Path) -> None:
    """A file of NUL bytes, as a crash leaves it, is named as such."""
    path = tmp_path / "x.json"
    path.write_bytes(bytes(100_000))
    with pytest.raises(SourceError, match=r"^x\.json: begins with NUL bytes only"):
        read(path)


OBJECTS: dict[str, tuple[object, str]] = {
    "list of its own": ({"data": [{"a": 1}]}, "data"),
    "list in a list's object": (
        {"results": {"bindings": [{"a": 1}]}, "total": 7},
        "results.bindings",
    ),
    "GeoJSON": ({"type": "FeatureCollection", "name": "x", "features": [{"a": 1}]}, "features"),
    "long list": ({"id": 1, "lines": [{"a": 1}] * 100}, "lines"),
    "items of an order": ({"orderNo": 1, "items": [{"a": 1}]}, "items"),
    "field after the items": ({"items": [{"a": 1}], "orderNo": 1}, "items"),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("padding", [0, 100_000])
def test_object_around_a_list(tmp_path: Path, name: str, padding: int) -> None:
    """An object that seems to hold the records in a list is refused, with both ways to read it."""
    document, items = OBJECTS[name]
    text = json.dumps(document)
    path = tmp_path / "x.json"
    path.write_text(text.replace("{", "{" + " " * padding, 1))
    advice = f'set items = "{items}" for the file in tables.toml; if the .* format = "object"$'
    with pytest.raises(SourceError, match=rf"^x\.json: is an object .*{advice}"):
        read(path)


def test_huge_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is too large for a record is refused without being read."""
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", 1000)
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"id": 1, "a": {"lines": [{"a": 1}] * 200}}))
    with pytest.raises(
        SourceError, match=r'one object of more than 0 MB: .* items = "a\.lines" for'
    ):
        read(path)
    path.write_text(json.dumps({"id": 1, "a": "x" * 1000}))
    with pytest.raises(SourceError, match=r'is one object of more than 0 MB: .* items = "…" for'):
        read(path)


@pytest.mark.parametrize(
    "record",
    [
        {"id": 1, "lines": [{"a": 1}] * 3},
        {"header": {"resultCode": "00"}, "a": 1},
        {"items": {"a": 1}, "b": 1},
        {"data": [1, 2]},
    ],
    ids=repr,
)
def test_records_with_lists(tmp_path: Path, record: dict[str, object]) -> None:
    """An object with a short list, or with fields that an envelope does not have, is a record."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(record))
    assert read(path) == [record]
