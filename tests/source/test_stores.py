"""Files and pipes are found, opened only if regular, and known by stamp and content."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pgload.errors import SourceError
from pgload.source import json_stream, reader
from pgload.source.reader import read_batches
from pgload.source.scan import scan
from pgload.source.stores import LocalFile, find
from tests.support.files import as_nobody, read
from tests.support.waiting import wait_until


def names(data: Path | str) -> list[str]:
    """The names of the files that are found."""
    return [source.path.name for source in find(data).sources]


def test_folder(tmp_path: Path) -> None:
    """A folder's JSON files come in name order; a folder without any is an error."""
    with pytest.raises(SourceError, match="holds no file that ends in"):
        find(tmp_path)
    for name in ("b.json", "a.jsonl", "c.JSON.gz", "d.json.zst", "tables.toml", "notes.txt"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "more").mkdir()
    assert names(tmp_path) == ["a.jsonl", "b.json", "c.JSON.gz", "d.json.zst"]
    assert (find(tmp_path).folder, find(tmp_path).others) == (tmp_path, ["more/", "notes.txt"])


def test_file_and_glob(tmp_path: Path) -> None:
    """A file of any name, and those that match a pattern, are found; tables.toml is beside them."""
    for name in ("b.json", "a.txt", "tables.toml", "x/a.json", "x/b.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    assert names(tmp_path / "a.txt") == ["a.txt"]
    assert find(tmp_path / "a.txt").folder == tmp_path
    assert names(tmp_path / "*") == ["a.txt", "b.json"]
    assert names(f"{tmp_path}/**/a*") == ["a.txt", "a.json"]
    assert find(tmp_path / "x" / "*.json").folder == tmp_path / "x"
    with pytest.raises(SourceError, match=r"^b\.json: several files of .* have this name"):
        find(f"{tmp_path}/**/*.json")
    with pytest.raises(SourceError, match=r"/\*\.xml matches no file: name a folder or a file"):
        find(tmp_path / "*.xml")
    (tmp_path / "[1].json").write_text("[]")
    assert names(tmp_path / "[1].json") == ["[1].json"]


def test_no_folder(tmp_path: Path) -> None:
    """A place that does not exist is an error."""
    with pytest.raises(SourceError, match=r"/none does not exist: name a folder"):
        find(tmp_path / "none")


def test_standard_input(tmp_path: Path) -> None:
    """Standard input is kept in a temporary file, which is read as often as it is needed."""
    code = (
        "import os; from pgload.source.stores import find; from pgload.source.scan import scan; "
        "found = find('-'); source, = found.sources; a, b = scan(source), scan(source); "
        "print(a.path, a.records, a.content == b.content, os.listdir(os.environ['TMPDIR'])); "
        "print(found.note)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=gzip.compress(b'[{"a": 1}, {"a": 2}]'),
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=True,
    )
    first, note = done.stdout.decode().splitlines()
    assert first == "stdin 2 True []"  # no name: it is gone with the process, however that ends
    assert note.startswith(f"standard input is kept in a temporary file in {tmp_path} (0.0 MB)")


def test_pipe(tmp_path: Path) -> None:
    """A pipe that is named is read once, into a temporary file."""
    path = tmp_path / "x.json"
    os.mkfifo(path)
    with ThreadPoolExecutor() as pool:
        written = pool.submit(path.write_text, '[{"a": 1}]')
        found = find(path)
        written.result()
    (source,) = found.sources
    assert scan(source).records == scan(source).records == 1
    assert found.note.startswith(f"{path} is a pipe: its content is kept in a temporary file")


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
            find(folder)
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
    for use in (read, scan):
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
    monkeypatch.setattr(reader, "HEAD_BYTES", 1024)
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


def test_rewritten_in_place(tmp_path: Path) -> None:
    """A file whose content and not its size changed is refused, though its time was put back."""
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1}]')
    before, stamp = path.stat(), scan(path).stamp

    def has_changed() -> bool:  # once the clock of the file system has moved on
        path.write_text('[{"a": 2}]')
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return path.stat().st_ctime_ns != before.st_ctime_ns

    wait_until(has_changed)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(SourceError, match=r"^x\.json: changed while it was in use"):
        list(read_batches(path, 10, stamp))


def test_content(tmp_path: Path) -> None:
    """The id depends on the content alone, not on the name, the time or the compression."""
    paths = [tmp_path / name for name in ("a.json", "b.json.gz", "c.json")]
    text = b'[{"a": 1}]'
    for path, content in zip(paths, (text, gzip.compress(text), text + b" "), strict=True):
        path.write_bytes(content)
    a, b, c = (scan(path).content for path in paths)
    assert a == b != c
    assert a == hashlib.sha256(text).hexdigest()
    with LocalFile(paths[1]).opened() as stream:
        assert bytes(stream.ahead(100)) == text
