"""From sides to a decision: what is set beside what, how sure it is, and what to choose."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgload.contract import Setting
from pgload.errors import UsageError
from pgload.report.measurement import DatasetSize, Measurement
from pgload.report.sides import Difference, Side, Sides, caveats, differences, pair, unpaired
from pgload.report.stats import (
    SLOWER,
    THRESHOLD,
    MeanEstimate,
    Verdict,
    estimates,
    unpaired_verdict,
    verdicts,
)

SHOWN = 8  # sides beside each other: as many as there are colours that everybody tells apart
NEAR = 0.9  # of the best throughput, below which a setting is not worth naming as its like


@dataclass(frozen=True)
class Cost:
    """US dollars for a million records on a server that does nothing else."""

    dollars: float
    price_per_hour: float

    def at(self, throughput: float) -> float:
        """Dollars for a million records at another throughput of the same server."""
        return self.price_per_hour * 1e6 / throughput / 3600

    def __str__(self) -> str:
        return f"${self.dollars:.4f} at ${self.price_per_hour:g} an hour"


@dataclass(frozen=True)
class Best:
    """The fastest setting of a side, and those that are not shown to be slower."""

    measurement: Measurement
    near: tuple[tuple[Setting, Verdict], ...]  # the fastest first
    cost: Cost | None


@dataclass(frozen=True)
class Against:
    """One side beside the baseline."""

    side: str
    by_setting: Mapping[Setting, Verdict]  # of the settings that both measured
    overall: Verdict  # its best setting against the baseline's best, whichever they are
    caveats: tuple[Difference, ...]  # what else differs and decides

    @property
    def counts(self) -> Counter[str]:
        """How many settings have which verdict."""
        return Counter(each.word for each in self.by_setting.values())


@dataclass(frozen=True)
class Decision:
    """All that is said about one dataset."""

    dataset: DatasetSize
    sides: Sides  # the baseline first
    best: Mapping[str, Best]
    others: tuple[Against, ...]  # all sides but the baseline
    ranking: tuple[str, ...]  # the sides by their best setting, the fastest first
    lead: Verdict | None  # the fastest side's best against that of the next; None: one side
    lead_caveats: tuple[Difference, ...]

    @property
    def baseline(self) -> str:
        return next(iter(self.sides))

    @property
    def fastest(self) -> str:
        return self.ranking[0]

    @property
    def single_pass(self) -> bool:
        """Whether something compared was measured in one go, when a slow minute may have come."""
        return bool(self.others) and any(
            len(each.passes) < 2 for measured in self.sides.values() for each in measured.values()
        )

    @property
    def shown(self) -> list[str]:
        """The sides that have room: all, or the baseline and the fastest; in their order."""
        fastest = [name for name in self.ranking if name != self.baseline][: SHOWN - 1]
        return [name for name in self.sides if name == self.baseline or name in fastest]

    @property
    def cheapest(self) -> str | None:
        """The side whose best setting costs least; None where no price is known."""
        costs = {
            name: best.cost.dollars for name, best in self.best.items() if best.cost is not None
        }
        return min(costs, key=costs.__getitem__) if costs else None

    @property
    def settings(self) -> list[Setting]:
        return sorted({setting for measured in self.sides.values() for setting in measured})


@dataclass(frozen=True)
class Comparison:
    """Everything that was compared, and what stood in the way of more."""

    sides: Mapping[str, Side]  # the baseline first
    decisions: Sequence[Decision]  # one for each dataset, the one that compares most first
    differences: Sequence[Difference]
    threshold: float
    unpaired: Sequence[str]  # lines for the reader, as are the next two
    drift: Sequence[str]
    left_out: Sequence[str]


def compare_sides(
    sides: Mapping[str, Side], threshold: float = THRESHOLD, left_out: Sequence[str] = ()
) -> Comparison:
    """Compare all that can be paired; `left_out` is what was not even read."""
    paired = pair(sides)
    return Comparison(
        sides,
        [decide(dataset, measured, sides, threshold) for dataset, measured in paired.items()],
        differences({name: side.facts for name, side in sides.items()}),
        threshold,
        unpaired(paired, sides),
        [
            f"{name}: {run.drift['note']}"
            for name, side in sides.items()
            for run in side.runs
            if run.drift.get("note")
        ],
        left_out,
    )


def decide(
    dataset: DatasetSize, sides: Sides, by_name: Mapping[str, Side], threshold: float = THRESHOLD
) -> Decision:
    """Compare every side with the first, and the best settings with each other."""
    spread = {name: estimates(measured) for name, measured in sides.items()}
    best = {
        name: _best(measured, spread[name], by_name[name], threshold)
        for name, measured in sides.items()
    }
    facts = {name: by_name[name].facts for name in sides}
    ranking = sorted(sides, key=lambda name: -best[name].measurement.throughput)

    def of_bests(base: str, other: str) -> Verdict:
        theirs, ours = best[base].measurement, best[other].measurement
        return unpaired_verdict(
            spread[base][theirs.setting],
            spread[other][ours.setting],
            ours.throughput / theirs.throughput,
            threshold,
        )

    def warnings(*names: str) -> tuple[Difference, ...]:
        return caveats({name: facts[name] for name in names})

    baseline, *others = sides
    return Decision(
        dataset,
        sides,
        best,
        tuple(
            Against(
                name,
                verdicts(
                    sides[baseline],
                    sides[name],
                    same_runs=by_name[name].files == by_name[baseline].files,
                    threshold=threshold,
                ),
                of_bests(baseline, name),
                warnings(baseline, name),
            )
            for name in others
        ),
        tuple(ranking),
        of_bests(ranking[1], ranking[0]) if others else None,
        warnings(ranking[1], ranking[0]) if others else (),
    )


def cost(measured: Measurement, server: Mapping[str, object]) -> Cost | None:
    """What a million records cost on that server; None where its price is not known."""
    price = server.get("price_per_hour")
    if not isinstance(price, int | float) or isinstance(price, bool) or price <= 0:
        return None
    hours = 1e6 / measured.throughput / 3600
    return Cost(price * hours, float(price))


def _best(
    measured: Mapping[Setting, Measurement],
    spread: Mapping[Setting, MeanEstimate],
    side: Side,
    threshold: float,
) -> Best:
    best = max(measured.values(), key=lambda each: each.throughput)
    near = []
    for each in sorted(measured.values(), key=lambda each: -each.throughput):
        ratio = each.throughput / best.throughput
        if each is not best and ratio > NEAR:
            found = unpaired_verdict(spread[best.setting], spread[each.setting], ratio, threshold)
            if found.word != SLOWER:
                near.append((each.setting, found))
    return Best(best, tuple(near), cost(best, side.newest.server))


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
