"""Data files as tests write and read them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgload.source.reader import read_records

RECORDS = [{"bidNtceNo": f"R25BK{n:08}", "명": '가\t나 "다" {,}, {', "n": n} for n in range(7)]


def read(path: Path) -> list[Any]:
    """The file's records, decoded."""
    return [json.loads(text) for text in read_texts(path)]


def read_texts(path: Path) -> list[bytes]:
    """The file's records as they are written."""
    return [bytes(record) for records in read_records(path) for record in records]


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


def envelope(items: object) -> dict[str, object]:
    """The API's reply with these items."""
    header = {"resultCode": "00", "resultMsg": "정상"}
    body = {"items": items, "numOfRows": 10, "pageNo": 1, "totalCount": 7}
    return {"response": {"header": header, "body": body}}
