"""JSON files of every format give the same records, and these become batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgload.errors import SourceError
from pgload.source import reader
from pgload.source.reader import Batch, Format, read_batches, read_records
from pgload.source.scan import scan
from tests.support.files import RECORDS, envelope, read, read_texts

SHAPES = {
    "array": RECORDS,
    "envelope": envelope(RECORDS),
    "items": {"items": RECORDS},
    "items after other keys": {"page": 1, "resultMsg": '"items": [', "items": RECORDS},
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
    """JSON Lines are recognised by their content, not by the file's name or line ends."""
    path = tmp_path / "lines.json"
    path.write_text(end.join(json.dumps(record) for record in RECORDS), "utf-8", newline="")
    assert read(path) == RECORDS


def test_single_object(tmp_path: Path) -> None:
    """A file with one object that is not an envelope is one record."""
    path = tmp_path / "one.json"
    path.write_text('{\n  "a": 1\n}\n')
    assert read(path) == [{"a": 1}]


def test_lines_with_items(tmp_path: Path) -> None:
    """JSON Lines whose long records hold a list called "items" are lines, not an envelope."""
    records = [{"items": [{"sku": "x" * 70_000}], "n": n} for n in range(3)]
    path = tmp_path / "orders.json"
    path.write_text("\n".join(map(json.dumps, records)))
    assert read(path) == records


LINES = [{"items": [{"a": 1}], "n": 1}], [{"header": {"resultCode": "07"}}], [{"items": [], "n": 2}]


@pytest.mark.parametrize("records", LINES, ids=repr)
def test_one_line(tmp_path: Path, records: list[object]) -> None:
    """The suffix .jsonl says that a line is a record, whatever its fields are called."""
    for name in ("x.jsonl", "x.NDJSON"):
        path = tmp_path / name
        path.write_text(json.dumps(records[0]))
        assert read(path) == records


def test_format(tmp_path: Path) -> None:
    """A format that is given decides how an object is read: as a record, or by its list."""
    path = tmp_path / "x.json"
    text = json.dumps({"type": "FeatureCollection", "data": {"features": RECORDS}}, indent=1)
    path.write_text(text)

    def read_as(form: Format) -> list[bytes]:
        return [bytes(record) for records in read_records(path, None, form) for record in records]

    assert read_as(Format("object")) == [text.encode()]
    listed = Format(items=("data", "features"))
    assert list(map(json.loads, read_as(listed))) == RECORDS
    with pytest.raises(SourceError, match=r"^x\.json: has no list 'features', as tables.toml has"):
        read_as(Format(items=("features",)))
    path.write_text('{"header": {"resultCode": "07"}}')
    assert read_as(Format("lines")) == read_as(Format("object")) == [path.read_bytes()]


@pytest.mark.parametrize("first", ['{"a": NaN}', '{"a": 1,}', "oops", "7", "\ufeff7"])
def test_bad_first_line(tmp_path: Path, first: str) -> None:
    """A bad first line of JSON Lines is one bad record, as one further down is."""
    path = tmp_path / "x.jsonl"
    for lines in ([first, '{"a": 2}', '{"a": 3}'], ['{"a": 2}', first.strip("\ufeff"), "{}"]):
        path.write_text("\n".join(lines))
        assert [text.decode() for text in read_texts(path)] == [
            line.strip("\ufeff") for line in lines
        ]
        scanned = scan(path)
        assert (scanned.records, scanned.unreadable) == (3, 1)


def test_first_line_longer_than_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON Lines are recognised by the second line, however long the first one is."""
    monkeypatch.setattr(reader, "HEAD_BYTES", 10)
    path = tmp_path / "x.json"
    path.write_text('{"a": "' + "x" * 100 + '"}\n{"a": "y"}')
    assert [len(record["a"]) for record in read(path)] == [100, 1]
    path.write_text('{"a": "' + "x" * 100 + '"}\n')
    assert [len(record["a"]) for record in read(path)] == [100]
    path.write_text('{"a": "' + "x" * 100 + '"}')
    assert [len(record["a"]) for record in read(path)] == [100]


def test_deep_nesting(tmp_path: Path) -> None:
    """A value nested too deeply to be read is an error that names the file."""
    path = tmp_path / "deep.json"
    path.write_text('[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]")
    with pytest.raises(SourceError, match=r"deep\.json: holds values nested too deeply"):
        read(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    """A UTF-8 byte order mark, as Windows programs write it, is not part of the data."""
    path = tmp_path / "bom.json"
    path.write_text('[{"a": 1}]', "utf-8-sig")
    assert read(path) == [{"a": 1}]


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


def test_batch_of_long_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends before it exceeds the limit in bytes, but has at least one record."""
    monkeypatch.setattr(reader, "BATCH_BYTES", 100)
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"a": "x" * size} for size in (10, 10, 90, 200, 10)]))
    assert [len(batch.records) for batch in read_batches(path, 10)] == [2, 1, 1, 1]


def test_parts(tmp_path: Path) -> None:
    """The parts of a batch have the file's record numbers and offsets."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps(RECORDS), "utf-8")
    _, batch = read_batches(path, 4)
    parts = list(batch.parts(2))
    assert [(part.first_record, len(part.records)) for part in parts] == [(5, 2), (7, 1)]
    assert parts[1].offset(7) == batch.offset(7)
    assert Batch(path, 1, batch.records).offset(1) is None


def test_select(tmp_path: Path) -> None:
    """Selected records keep the numbers and offsets that they have in the file, in parts too."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps(RECORDS), "utf-8")
    _, batch = list(read_batches(path, 3))[:2]
    assert batch.numbers == range(4, 7)
    chosen = batch.select([0, 2], partition=5)
    assert (chosen.first_record, list(chosen.numbers), chosen.partition) == (4, [4, 6], 5)
    assert chosen.records == [batch.records[0], batch.records[2]]
    assert chosen.offset(6) == batch.offset(6)
    _, part = chosen.parts(1)
    assert (part.first_record, list(part.numbers), part.partition) == (6, [6], 5)
    assert list(chosen.select([1]).numbers) == [6]
