"""A folder's files are found, opened only if regular, and known by stamp and content."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pgload.errors import SourceError
from pgload.source import json_stream
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from pgload.source.stores import Stamp, content_id, data_files
from tests.support.files import as_nobody, read


def test_data_files(tmp_path: Path) -> None:
    """A folder's JSON files come in name order; a folder without any is an error."""
    with pytest.raises(SourceError, match="holds no file that ends in"):
        data_files(tmp_path)
    for name in ("b.json", "a.jsonl", "tables.toml", "notes.txt"):
        (tmp_path / name).write_text("[]")
    assert [path.name for path in data_files(tmp_path)] == ["a.jsonl", "b.json"]


def test_no_folder(tmp_path: Path) -> None:
    """A folder that does not exist, or is a file, is an error."""
    with pytest.raises(SourceError, match=r"/none does not exist: name a folder"):
        data_files(tmp_path / "none")
    (tmp_path / "x.json").touch()
    with pytest.raises(SourceError, match=r"/x\.json is not a folder"):
        data_files(tmp_path / "x.json")


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
        with (
            as_nobody(),
            pytest.raises(SourceError, match=r" cannot be read: permission denied; make"),
        ):
            data_files(folder)
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder, not a file; rename it, or name it as --data"),
        (lambda path: os.mkfifo(path), "is a pipe or a device, not a file"),
        (lambda path: path.symlink_to("none.json"), "is a broken link to /.*/none.json; remove it"),
        (lambda path: path.symlink_to(path), "is a broken link"),
        (lambda path: path.symlink_to(".."), "is a folder, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device, not a file"),
        (lambda _: None, "cannot be read: no such file or directory"),
    ],
)
def test_not_a_file(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    """Anything but a regular file is refused by name, without waiting for it."""
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder / "x.json")
    for use in (read, scan, content_id, Stamp.of):
        with pytest.raises(SourceError, match=rf"^x\.json: {message}"):
            use(folder / "x.json")


def test_link(tmp_path: Path) -> None:
    """A link to a regular file is read, in whichever folder it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "a.json").write_text('[{"a": 1}]')
    (tmp_path / "data" / "x.json").symlink_to("../a.json")
    (tmp_path / "link").symlink_to("data")
    assert read(tmp_path / "data" / "x.json") == [{"a": 1}]
    assert read(tmp_path / "link" / "x.json") == [{"a": 1}]
    content_id(tmp_path / "link" / "x.json")


def test_name_not_utf8(tmp_path: Path) -> None:
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
    """A change of a file that is being read is an error before more of it is used."""
    monkeypatch.setattr(json_stream, "WINDOW_BYTES", 1024)
    lines = [json.dumps({"n": n, "text": "x" * 70}) for n in range(60)]
    path = tmp_path / "x.json"
    path.write_text(f"[{','.join(lines)}]" if shape == "array" else "\n".join(lines))
    (tmp_path / "y.json").write_text("[]")
    batches = read_batches(path, 5)
    assert len(next(batches).records) == 5
    make, message = CHANGES[change]
    make(path)
    with pytest.raises(SourceError, match=rf"^x\.json: {message}"):
        next(batches), next(batches), next(batches)


def test_stamp(tmp_path: Path) -> None:
    """A file that no longer has the stamp given is refused."""
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}]')
    stamp = scan(path).stamp
    assert [len(batch.records) for batch in read_batches(path, 10, stamp)] == [1]
    path.write_text('[{"a": 1}, {"a": 2}]')
    with pytest.raises(SourceError, match=r"^x\.json: changed from 10 to 20 bytes while it was in"):
        next(read_batches(path, 10, stamp))


def test_content_id(tmp_path: Path) -> None:
    """The id depends on the content alone, not on the name or the time of writing."""
    paths = [tmp_path / name for name in ("a.json", "b.json", "c.json")]
    for path, text in zip(paths, ("[]", "[]", "[ ]"), strict=True):
        path.write_text(text)
    a, b, c = map(content_id, paths)
    assert a == b != c
    assert re.fullmatch("[0-9a-f]{64}", a)
