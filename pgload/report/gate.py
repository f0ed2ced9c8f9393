"""How large a difference has to be: to count, and for a build to stop (`--fail`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pgload.errors import UsageError
from pgload.report.decision import Decision
from pgload.report.stats import SLOWER

EXPRESSION = re.compile(r"\s*throughput\s*:\s*-(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True)
class Gate:
    """Throughput may fall by so much, in percent, before it is a failure."""

    percent: float

    def __str__(self) -> str:
        return f"throughput:-{self.percent:g}%"

    @classmethod
    def parse(cls, text: str) -> Gate:
        """The gate that `throughput:-10%` means. Raises `UsageError` for anything else."""
        found = EXPRESSION.fullmatch(text)
        if not found or not 0 < float(found[1]) < 100:
            raise UsageError(f"--fail {text!r} is not understood; write throughput:-10%")
        return cls(float(found[1]))

    def failures(self, decisions: Sequence[Decision]) -> list[str]:
        """A line for each setting that fell by more, and is slower by its interval too."""
        return [
            f"{other.side} beside {decision.baseline}: {setting}: {verdict:ascii}"
            for decision in decisions
            for other in decision.others
            for setting, verdict in other.by_setting.items()
            if verdict.word == SLOWER and verdict.ratio < 1 - self.percent / 100
        ]


def parse_percent(option: str, text: str) -> float:
    """`2%` and `2` as 0.02. Raises `UsageError` for what is no percentage from 0 to 50."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 50:
        raise UsageError(f"{option} {text!r} is no percentage from 0 to 50; write 2%")
    return value / 100
