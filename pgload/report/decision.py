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
    Verdict,
    log_ratios,
    verdict,
    verdicts,
)

SHOWN = 8  # sides beside each other: as many as there are colours that everybody tells apart
NEAR = 0.9  # of the best throughput; slower settings are not listed as alternatives


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

    # By fresh passes where the run made some: the winner of many settings is often a lucky sample.
    measurement: Measurement
    near: tuple[tuple[Setting, Verdict], ...]  # the fastest first
    cost: Cost | None

    @property
    def is_fresh(self) -> bool:
        """Whether its numbers come from passes that were made for the best settings only."""
        return self.measurement.passes == self.measurement.finals


@dataclass(frozen=True)
class Against:
    """One side beside the baseline."""

    side: str
    by_setting: Mapping[Setting, Verdict]  # of the settings that both measured
    overall: Verdict | None  # at the setting that is best for both; None: no common setting
    missing: tuple[Setting, ...]  # settings of the baseline that it lacks
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
    lead: Verdict | None  # of the fastest side over the next, at the setting best for both
    lead_setting: Setting | None
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
    def single_run(self) -> bool:
        """Whether two sides are compared by one run each, whose variation is assumed."""
        runs = [
            {one.run for each in measured.values() for one in each.passes}
            for measured in self.sides.values()
        ]
        return any(
            len(ours) == len(theirs) == 1 and ours != theirs
            for at, ours in enumerate(runs)
            for theirs in runs[:at]
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
    best = {name: _best(measured, by_name[name], threshold) for name, measured in sides.items()}
    facts = {name: by_name[name].facts for name in sides}
    ranking = sorted(sides, key=lambda name: -best[name].measurement.throughput)
    baseline, *others = sides
    # The verdicts of all sides are one family: the more there are, the surer each has to be.
    found = verdicts(
        {
            (name, setting): ratio
            for name in others
            for setting, ratio in log_ratios(sides[baseline], sides[name]).items()
        },
        threshold,
    )

    def decisive(*names: str) -> tuple[Difference, ...]:
        return caveats({name: facts[name] for name in names})

    def beside_baseline(name: str) -> Against:
        return Against(
            side=name,
            by_setting={setting: each for (side, setting), each in found.items() if side == name},
            overall=_at_best(sides[baseline], sides[name], threshold)[1],
            missing=tuple(sorted(sides[baseline].keys() - sides[name].keys())),
            caveats=decisive(baseline, name),
        )

    lead_setting, lead = None, None
    if others:
        lead_setting, lead = _at_best(sides[ranking[1]], sides[ranking[0]], threshold)
    return Decision(
        dataset=dataset,
        sides=sides,
        best=best,
        others=tuple(map(beside_baseline, others)),
        ranking=tuple(ranking),
        lead=lead,
        lead_setting=lead_setting,
        lead_caveats=decisive(ranking[1], ranking[0]) if others else (),
    )


def _at_best(
    base: Mapping[Setting, Measurement], other: Mapping[Setting, Measurement], threshold: float
) -> tuple[Setting | None, Verdict | None]:
    """The setting that is best for both sides together, and the verdict at it."""
    common = base.keys() & other.keys()
    if not common:
        return None, None
    setting = max(sorted(common), key=lambda each: base[each].throughput * other[each].throughput)
    return setting, verdict(log_ratios(base, other)[setting], threshold)


def cost(measured: Measurement, server: Mapping[str, object]) -> Cost | None:
    """What a million records cost on that server; None where its price is not known."""
    price = server.get("price_per_hour")
    if not isinstance(price, int | float) or isinstance(price, bool) or price <= 0:
        return None
    hours = 1e6 / measured.throughput / 3600
    return Cost(price * hours, float(price))


def _best(measured: Mapping[Setting, Measurement], side: Side, threshold: float) -> Best:
    finalists = {setting: each.fresh for setting, each in measured.items() if each.finals}
    measured = finalists if len(finalists) > 1 else measured
    best = max(measured.values(), key=lambda each: each.throughput)
    near = {
        setting: each
        for setting, each in sorted(measured.items(), key=lambda item: -item[1].throughput)
        if each is not best and each.throughput > NEAR * best.throughput
    }
    # Paired by pass: both were measured in the same passes, though not in the same minute of them.
    ratios = log_ratios(dict.fromkeys(near, best), near)
    found = verdicts({setting: ratios[setting] for setting in near}, threshold)
    return Best(
        measurement=best,
        near=tuple((setting, each) for setting, each in found.items() if each.word != SLOWER),
        cost=cost(best, side.newest.server),
    )


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
