"""The gate of a build: `--fail throughput:-10%`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pgload.errors import UsageError
from pgload.report.decision import Decision

EXPRESSION = re.compile(r"\s*throughput\s*:\s*-(\d+(?:\.\d+)?)\s*%\s*")
FEWEST_PASSES = 2  # with fewer, nothing measured tells how much passes vary


@dataclass(frozen=True)
class Gate:
    """Throughput may fall by that much, in percent, before it is a failure."""

    percent: float
    allow_missing: bool = False  # settings of the baseline that the other side lacks

    def __str__(self) -> str:
        return f"throughput:-{self.percent:g}%"

    @classmethod
    def parse(cls, text: str, *, allow_missing: bool = False) -> Gate:
        """The gate that `throughput:-10%` means. Raises `UsageError` for anything else."""
        found = EXPRESSION.fullmatch(text)
        if not found or not 0 < float(found[1]) < 100:
            raise UsageError(f"--fail {text!r} is not understood; write throughput:-10%")
        return cls(float(found[1]), allow_missing)

    def failures(self, decisions: Sequence[Decision]) -> list[str]:
        """A line for each setting whose corrected interval lies below the limit, or is missing."""
        lines = []
        for decision in decisions:
            for other in decision.others:
                where = f"{other.side} against {decision.baseline}"
                for setting, each in other.by_setting.items():
                    if (
                        each.passes >= FEWEST_PASSES
                        and each.corrected is not None
                        and each.corrected[1] < 1 - self.percent / 100
                    ):
                        lines.append(f"{where}: {setting}: {each:ascii}")
                if not self.allow_missing:
                    lines += [
                        f"{where}: {setting}: not measured (--allow-missing accepts that)"
                        for setting in other.missing
                    ]
        return lines

    def summary(self, decisions: Sequence[Decision]) -> str:
        """What was checked, in one line."""
        checked = [
            each
            for decision in decisions
            for other in decision.others
            for each in other.by_setting.values()
        ]
        lone = sum(each.passes < FEWEST_PASSES for each in checked)
        note = f"; {lone} of them have a single pass, which cannot fail" if lone else ""
        return f"{len(checked)} settings checked{note}"


def parse_percent(option: str, text: str) -> float:
    """`2%` and `2` as 0.02. Raises `UsageError` for what is not a percentage from 0 to 50."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 50:
        raise UsageError(f"{option} {text!r} is not a percentage from 0 to 50; write 2%")
    return value / 100
