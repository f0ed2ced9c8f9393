"""What the columns of a sample are made with: recipes, and makers of recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from pgload.sample.chunk import Chunk
from pgload.sample.fields import family
from pgload.sample.schedule import workdays
from pgload.sample.words import Pool, words

# Makes the column of a chunk; the second argument is the field's name, which seeds its draws.
Recipe = Callable[[Chunk, str], Sequence[str]]


# --- what recipes are made with: `source` names rows that the chunk keeps ---


def word(pool: Pool) -> Recipe:
    """One word of the pool."""
    return lambda chunk, name: chunk.pick(name, pool)


def flag(share: float) -> Recipe:
    """Y for a share of all records, N for the others."""
    return lambda chunk, name: ["Y" if draw < share else "N" for draw in chunk.draw(name)]


def each(source: str, text: Callable[[Any], object] = str) -> Recipe:
    """What each row has, as text."""
    rows = attrgetter(source)
    return lambda chunk, _: [str(text(value)) for value in rows(chunk)]


def part(source: str, name: str) -> Recipe:
    """One part of what each row has."""
    return each(source, attrgetter(name))


def form(pool: Pool, source: str) -> Recipe:
    """One of several forms, with the row's text in place of `*`."""
    rows = attrgetter(source)
    return lambda chunk, name: [
        form.replace("*", text)
        for form, text in zip(chunk.pick(name, pool), rows(chunk), strict=True)
    ]


def day(source: str, *, after: int = 0) -> Recipe:
    """The working day that the row has, or so many `after` it."""
    return each(source, lambda day: workdays()[day + after])


def time(source: str, pool: str, end: str = ":00", *, after: int = 0) -> Recipe:
    """A day as `day` and a time of day."""
    days = day(source, after=after)
    return lambda chunk, name: [
        f"{day} {time}{end}"
        for day, time in zip(
            days(chunk, name), chunk.pick(name, words().pools[pool], repeat=False), strict=True
        )
    ]


def percent(thousandths: int) -> str:
    """Thousandths of a percent, as text."""
    return f"{thousandths // 1000}.{thousandths % 1000:03}"


def supply(share: float) -> Recipe:
    """Material that the institution supplies: mostly none, at most a fifth of the price."""
    return lambda chunk, _: [
        str(int(price * draw / share / 5) // 10 * 10) if draw < share else "0"
        for price, draw in zip(chunk.price, chunk.draw("supplied"), strict=True)
    ]


# --- recipes of single fields ---


def notice_time(chunk: Chunk, _: str) -> list[str]:
    """When the notice was given, to the second."""
    hours = chunk.pick_word("office_hours", repeat=False)
    seconds = chunk.pick("second", range(3600), repeat=False)
    return [
        f"{workdays()[day]} {hour}:{second // 60:02}:{second % 60:02}"
        for day, hour, second in zip(chunk.notice_day, hours, seconds, strict=True)
    ]


def kind_name(chunk: Chunk, _: str) -> list[str]:
    """What sort of notice it is: of a revision, what was done to the notice."""
    share, again = words().flags["reNtceYn"], chunk.draw("reNtceYn")
    changes = chunk.pick("change", {"변경공고": 9, "취소공고": 1}, repeat=False)
    return [
        ("재공고" if again[row] < share else "등록공고")
        if not revision
        else changes[row]
        if row in chunk.newest
        else "변경공고"  # what was cancelled is not revised again
        for row, revision in enumerate(chunk.revision)
    ]


def reference(chunk: Chunk, _: str) -> list[str]:
    """The institution's own number."""
    numbers = chunk.pick("reference", range(1, 2500))
    return [
        unit + form.replace("#", str(number))
        for unit, form, number in zip(
            chunk.unit, chunk.pick_word("references"), numbers, strict=True
        )
    ]


def change_reason(chunk: Chunk, _: str) -> list[str]:
    """Why a notice was revised."""
    pools = ("changed", "changes", "change_notes")
    parts = [chunk.pick_word(pool, repeat=False) for pool in pools]
    numbers = chunk.pick("change number", range(1, 31), repeat=False)
    return [
        "".join(texts).replace("#", str(number))
        for *texts, number in zip(*parts, numbers, strict=True)
    ]


def joint_bid_name(chunk: Chunk, _: str) -> list[str]:
    """How a joint bid is made, or that there is none."""
    return [
        name if allowed else none
        for (_code, name), none, allowed in zip(
            chunk.joint_bid,
            chunk.pick_word("no_joint_bid"),
            chunk.filled("cmmnSpldmdMethdCd"),
            strict=True,
        )
    ]


def document_url(chunk: Chunk, name: str) -> list[str]:
    """Where a document is; a field without a number has the first one's."""
    sequence = name.removeprefix(family(name)) or "1"
    return [url + sequence for url in chunk.document_url]


def document_name(chunk: Chunk, name: str) -> list[str]:
    """A file name, mostly with what the notice is about."""
    sequence = name.removeprefix(family(name))
    pool = words().pools["first_documents" if sequence == "1" else "documents"]
    return [
        form.replace("#", sequence).replace("~", thing).replace("*", title)
        for form, thing, title in zip(chunk.pick(name, pool), chunk.thing, chunk.title, strict=True)
    ]


def unit_price(chunk: Chunk, _: str) -> list[str]:
    """The budget for one of what is bought."""
    return [
        str(budget // quantity)
        for budget, quantity in zip(chunk.budget, chunk.quantity, strict=True)
    ]
