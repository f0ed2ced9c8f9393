"""The content of the files: rejects as they were, names that are only data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgload.contract import PROGRESS, REJECTS, RESULTS, STATS
from pgload.migrate.outputs.outputs import Outputs
from pgload.migrate.outputs.progress import FileFacts
from pgload.migrate.outputs.rejects import Reject, RejectFile
from pgload.migrate.outputs.run_files import Pace
from tests.support.environment import ROOT
from tests.support.running import content, facts, file_size_limit, reject, stat


@settings(max_examples=30)  # each waits for the disk
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    indent=st.sampled_from([None, 2]),
)
def test_rejected_record_is_kept(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: int | None
) -> None:
    """The line of a rejected record holds the same record, pretty-printed or not."""
    data = json.dumps({"value": value}, indent=indent).encode()
    (line,) = written_rejects(tmp_path_factory.mktemp("rejects"), [reject(7, data)])
    found = json.loads(line)
    kept = found.pop("data") if "data" in found else json.loads(found.pop("text"))
    assert kept == {"value": value}
    assert found == {
        "file": "a.json",
        "record": 7,
        "offset": 8,
        "table": "bid_pblanclistinfo_cnstwk",
        "column": "n",
        "sqlstate": "22P02",
        "message": "not a number",
    }


@settings(max_examples=30)
@given(data=st.binary())
def test_rejected_bytes_are_kept(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A record that is not JSON is kept as text, in a line that is JSON."""
    (line,) = written_rejects(tmp_path_factory.mktemp("rejects"), [reject(data=data)])
    assert {"data", "text"} & set(msgspec.json.decode(line))


def written_rejects(folder: Path, rejects: Sequence[Reject]) -> list[bytes]:
    """The lines of a file of rejects."""
    file = RejectFile(folder / REJECTS)
    file.write(rejects)
    file.close()
    return (folder / REJECTS).read_bytes().splitlines()


def test_hostile_names(tmp_path: Path) -> None:
    """A file name cannot add a line to the log, steer a terminal or break JSON."""
    name = "a\n2025-01-15 10:30:03 - INFO - Batch 9\x1b[2J\u202e\udcff입찰.json"
    with Outputs(tmp_path, facts()) as out:
        out.file_started(FileFacts(name, "t"))
        out.reject([reject(file=name)])
        out.batch(stat(file=name))
        out.file_finished(name, f"{name}: gone")
        out.finish("failed")
    for each in (PROGRESS, STATS, RESULTS):
        content(tmp_path, each)
    assert content(tmp_path, PROGRESS)["current_file"].endswith("\\udcff입찰.json")
    log = (tmp_path / "migration.log").read_text("utf-8")
    assert len(log.splitlines()) == 6
    assert not set(log) & {"\x1b", "\u202e"}
    assert "입찰.json" in log


def test_reject_without_room(tmp_path: Path) -> None:
    """Rejects that do not fit on the disk are refused as a whole; those before them stay."""
    code = (
        "import sys; from pathlib import Path\n"
        "from pgload.errors import OutputError\n"
        "from pgload.migrate.outputs.rejects import RejectFile\n"
        "from tests.support.running import reject\n"
        "file = RejectFile(Path(sys.argv[1]))\n"
        "file.write([reject(1)])\n"
        "try: file.write([reject(2), reject(3, b'[' + b'1,' * 10_000 + b'1]')])\n"
        "except OutputError: file.write([reject(4)])\n"
    )
    path = tmp_path / REJECTS
    subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, **file_size_limit(10_000)
    )
    assert [json.loads(line)["record"] for line in path.read_bytes().splitlines()] == [1, 4]


def test_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longer a write takes, the later the next one: it takes at most its share of the time."""
    now, written = [100.0], []

    def write() -> None:
        written.append(now[0])
        now[0] += 0.5

    monkeypatch.setattr("pgload.migrate.outputs.run_files.time.perf_counter", lambda: now[0])
    pace = Pace(share=0.02, at_least=1.0)
    for _ in range(1000):
        pace.run(write)
        now[0] += 0.1
    assert len(written) == 4
    assert min(b - a for a, b in pairwise(written)) >= 25.0
