"""Records come back whole and in order through windows of any size; broken JSON is located."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.errors import SourceError
from pgload.source import json_stream
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from tests.support.files import envelope, read, read_texts

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab{}[],"', max_size=3), inner),
    max_leaves=8,
)

json_records = st.lists(st.dictionaries(st.text("abc", min_size=1), json_values), max_size=12)


@settings(max_examples=60)
@given(
    records=json_records,
    indent=st.sampled_from([None, 0, 3]),
    window=st.integers(1, 200),
    wrap=st.sampled_from([lambda records: records, envelope, lambda records: {"items": records}]),
)
def test_windows_cut_between_records(tmp_path, monkeypatch, records, indent, window, wrap) -> None:
    """All records come back in order, through windows of any size."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", window)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(wrap(records), ensure_ascii=False, indent=indent), "utf-8")
    assert read(path) == records


@settings(max_examples=50)
@given(records=json_records.filter(lambda records: len(records) > 1), window=st.integers(1, 200))
def test_windows_cut_between_lines(tmp_path, monkeypatch, records, window) -> None:
    """JSON Lines come back in order through windows smaller than a line."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", window)
    path = tmp_path / "data.json"
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    assert read(path) == records


def test_long_records(tmp_path: Path) -> None:
    """A record may be many times as long as a window, in an array and in JSON Lines."""
    records = [{"a": 1}, {"a": "x" * (20 << 20)}, {"a": 2}]
    path = tmp_path / "long.json"
    path.write_text(json.dumps(records))
    assert read(path) == records
    path.write_text("\n".join(map(json.dumps, records[1:])))
    assert read(path) == records[1:]


BROKEN = {
    '[{"a": 1}, {"a"': "byte 15: the file ends too early; get the whole file",
    '[{"a": 1}, {"a": "x}]': "byte 21: the file ends too early",
    '[{"a": 1}]\n[{"a": 2}]': "byte 11: a second document begins; put all records into one array",
    '{"a": 1}{"a": 2}': "byte 8: a second document begins; put all records into one array, or each",
    '{\n"a": 1}\n{\n"a": 2}': "byte 10: a second document begins",
    '[{"a": 1}], "b"]': "byte 10: something follows the end of the document",
    '[{"a": 1},]': "byte 10",
    '[{"a": 1},, {"a": 2}]': "byte 10",
    '[{"a": 1}}]': "byte 9",
    '{"a": NaN, "b": [': "byte 6: NaN and Infinity are not JSON; write null instead",
    '{"a": -Infinity}': "byte 7: NaN and Infinity are not JSON",
    '{"items": [{"a": 1}, {"a": 2]}': "byte 28",
    '{\n"a": 1,\n}': "byte 10",
    '{"a": 1}\n{"a": 2\n{"a": 3}': "byte 17",
    '{"a": 1}\n{\n"b": \n{"c": NaN}\n}': "byte 11",
    '{"a": 1}\n{"a": 2': "byte 16: the file ends too early",
}


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("window", [4, 1 << 20])
def test_broken_json(tmp_path: Path, monkeypatch, text: str, window: int) -> None:
    """Broken JSON is an error with the file, the byte counted from 0, and what to do."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", window)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=rf"^broken\.json: broken JSON at {BROKEN[text]}"):
        read(path)


@settings(max_examples=30)
@given(
    records=st.lists(st.dictionaries(st.text("abc", min_size=1), json_values), min_size=1),
    bad=st.sampled_from([b'{"a": NaN}', b'{"x": "\\ud800"}', b'{"a": "\t", "b": {}}', b"7"]),
    place=st.integers(0, 100),
    window=st.integers(1, 200),
    indent=st.sampled_from([None, 1]),
)
def test_bad_record_anywhere(tmp_path, monkeypatch, records, bad, place, window, indent) -> None:
    """The records around a bad one come back, with their offsets, through any window."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", window)
    texts = [json.dumps(record, ensure_ascii=False, indent=indent).encode() for record in records]
    texts.insert(place % (len(texts) + 1), bad)
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + b" ,\n".join(texts) + b"]")
    assert read_texts(path) == texts
    starts = list(accumulate((len(text) + 3 for text in texts), initial=1))[:-1]
    batches = [part for batch in read_batches(path, 3) for part in batch.parts(1)]
    assert [batch.offset(batch.first_record) for batch in batches] == starts


def test_missing_comma(tmp_path: Path) -> None:
    """Records without a comma between them are one bad record, with all its text."""
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}, {"a": 2} {"a": 3}, {"a": 4}]')
    found = read_texts(path)
    assert found == [b'{"a": 1}', b'{"a": 2} {"a": 3}', b'{"a": 4}']
    assert scan(path).unreadable == 1
