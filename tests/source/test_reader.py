"""JSON files of every shape become the same records; what is no data is told apart from it."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.errors import SourceError
from pgload.schema.mapping import plan_tables
from pgload.source import json_stream as windows
from pgload.source.reader import read_batches, read_records
from pgload.source.scan import scan
from pgload.source.stores import Stamp, content_id, data_files

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


@settings(max_examples=60)
@given(
    records=json_records,
    indent=st.sampled_from([None, 0, 3]),
    window=st.integers(1, 200),
    wrap=st.sampled_from([lambda records: records, envelope, lambda records: {"items": records}]),
)
def test_windows_cut_between_records(tmp_path, monkeypatch, records, indent, window, wrap) -> None:
    """However small the windows and whatever the values hold, all records come back in order."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", window)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(wrap(records), ensure_ascii=False, indent=indent), "utf-8")
    assert read(path) == records


@settings(max_examples=50)
@given(records=json_records.filter(lambda records: len(records) > 1), window=st.integers(1, 200))
def test_windows_cut_between_lines(tmp_path, monkeypatch, records, window) -> None:
    """JSON Lines come back in order through windows smaller than a line."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", window)
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
    '[{"a": 1}, {"a"': "byte 15: the file ends too early; get the whole file",
    '[{"a": 1}, {"a": "x}]': "byte 21: the file ends too early",
    '[{"a": 1}]\n[{"a": 2}]': "byte 11: a second document begins; put all records into one array",
    '{"a": 1}{"a": 2}': "byte 8: a second document begins; put all records into one array, or each",
    '{\n"a": 1}\n{\n"a": 2}': "byte 10: a second document begins",
    '[{"a": 1}], "b"]': "byte 10: something follows the end of the document",
    '[{"a": 1},]': "byte 10",
    '[{"a": 1},, {"a": 2}]': "byte 10",
    '[{"a": 1}}]': "byte 9",
    '{"a": NaN, "b": [': "byte 6: NaN and Infinity are no JSON; write null instead",
    '{"a": -Infinity}': "byte 7: NaN and Infinity are no JSON",
    '{"items": [{"a": 1}, {"a": 2]}': "byte 28",
    '{\n"a": 1,\n}': "byte 10",
    '{"a": 1}\n{"a": 2\n{"a": 3}': "byte 17",
    '{"a": 1}\n{\n"b": \n{"c": NaN}\n}': "byte 11",
    '{"a": 1}\n{"a": 2': "byte 16: the file ends too early",
}


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("window", [4, 1 << 20])
def test_broken_json(tmp_path: Path, monkeypatch, text: str, window: int) -> None:
    """Broken JSON is an error with the file, the byte counted from 0, and the mend."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", window)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=rf"^broken\.json: broken JSON at {BROKEN[text]}"):
        read(path)


BAD_RECORDS = {
    '{"a": "\\ud800"}': r"holds half of a surrogate pair \(\\ud800 to \\udfff\)",
    '{"a": "\\ude00 x"}': "holds half of a surrogate pair",
    '{"a": NaN}': "holds NaN, which is no JSON: null would be",
    '{"a": [-Infinity]}': "holds -Infinity, which is no JSON",
    '{"a": "tab\there"}': "holds a control character that is not escaped",
    '{"a": }': r"JSON is malformed: invalid character \(byte 6\)",
    '{"a": 1 "b": 2}': "JSON is malformed",
    '{"a": 1]': "JSON is malformed",
    '{"a": "가나다"}': r"is not UTF-8 but seems to be CP949; convert the file \(iconv",
    "5": "'5' is no JSON object",
    '"},{"': r"""'"},\{"' is no JSON object""",
    "[[1], 2]": r"'\[\[1\], 2\]' is no JSON object",
    "null": "'null' is no JSON object",
}


@pytest.mark.parametrize("shape", ["array", "envelope", "lines"])
@pytest.mark.parametrize("window", [16, 1 << 20])
@pytest.mark.parametrize("bad", BAD_RECORDS)
def test_bad_record_among_good(
    tmp_path: Path, monkeypatch, bad: str, window: int, shape: str
) -> None:
    """One record that cannot be read costs no other: it is named, and has its place in the file."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", window)
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
    found = [bytes(record) for records in read_records(path) for record in records]
    assert found == [text.encode("cp949") for text in texts]
    scanned = scan(path)
    assert (scanned.records, scanned.unreadable) == (5, 2)
    assert list(scanned.fields) == ["a", "c"]
    error = scanned.first_error
    assert error is not None
    assert (error.path, error.record) == (path, 2)
    assert re.match(rf"x\.json: record 2: {BAD_RECORDS[bad]}.*; mend or remove", str(error))
    text = path.read_bytes()
    (batch,) = read_batches(path, 10)
    for number in (5, 4, 2):
        offset = batch.offset(number)
        assert text[offset:].startswith(texts[number - 1].encode("cp949"))


@settings(max_examples=30)
@given(
    records=st.lists(st.dictionaries(st.text("abc", min_size=1), json_values), min_size=1),
    bad=st.sampled_from([b'{"a": NaN}', b'{"x": "\\ud800"}', b'{"a": "\t", "b": {}}', b"7"]),
    place=st.integers(0, 100),
    window=st.integers(1, 200),
    indent=st.sampled_from([None, 1]),
)
def test_bad_record_anywhere(tmp_path, monkeypatch, records, bad, place, window, indent) -> None:
    """Whatever stands around a bad record comes back, with its offset, through any window."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", window)
    texts = [json.dumps(record, ensure_ascii=False, indent=indent).encode() for record in records]
    texts.insert(place % (len(texts) + 1), bad)
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + b" ,\n".join(texts) + b"]")
    assert [bytes(record) for records in read_records(path) for record in records] == texts
    starts = list(accumulate((len(text) + 3 for text in texts), initial=1))[:-1]
    batches = [part for batch in read_batches(path, 3) for part in batch.parts(1)]
    assert [batch.offset(batch.first_record) for batch in batches] == starts


def test_long_records(tmp_path: Path) -> None:
    """A record may be many times as long as a window, in an array and in JSON Lines."""
    records = [{"a": 1}, {"a": "x" * (20 << 20)}, {"a": 2}]
    path = tmp_path / "long.json"
    path.write_text(json.dumps(records))
    assert read(path) == records
    path.write_text("\n".join(map(json.dumps, records[1:])))
    assert read(path) == records[1:]


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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ['[{"a": 1}]', '{"가": 1}'])
def test_utf16(tmp_path: Path, encoding: str, text: str) -> None:
    """A file in UTF-16 is named as such, with and without a byte order mark."""
    path = tmp_path / "wide.json"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(SourceError, match=r"^wide\.json: is UTF-16.*: convert it to UTF-8 first"):
        read(path)


def test_cp949(tmp_path: Path) -> None:
    """A file in CP949 is an error as a whole: none of its records, or no field's name, is sound."""
    path = tmp_path / "old.json"
    for records in ([{"a": "가"}, {"a": "나"}], [{"a": 1}, {"금액": 2}]):
        path.write_text(json.dumps(records, ensure_ascii=False), "cp949")
        with pytest.raises(SourceError, match=r"^old\.json: .*is not UTF-8 but seems to be CP949"):
            scan(path)


def test_data_files(tmp_path: Path) -> None:
    """A folder's JSON files come in name order; a folder without any is an error."""
    with pytest.raises(SourceError, match="holds no file that ends in"):
        data_files(tmp_path)
    for name in ("b.json", "a.jsonl", "tables.toml", "notes.txt"):
        (tmp_path / name).write_text("[]")
    assert [path.name for path in data_files(tmp_path)] == ["a.jsonl", "b.json"]


def test_no_folder(tmp_path: Path) -> None:
    """A folder that does not exist, or is a file, is an error that says so."""
    with pytest.raises(SourceError, match=r"/none does not exist: name a folder"):
        data_files(tmp_path / "none")
    (tmp_path / "x.json").touch()
    with pytest.raises(SourceError, match=r"/x\.json is not a folder"):
        data_files(tmp_path / "x.json")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, which would open anything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission() -> None:
    """A file or folder that may not be read is named, with what to do."""
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "x.json"
        path.write_text("[]")
        path.chmod(0)
        with as_nobody(), pytest.raises(SourceError, match=r"^x\.json: cannot be read: permission"):
            read(path)
        folder.chmod(0)
        with as_nobody(), pytest.raises(SourceError, match=r" cannot be read: Permission denied$"):
            data_files(folder)
        folder.chmod(0o700)


def test_missing_comma(tmp_path: Path) -> None:
    """Records without a comma between them are one bad record, with all its text."""
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}, {"a": 2} {"a": 3}, {"a": 4}]')
    found = [bytes(record) for records in read_records(path) for record in records]
    assert found == [b'{"a": 1}', b'{"a": 2} {"a": 3}', b'{"a": 4}']
    assert scan(path).unreadable == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "is a folder, not a file; rename it, or name it as --data"),
        (lambda path: os.mkfifo(path), "is a pipe or a device, not a file"),
        (lambda path: path.symlink_to("none.json"), "is a broken link to /.*/none.json; remove it"),
        (lambda path: path.symlink_to(path), "is a broken link"),
        (lambda path: path.symlink_to("../out.json"), "is a link out of the folder, to /.*; put t"),
        (lambda path: path.symlink_to("/dev/zero"), "is a link out of the folder, to /dev/zero"),
        (lambda _: None, "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    """What is called like a data file and is none is refused by name, without waiting for it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "out.json").write_text("[]")
    make(folder / "x.json")
    for use in (read, scan, content_id, Stamp.of):
        with pytest.raises(SourceError, match=rf"^x\.json: {says}"):
            use(folder / "x.json")


def test_link_within_the_folder(tmp_path: Path) -> None:
    """A link to a file of the same folder is followed, also where the folder itself is a link."""
    (tmp_path / "data" / "old").mkdir(parents=True)
    (tmp_path / "data" / "old" / "a.json").write_text('[{"a": 1}]')
    (tmp_path / "data" / "x.json").symlink_to("old/a.json")
    (tmp_path / "link").symlink_to("data")
    assert read(tmp_path / "link" / "x.json") == [{"a": 1}]


def test_name_that_is_no_text(tmp_path: Path) -> None:
    """A file's name in another encoding is an error, not a crash when it is printed."""
    path = tmp_path / os.fsdecode(b"\xb0\xa1.json")
    try:
        path.write_text("[]")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(
        SourceError, match=r"^\\udcb0\\udca1\.json: its name is not UTF-8; rename it"
    ):
        read(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "grows": (
        lambda path: os.truncate(path, 6000),
        r"changed from 5,\d\d\d to 6,000 bytes while",
    ),
    "shrinks": (
        lambda path: os.truncate(path, 2000),
        r"changed from 5,\d\d\d to 2,000 bytes while",
    ),
    "is written to": (
        lambda path: os.utime(path, (1, 1)),
        "changed while it was in use; start aga",
    ),
    "is replaced": (lambda path: path.with_name("y.json").replace(path), "changed from 5,"),
    "vanishes": (lambda path: path.unlink(), "vanished while it was read; put it back"),
}


@pytest.mark.parametrize("shape", ["array", "lines"])
@pytest.mark.parametrize("change", CHANGES)
def test_change_while_read(tmp_path: Path, monkeypatch, change: str, shape: str) -> None:
    """A file that is not left alone while it is read is noticed before more of it is used."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", 1024)
    lines = [json.dumps({"n": n, "text": "x" * 70}) for n in range(60)]
    path = tmp_path / "x.json"
    path.write_text(f"[{','.join(lines)}]" if shape == "array" else "\n".join(lines))
    (tmp_path / "y.json").write_text("[]")
    batches = read_batches(path, 5)
    assert len(next(batches).records) == 5
    make, says = CHANGES[change]
    make(path)
    with pytest.raises(SourceError, match=rf"^x\.json: {says}"):
        next(batches), next(batches), next(batches)


def test_stamp(tmp_path: Path) -> None:
    """Who looked at a file before can have it refused if it is no longer the same."""
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}]')
    stamp = scan(path).stamp
    assert [len(batch.records) for batch in read_batches(path, 10, stamp)] == [1]
    path.write_text('[{"a": 1}, {"a": 2}]')
    with pytest.raises(SourceError, match=r"^x\.json: changed from 10 to 20 bytes while it was in"):
        next(read_batches(path, 10, stamp))


def test_content_id(tmp_path: Path) -> None:
    """A file is known by its content, whatever it is called and whenever it was written."""
    paths = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path, text in zip(paths, ("[]", "[]", "[ ]"), strict=True):
        path.write_text(text)
    a, b, c = map(content_id, paths)
    assert a == b != c
    assert re.fullmatch("[0-9a-f]{64}", a)


@pytest.mark.parametrize("use", ["scan", "plan"])
def test_memory(tmp_path: Path, monkeypatch, use: str) -> None:
    """A file is scanned, and a table planned, with a few windows of it in memory."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", 64 << 10)
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
