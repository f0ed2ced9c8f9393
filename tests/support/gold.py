"""Comparing an output with the file that holds what is expected."""

from __future__ import annotations

from pathlib import Path

GOLD = Path(__file__).parents[1] / "report" / "gold"


def check_gold(name: str, text: str, folder: Path | None = None) -> None:
    """The text equals the file `name` in tests/report/gold, with `folder` scrubbed.

    Every path of `folder` in the text becomes `FOLDER`. On a mismatch the text is saved beside the
    gold file as `<name>.actual`; where the change is meant, copy it over the gold file.
    """
    if folder is not None:
        text = text.replace(str(folder), "FOLDER")
    gold, actual = GOLD / name, GOLD / f"{name}.actual"
    # newlines as they are: CRLF in an output is a difference
    if gold.exists() and gold.read_bytes() == text.encode():
        actual.unlink(missing_ok=True)
        return
    gold.parent.mkdir(parents=True, exist_ok=True)
    actual.write_bytes(text.encode())
    raise AssertionError(f"{actual} differs from {gold.name}; if that is meant, copy it over")
