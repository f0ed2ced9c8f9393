"""Institutions, companies and items of the sample notices: combined from words, without chance.

Each is one row whose parts belong together, so a notice that draws an institution has its code,
its name and its officials from one draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, product
from string import ascii_lowercase
from typing import NamedTuple, TypeVar

from pgload.sample.words import words

T = TypeVar("T")

DESKS = 1900
INSTITUTIONS = 1480
COMPANIES = 4000


class Desk(NamedTuple):
    """An institution and who answers for its notices there."""

    code: str
    institution: str
    unit: str
    region: str
    official: str
    phone: str
    email: str
    executive: str
    creditor: str


class Company(NamedTuple):
    """A bidder."""

    registration: str
    name: str
    ceo: str
    official: str
    address: str
    phone: str


class Item(NamedTuple):
    """What a notice is about, with its place in a classification where its kind has one."""

    name: str
    number: str = ""
    unit: str = ""
    large: str = ""
    middle: str = ""


def _cycle(pool: Sequence[T], step: int) -> T:
    return pool[step % len(pool)]


@cache
def regions() -> tuple[str, ...]:
    """Every district with its region, as addresses begin."""
    by_region = words().names.regions
    return tuple(f"{region} {name}" for region, names in by_region.items() for name in names)


@cache
def people() -> tuple[str, ...]:
    """Invented names, all different."""
    names = words().names
    # Surnames change fastest, so that any stretch of the list has all of them.
    return tuple(surname + given for given in names.given_names for surname in names.surnames)


def _institutions() -> Iterator[tuple[str, str, str, str]]:
    """Code, name, head and region of each institution."""
    names = words().names
    for step, region in enumerate(regions()):
        yield f"{3_000_000 + step * 10}", region, f"{region}장", region
    for turn in (0, 5):  # two offices in each district
        for step, region in enumerate(regions()):
            name = f"{region.split()[1]} {_cycle(names.offices, step + turn)}"
            yield f"{4_000_000 + turn * 100_000 + step * 10}", name, f"{name}장", region
    for step, (corporation, branch) in enumerate(product(names.corporations, names.branches)):
        name = f"{corporation} {branch}"
        yield f"B{550_000 + step}", name, f"{corporation} 사장", _cycle(regions(), step * 5)
    schools = list(product(names.regions, names.school_names, names.school_levels))
    for step in range(len(schools)):
        # A stride without a common divisor meets every school once, and neighbours differ.
        region, name, level = schools[step * 7 % len(schools)]
        district = f"{region} {_cycle(names.regions[region], step)}"
        yield (
            f"{7_000_000 + step * 10}",
            f"{region}교육청 {name}{level}",
            f"{name}{level}장",
            district,
        )


@cache
def desks() -> tuple[Desk, ...]:
    """All desks; some institutions have two."""
    names, institutions = people(), list(islice(_institutions(), INSTITUTIONS))
    return tuple(
        Desk(
            code=code,
            institution=institution,
            unit=institution.split()[-1],
            region=region,
            official=_cycle(names, step * 7),
            phone=f"02-0000-{step:04}",
            email=f"{'' if step % 25 else 'contract.'}{_short_name(step)}@example.go.kr",
            executive=_cycle(names, step * 11 + 3),
            creditor=head,
        )
        for step in range(DESKS)
        for code, institution, head, region in [_cycle(institutions, step)]
    )


def _short_name(step: int) -> str:
    return f"{ascii_lowercase[step % 26]}{step // 26:02}"


@cache
def companies() -> tuple[Company, ...]:
    """All bidders."""
    names, parts = people(), words().names
    villages = parts.villages
    brands = [
        f"{form}{name}{trade}"
        for trade in parts.company_trades
        for name in parts.company_names
        for form in parts.company_forms
    ]
    return tuple(
        Company(
            registration=f"000-{step % 90 + 10}-{step:05}",
            name=f"{_cycle(brands, step)}{step // len(brands) or ''}",
            ceo=_cycle(names, step * 13),
            official=_cycle(names, step * 17 + 5),
            address=f"{_cycle(regions(), step)} {_cycle(villages, step // 3)} {step % 97 + 1}",
            phone=f"02-0000-{step:04}",
        )
        for step in range(COMPANIES)
    )


@cache
def items(kind: str) -> tuple[Item, ...]:
    """What notices of a kind are about. The numbers look like class numbers, and are none."""
    known = words().items
    if kind == "SERVC":
        services = [(each, name) for each in known.services for name in each.names]
        return tuple(
            Item(name, f"{72_101_501 + step * 93_939}", "식", each.large, each.middle)
            for step, (each, name) in enumerate(services)
        )
    if kind in ("THNG", "FRGCPT"):
        units = known.goods if kind == "THNG" else {"EA": known.foreign_goods}
        goods = [(name, unit) for unit, names in units.items() for name in names]
        return tuple(
            Item(name, f"{41_115_301 + step * 171_717}{step % 9 + 1:02}", unit)
            for step, (name, unit) in enumerate(goods)
        )
    return tuple(Item(name) for name in known.facilities)
