"""The fields of each kind of procurement notice, as `fields.json` lists them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

KINDS = ("CNSTWK", "SERVC", "THNG", "FRGCPT", "SCSBID")


class Field(msgspec.Struct, frozen=True):
    """One field in wire order; what was not measured or documented is None.

    `filled` is a share of records, `length_mean` and `length_max` are characters of a filled
    value, `distinct` counts over `measured_rows` records.
    """

    name: str
    korean: str
    logical: str
    max_length: int | None = None
    filled: float | None = None
    length_mean: float | None = None
    length_max: int | None = None
    distinct: int | None = None


class Kind(msgspec.Struct, frozen=True):
    """One kind of notice: where its data comes from, where it goes, what it holds."""

    title: str
    operation: str
    file_prefix: str
    table: str
    key: tuple[str, ...]
    fields: tuple[Field, ...]


class FieldList(msgspec.Struct, frozen=True):
    """The whole of `fields.json`."""

    about: tuple[str, ...]
    measured_rows: int
    kinds: dict[str, Kind]


@cache
def field_list() -> FieldList:
    """The field list that comes with pgload, read once."""
    text = Path(__file__).with_name("fields.json").read_bytes()
    return msgspec.json.decode(text, type=FieldList)


def family(field: str) -> str:
    """The name without its number: `ntceSpecDocUrl` for `ntceSpecDocUrl7`."""
    return field.rstrip("0123456789")
