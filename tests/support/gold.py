"""Comparing an output with the file that holds what is expected."""

from __future__ import annotations

import re
from pathlib import Path

GOLD = Path(__file__).parents[1] / "report" / "gold"


def check_gold(name: str, text: str, folder: Path | None = None) -> None:
    """The text equals the file `name` in tests/report/gold, without what differs by machine.

    The path `folder` becomes `FOLDER`; numbers with more than 6 decimals are rounded to 6
    significant digits. On a mismatch the text is saved beside the gold file as `<name>.actual`;
    where the change is meant, copy it over the gold file.
    """
    if folder is not None:
        text = text.replace(str(folder), "FOLDER")
    # the last digits of a logarithm depend on the C library
    text = re.sub(r"\d+\.\d{7,}", lambda number: f"{float(number[0]):.6g}", text)
    gold, actual = GOLD / name, GOLD / f"{name}.actual"
    # newlines as they are: CRLF in an output is a difference
    if gold.exists() and gold.read_bytes() == text.encode():
        actual.unlink(missing_ok=True)
        return
    gold.parent.mkdir(parents=True, exist_ok=True)
    actual.write_bytes(text.encode())
    raise AssertionError(f"{actual} differs from {gold.name}; if that is meant, copy it over")
