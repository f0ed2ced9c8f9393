"""JSON files of every shape become the same records; what is no data is told apart from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.errors import SourceError
from pgload.source import files
from pgload.source.files import data_files, read_batches, read_records

RECORDS = [{"bidNtceNo": f"R25BK{n:08}", "명": '가\t나 "다" {,}, {', "n": n} for n in range(7)]


def read(path: Path) -> list[object]:
    return [json.loads(bytes(record)) for records in read_records(path) for record in records]


def envelope(items: object) -> dict[str, object]:
    header = {"resultCode": "00", "resultMsg": "정상"}
    body = {"items": items, "numOfRows": 10, "pageNo": 1, "totalCount": 7}
    return {"response": {"header": header, "body": body}}


SHAPES = {
    "array": RECORDS,
    "envelope": envelope(RECORDS),
    "items": {"items": RECORDS},
    "items after other keys": {"page": 1, "note": '"items": [', "items": RECORDS},
    "items.item": envelope({"item": RECORDS}),
    "body.items.item": {"header": {"resultCode": "00"}, "body": {"items": {"item": RECORDS}}},
}


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_hold_data(tmp_path: Path, shape: str, indent: int | str | None) -> None:
    """An array and the API's envelopes give their records, compact or pretty-printed."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps(SHAPES[shape], ensure_ascii=False, indent=indent), "utf-8")
    assert read(path) == RECORDS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_json_lines(tmp_path: Path, end: str) -> None:
    """JSON Lines are told by their content, whatever the file is called and its lines end with."""
    path = tmp_path / "lines.json"
    path.write_text(end.join(json.dumps(record) for record in RECORDS), "utf-8", newline="")
    assert read(path) == RECORDS


@pytest.mark.parametrize("items", ["", None, [], {"item": []}], ids=repr)
def test_no_items(tmp_path: Path, items: object) -> None:
    """A reply that found nothing holds no records, and is no error."""
    path = tmp_path / "nothing.json"
    path.write_text(json.dumps(envelope(items)))
    assert read(path) == []


@pytest.mark.parametrize("items", [{"a": 1}, {"item": {"a": 1}}], ids=repr)
def test_one_item(tmp_path: Path, items: object) -> None:
    """A reply converted from XML holds a single record without a list around it."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(envelope(items)))
    assert read(path) == [{"a": 1}]


def test_single_object(tmp_path: Path) -> None:
    """A file with one object that is no envelope is one record."""
    path = tmp_path / "one.json"
    path.write_text('{\n  "a": 1\n}\n')
    assert read(path) == [{"a": 1}]


@pytest.mark.parametrize("record", [{"resultCode": "99", "a": 1}, {"items": "hello"}], ids=repr)
def test_records_that_look_like_replies(tmp_path: Path, record: dict[str, object]) -> None:
    """A record may have fields called like parts of a reply."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(record))
    assert read(path) == [record]
    path.write_text(json.dumps([record, record]))
    assert read(path) == [record, record]


def test_lines_with_items(tmp_path: Path) -> None:
    """JSON Lines whose long records hold a list called "items" are lines, not an envelope."""
    records = [{"items": [{"sku": "x" * 70_000}], "n": n} for n in range(3)]
    path = tmp_path / "orders.json"
    path.write_text("\n".join(map(json.dumps, records)))
    assert read(path) == records


def test_deep_nesting(tmp_path: Path) -> None:
    """A value nested too deeply to be read is an error that names the file."""
    path = tmp_path / "deep.json"
    path.write_text('[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]")
    with pytest.raises(SourceError, match=r"deep\.json: holds values nested too deeply"):
        read(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    """A UTF-8 byte order mark, as Windows programs write it, is no part of the data."""
    path = tmp_path / "bom.json"
    path.write_text('[{"a": 1}]', "utf-8-sig")
    assert read(path) == [{"a": 1}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab{}[],"', max_size=3), inner),
    max_leaves=8,
)
json_records = st.lists(st.dictionaries(st.text("abc", min_size=1), json_values), max_size=12)


@settings(max_examples=80)
@given(
    records=json_records,
    indent=st.sampled_from([None, 0, 3]),
    window=st.integers(1, 200),
    wrap=st.sampled_from([lambda records: records, envelope, lambda records: {"items": records}]),
)
def test_windows_cut_between_records(tmp_path, monkeypatch, records, indent, window, wrap) -> None:
    """However small the windows and whatever the values hold, all records come back in order."""
    monkeypatch.setattr(files, "WINDOW_BYTES", window)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(wrap(records), ensure_ascii=False, indent=indent), "utf-8")
    assert read(path) == records


@settings(max_examples=50)
@given(records=json_records.filter(lambda records: len(records) > 1), window=st.integers(1, 200))
def test_windows_cut_between_lines(tmp_path, monkeypatch, records, window) -> None:
    """JSON Lines come back in order through windows smaller than a line."""
    monkeypatch.setattr(files, "WINDOW_BYTES", window)
    path = tmp_path / "data.json"
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    assert read(path) == records


def test_batches(tmp_path: Path) -> None:
    """A batch is consecutive records with the number of the first; the last one may be smaller."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps(RECORDS), "utf-8")
    batches = list(read_batches(path, 3))
    assert [(batch.first_record, len(batch.records)) for batch in batches] == [
        (1, 3),
        (4, 3),
        (7, 1),
    ]
    assert [json.loads(bytes(r)) for batch in batches for r in batch.records] == RECORDS


BROKEN = {
    '[{"a": 1}, {"a": }]': "byte 17",
    '[{"a": 1}, {"a"': "byte 15: the file ends too early",
    '[{"a": 1}]\n[{"a": 2}]': "byte 11",
    '[{"a": NaN}]': "byte 7",
    '{"items": [{"a": 1} {"a": 2}]}': "byte 20",
    '{"a": 1}\n{"a": 2\n{"a": 3}': "byte 17",
    '{\n"a": 1,\n}': "byte 10",
}


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("window", [4, 1 << 20])
def test_broken_json(tmp_path: Path, monkeypatch, text: str, window: int) -> None:
    """Broken JSON is an error with the file and the byte, counted from 0."""
    monkeypatch.setattr(files, "WINDOW_BYTES", window)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=rf"^broken\.json: broken JSON at {BROKEN[text]}"):
        read(path)


NO_DATA = {
    "": "is empty",
    " \n": "is empty",
    "API quota exceeded": "is not JSON but begins with 'API quota exceeded'",
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
def test_what_is_no_data(tmp_path: Path, text: str) -> None:
    """An empty file, an error reply saved as data and plain text are errors that name the file."""
    path = tmp_path / "reply.json"
    path.write_text(text, "utf-8")
    with pytest.raises(SourceError) as caught:
        read(path)
    assert str(caught.value).startswith(f"reply.json: {NO_DATA[text]}")


def test_utf16(tmp_path: Path) -> None:
    """A file in UTF-16 is named as such."""
    path = tmp_path / "wide.json"
    path.write_text('[{"a": 1}]', "utf-16")
    with pytest.raises(SourceError, match=r"wide\.json: is UTF-16"):
        read(path)


def test_data_files(tmp_path: Path) -> None:
    """A folder's JSON files come in name order; a folder without any is an error."""
    with pytest.raises(SourceError, match="holds no file that ends in"):
        data_files(tmp_path)
    for name in ("b.json", "a.jsonl", "tables.toml", "notes.txt"):
        (tmp_path / name).write_text("[]")
    assert [path.name for path in data_files(tmp_path)] == ["a.jsonl", "b.json"]
