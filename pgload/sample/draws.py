"""Chance in a sample: a thousand records at a time, every draw with a generator of its own.

A draw is seeded by its name. So a column does not depend on which others are made, nor in which
order, and fields that share a draw agree. Only `random()` and `choices()` are used: their sequences
are the same on every Python and platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import TypeVar

from pgload.sample.fields import family, field_list
from pgload.sample.words import words

T = TypeVar("T")

ROWS = 1000  # of a chunk; samples of any size are cut from the same chunks
REVISED = 0.15  # share of records that are a later revision of a notice before them


@cache
def draw_name(field: str) -> str:
    """The draw that decides whether a field is filled: its family's or its group's."""
    name, groups = family(field), words().together.items()
    return next((group for group, families in groups if name in families), name)


@cache
def filled_share(field: str) -> float:
    """The share of records with a value: as measured for construction, or else as supposed."""
    measured = field_list()
    for known in measured.kinds["CNSTWK"].fields:
        if known.name == field and known.filled is not None:
            # A share that was rounded to nothing is still that of its distinct values.
            return known.filled or (known.distinct or 0) / measured.measured_rows
    return words().unmeasured.get(field, 1.0)


class Draws:
    """The draws of `ROWS` records of one kind, and which of them revise which.

    A later revision repeats its notice: by default a draw gives it what it gave the notice.
    """

    def __init__(self, kind: str, seed: int, index: int) -> None:
        self.kind, self.seed, self.index = kind, seed, index
        self.origin: list[int] = []  # the row of the notice's first revision
        self.previous: list[int] = []  # the row of the revision before this one, or this one
        self.revision: list[int] = []
        newest: dict[int, int] = {}
        rng = self._rng("revisions")
        for row in range(ROWS):
            revised = row > 0 and rng.random() < REVISED
            # Any earlier row is as likely: what was revised often is revised again.
            origin = self.origin[int(rng.random() * row)] if revised else row
            previous = newest.get(origin, row)
            self.revision.append(self.revision[previous] + 1 if revised else 0)
            self.origin.append(origin)
            self.previous.append(previous)
            newest[origin] = row
        self.newest = set(newest.values())  # rows that no other row of the chunk revises
        # Where a share follows from another column instead of a draw of its own.
        self._draws = {
            "chgNtceRsn": [0.0 if revision else 1.0 for revision in self.revision],
            "dlvrDaynum": [1.0 - draw for draw in self._draw("dlvrTmlmtDt")],
        }

    def _rng(self, name: str) -> Random:
        return Random(f"{self.seed}/{self.kind}/{self.index}/{name}")

    def _draw(self, name: str) -> list[float]:
        rng = self._rng(f"draw {name}")
        drawn = [rng.random() for _ in range(ROWS)]
        return [drawn[row] for row in self.origin]

    def draw(self, name: str) -> list[float]:
        """For each row a number from 0 to below 1, the same whenever the name is the same.

        For a field's name it decides whether the field is filled. Fields of one numbered family
        or of one group in `words.toml` share it.
        """
        name = draw_name(name)
        if name not in self._draws:
            self._draws[name] = self._draw(name)
        return self._draws[name]

    def filled(self, field: str) -> list[bool]:
        """For each row whether the field has a value there."""
        share = filled_share(field)
        return [draw < share for draw in self.draw(field)]

    def pick(
        self, name: str, pool: Mapping[T, int] | Sequence[T], *, repeat: bool = True
    ) -> list[T]:
        """One of `pool` for each row, by weight if it has weights.

        `repeat` gives a revision the value of its notice.
        """
        weights = tuple(pool.values()) if isinstance(pool, Mapping) else None
        drawn = self._rng(name).choices(tuple(pool), weights, k=ROWS)
        return [drawn[row] for row in self.origin] if repeat else drawn

    def pick_word(self, pool: str, *, repeat: bool = True) -> list[str]:
        """A word of one of the pools in `words.toml` for each row."""
        return self.pick(pool, words().pools[pool], repeat=repeat)

    def pick_number(self, pool: str) -> list[int]:
        """A number of one of the tables in `words.toml` for each row."""
        return [int(number) for number in self.pick(pool, words().numbers[pool])]
