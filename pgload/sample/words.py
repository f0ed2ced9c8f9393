"""The words of `words.toml`, typed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

Pool = dict[str, int] | list[str]


class Names(msgspec.Struct, frozen=True):
    """What names of places, institutions, people and companies are combined from."""

    offices: list[str]
    school_names: list[str]
    school_levels: list[str]
    corporations: list[str]
    branches: list[str]
    villages: list[str]
    surnames: list[str]
    given_names: list[str]
    company_forms: list[str]
    company_names: list[str]
    company_trades: list[str]
    regions: dict[str, list[str]]


class ServiceClass(msgspec.Struct, frozen=True):
    """Services of one class."""

    large: str
    middle: str
    names: list[str]


class Items(msgspec.Struct, frozen=True):
    """What notices are about; `goods` by their unit."""

    facilities: list[str]
    foreign_goods: list[str]
    goods: dict[str, list[str]]
    services: list[ServiceClass]


class Coded(msgspec.Struct, frozen=True):
    """A code and its name, which may come with each of its details and notes."""

    code: str
    name: str
    weight: int
    details: tuple[str, ...] = ("",)
    notes: tuple[str, ...] = ("",)


class Oddity(msgspec.Struct, frozen=True):
    """A new form for values of a field: in a share of records, and once in any case in `row`."""

    field: str
    share: float
    row: int
    form: str


class Words(msgspec.Struct, frozen=True):
    """All of `words.toml`; the comments there say what is what."""

    names: Names
    items: Items
    pools: dict[str, Pool]
    numbers: dict[str, dict[str, int]]
    drawn_prices: list[Coded]
    joint_bids: list[Coded]
    locations: list[Coded]
    award_methods: list[Coded]
    fields: dict[str, Pool]
    flags: dict[str, float]
    together: dict[str, list[str]]
    unmeasured: dict[str, float]
    oddities: list[Oddity]


@cache
def words() -> Words:
    """The words that come with pgload, read once."""
    text = Path(__file__).with_name("words.toml").read_bytes()
    return msgspec.toml.decode(text, type=Words)


def coded_pool(coded: list[Coded]) -> dict[tuple[str, str], int]:
    """Codes and full names with their weights."""
    return {
        (each.code, each.name + detail + note): each.weight
        for each in coded
        for detail in each.details
        for note in each.notes
    }
