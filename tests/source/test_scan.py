"""A scan counts a file's records, finds their fields, and names the records that are unusable."""

from __future__ import annotations

import json
import re
import tracemalloc
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pgload.errors import SourceError
from pgload.schema.mapping import plan_tables
from pgload.source import json_stream
from pgload.source import scan as scan_module
from pgload.source.reader import read_batches, read_records
from pgload.source.scan import FieldFinder, Fields, scan, type_of
from tests.support.files import read_texts

BAD_RECORDS = {
    '{"a": "\\ud800"}': r"holds half of a surrogate pair \(\\ud800 to \\udfff\)",
    '{"a": "\\ude00 x"}': "holds half of a surrogate pair",
    '{"a": NaN}': "holds NaN, which is not JSON: use null",
    '{"a": [-Infinity]}': "holds -Infinity, which is not JSON",
    '{"a": "tab\there"}': "holds a control character that is not escaped",
    '{"a": }': r"JSON is malformed: invalid character \(byte 6\)",
    '{"a": 1 "b": 2}': "JSON is malformed",
    '{"a": 1]': "JSON is malformed",
    '{"a": "가나다"}': r"is not UTF-8 but seems to be CP949; convert the file \(iconv",
    "5": "'5' is not a JSON object",
    '"},{"': r"""'"},\{"' is not a JSON object""",
    "[[1], 2]": r"'\[\[1\], 2\]' is not a JSON object",
    "null": "'null' is not a JSON object",
}


@pytest.mark.parametrize("shape", ["array", "envelope", "lines"])
@pytest.mark.parametrize("window", [16, 1 << 20])
@pytest.mark.parametrize("bad", BAD_RECORDS)
def test_bad_record_among_good(
    tmp_path: Path, monkeypatch, bad: str, window: int, shape: str
) -> None:
    """A record that cannot be read is named, with its place in the file; the others are read."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", window)
    good = ['{"a": {"b": ["},{", 1]}}', '{"a": "\\\\"}', '{"c": 3}']
    texts = [good[0], bad, good[1], bad, good[2]]
    wraps = {
        "array": ("[\n ", " ,\n ", "\n]\n"),
        "envelope": ('{"response": {"body": {"items": [', ",", '], "pageNo": 1}}}'),
        "lines": ("\n", "\n\n", "\n"),
    }
    before, between, after = wraps[shape]
    path = tmp_path / "x.json"
    path.write_bytes((before + between.join(texts) + after).encode("cp949"))
    found = read_texts(path)
    assert found == [text.encode("cp949") for text in texts]
    scanned = scan(path)
    assert (scanned.records, scanned.unreadable) == (5, 2)
    assert list(scanned.fields) == ["a", "c"]
    error = scanned.first_error
    assert error is not None
    assert (error.path, error.record) == (path, 2)
    assert re.match(rf"x\.json: record 2: {BAD_RECORDS[bad]}.*; fix or remove", str(error))
    text = path.read_bytes()
    (batch,) = read_batches(path, 10)
    for number in (5, 4, 2):
        offset = batch.offset(number)
        assert text[offset:].startswith(texts[number - 1].encode("cp949"))


def test_cp949(tmp_path: Path) -> None:
    """A file in CP949 is an error as a whole, in its values or in its fields' names."""
    path = tmp_path / "old.json"
    for records in ([{"a": "가"}, {"a": "나"}], [{"a": 1}, {"금액": 2}]):
        path.write_text(json.dumps(records, ensure_ascii=False), "cp949")
        with pytest.raises(SourceError, match=r"^old\.json: .*is not UTF-8 but seems to be CP949"):
            scan(path)


@pytest.mark.parametrize("use", ["scan", "plan"])
def test_memory(tmp_path: Path, monkeypatch, use: str) -> None:
    """A file is scanned, and a table planned, with only a few windows of it in memory."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", 64 << 10)
    record = json.dumps({f"field_{n}": "x" * 20 for n in range(50)})
    path = tmp_path / "x.json"
    path.write_text(f"[{','.join([record] * 4000)}]")
    tracemalloc.start()
    try:
        if use == "scan":
            scanned = scan(path)
            assert (scanned.records, scanned.bytes) == (4000, 4000 * len(record))
            assert len(scanned.fields) == 50
        else:
            tables = plan_tables({path: chain.from_iterable(read_records(path))}, [])
            assert len(tables[path].columns) == 50
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize(
    ("token", "type_"),
    [
        ("null", ""),
        ('""', ""),
        ('"1"', "text"),
        ("true", "boolean"),
        ("[]", "jsonb"),
        ('{"a": 1}', "jsonb"),
        ("-1", "bigint"),
        (str(2**63 - 1), "bigint"),
        (str(2**63), "numeric"),
        (str(-(2**63)), "bigint"),
        ("1.0", "numeric"),
        ("1e3", "numeric"),
    ],
)
def test_type_of(token: str, type_: str) -> None:
    """A JSON value shows the type of its column, unless it is null or empty."""
    assert type_of(token.encode()) == type_


def test_fields_without_types(tmp_path: Path) -> None:
    """Without `infer` the fields are known and their types are not."""
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}, {"b": "x", "a": null}]')
    assert scan(path, infer=False).fields == {"a": set(), "b": set()}
    assert scan(path).fields == {"a": {"bigint", ""}, "b": {"text"}}


SCALARS = st.sampled_from(
    ['""', '"x"', "null", "1", "1.0", "true", '"2025-01-01"', '"2025-02-30"', "[]", '{"a": 1}',
     '"\\u0041"', '"\\ud800"', "NaN", "9223372036854775808", '"가"', ""]
)  # fmt: skip
NAMES = st.sampled_from(['"a"', '"b"', '"c"', '"\\u0061"', '"a\\"b"', '"가"', '""', "5"])
RECORDS = SCALARS | st.lists(st.tuples(NAMES, SCALARS).map(":".join), max_size=4).map(
    lambda fields: f"{{{','.join(fields)}}}"
)


@given(
    st.lists(RECORDS | st.just('{"a": "x", "b": ""}'), max_size=30),
    st.sampled_from(["utf-8", "cp949"]),
    st.booleans(),
)
def test_records_that_show_nothing_new(texts: list[str], encoding: str, infer: bool) -> None:
    """Whichever records the decoder of known fields takes, what is found is the same."""

    def find(chunk: int) -> tuple[Fields | str, list[tuple[int, str]]]:
        finder, errors = FieldFinder(Path("x.json"), infer=infer), []
        records = [Raw(text.encode(encoding)) for text in texts]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scan_module, "CHUNK", chunk)
            try:
                errors += [(error.record, error.reason) for error in finder.add(records)]
            except SourceError as error:  # a field's name
                return str(error), errors
        return finder.fields, errors

    assert find(1) == find(3) == find(len(texts) + 1)


def test_sparse_records(tmp_path: Path) -> None:
    """Fields are found where each record has few of them, as where its keys are data."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{f"key {n % 400}": n, "a": ""} for n in range(500)]))
    assert scan(path).fields == {f"key {n}": {"bigint"} for n in range(400)} | {"a": {""}}


@pytest.mark.parametrize("at", [0, 1, *range(50, 110), 1998])
def test_line_that_is_cut_off_in_a_string(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one unreadable record, wherever it is, if a record follows; at the end of the file it
    means that the file is cut off."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", 4096)
    lines = [f'{{"n": {n}, "a": "{"x" * 50}"}}\n' for n in range(2000)]
    lines[at] = f'{{"n": {at}, "a": "cut\n'
    path = tmp_path / "t.jsonl"
    path.write_text("".join(lines))
    found = scan(path)
    assert (found.records, found.unreadable) == (2000, 1)
    assert found.first_error is not None
    assert found.first_error.record == at + 1
    path.write_text("".join(lines[: at + 1]))
    with pytest.raises(SourceError, match=r"broken JSON at byte|the file ends too early"):
        scan(path)
