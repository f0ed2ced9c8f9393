"""Memory stays within the promise whatever the shape of a file, or the file is refused early."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MB = 1_000_000
FILE_BYTES = 48 * MB
# A reader's peak beside what Python takes; the promise for a migration is 150 MB in all.
PEAK = 90 * MB

CODE = """
import sys
from pathlib import Path
from pgload.errors import SourceError
from pgload.source.reader import read_batches
from pgload.source.scan import scan

def high_water():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

before, path = high_water(), Path(sys.argv[1])
try:
    print(scan(path).records)
    for batch in read_batches(path, 1000):
        pass
except SourceError as error:
    print(error)
print(high_water() - before)
"""


def repeated(
    start: str, part: str, end: str, separator: str = ",", size: int = FILE_BYTES
) -> Callable[[], Iterator[bytes]]:
    """A file of about `size` bytes in which a part is repeated."""

    def write() -> Iterator[bytes]:
        chunk = separator.join([part] * (MB // len(part))).encode()
        yield start.encode() + chunk
        for _ in range(size // len(chunk)):
            yield separator.encode() + chunk
        yield end.encode()

    return write


RECORD = json.dumps({f"field{n}": "x" * 20 for n in range(100)})
LATE = '{"resultMsg": "%s", "items": [' % ("x" * 100_000)
NESTED = json.dumps({"text": "a [ b {", "lines": [{"a": 1}] * 40, "more": "x" * 200})
# What is written, and what is read: a number of records, or what the error says.
SHAPES = {
    "items far from the beginning": (repeated(LATE, RECORD, "]}"), None),
    "brackets in strings": (repeated("[", NESTED, "]"), None),
    "null between records": (repeated("[", f"{RECORD},null", "]"), None),
    "numbers": (repeated("[", "1234567", "]"), "none of the first 10,000 records can be read"),
    "lines of numbers": (repeated("", "1234567", "", "\n"), "none of the first 10,000 records"),
    "short records": (repeated("[", '{"a":1,"b":2}', "]", size=12 * MB), None),
    "a long value": (repeated('[{"a": "', "x" * 1000, '"}]', "x"), "the value at byte 1 is longer"),
    "a long list": (
        repeated('[{"a": [', "1234567", "]}]"),
        "the value at byte 1 is longer than 32",
    ),
    "a long line": (repeated('{"a": "', "x" * 1000, '"}', "x"), "is one object of more than 32 MB"),
    "a long object": (repeated('{\n"a": [', "1234567", "]}"), "is one object of more than 32 MB"),
}


CASES = [
    *((shape, False) for shape in SHAPES),
    ("brackets in strings", True),
    ("a long value", True),
]


@pytest.mark.parametrize(("shape", "packed"), CASES)
def test_memory(tmp_path: Path, shape: str, packed: bool) -> None:
    """Scanning and reading a file takes a limited amount of memory, whatever is in it."""
    write, message = SHAPES[shape]
    path = tmp_path / ("x.json.gz" if packed else "x.json")
    with gzip.open(path, "wb", 1) if packed else path.open("wb") as file:
        for piece in write():
            file.write(piece)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True
    )
    found, peak = done.stdout.splitlines()
    path.unlink()
    assert int(peak) <= PEAK, f"{int(peak) / MB:.0f} MB"
    if message is None:
        assert int(found) > 1000
    else:
        assert message in found
