"""The API's envelopes give their records; its error replies are errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgload.errors import SourceError
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
