"""From sides to a decision: what is set beside what, how sure it is, and what to choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgload.contract import Setting
from pgload.report.history import run_variations
from pgload.report.measurement import DatasetSize, Measurement
from pgload.report.saved import SavedRun
from pgload.report.sides import Difference, Side, Sides, caveats, differences, pair, unpaired
from pgload.report.stats import (
    SLOWER,
    THRESHOLD,
    LogRatio,
    Verdict,
    log_ratios,
    verdict,
    verdicts,
)
from pgload.report.variance import RunVariation

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
class LoneRuns:
    """Sides with one run, beside a side of another run: how much their runs vary is not seen."""

    variations: Mapping[str, RunVariation]  # by side
    clouds: tuple[str, str]  # of the fastest side and the next
    second: tuple[float, float] | None  # the lead's interval with a second run of each, about


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
    lone_runs: LoneRuns | None  # None where nothing rests on what is assumed of runs

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
    sides: Mapping[str, Side],
    threshold: float = THRESHOLD,
    left_out: Sequence[str] = (),
    history: Sequence[SavedRun] = (),
) -> Comparison:
    """Compare all that can be paired; `left_out` is what was not even read.

    `history` are other runs, of which those of the same servers tell how much runs vary.
    """
    paired = pair(sides)
    return Comparison(
        sides,
        [
            decide(dataset, measured, sides, threshold, history)
            for dataset, measured in paired.items()
        ],
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
    dataset: DatasetSize,
    sides: Sides,
    by_name: Mapping[str, Side],
    threshold: float = THRESHOLD,
    history: Sequence[SavedRun] = (),
) -> Decision:
    """Compare every side with the first, and the best settings with each other."""
    variations = run_variations({name: by_name[name] for name in sides}, history, dataset)
    best = {name: _best(measured, by_name[name], threshold) for name, measured in sides.items()}
    facts = {name: by_name[name].facts for name in sides}
    ranking = sorted(sides, key=lambda name: -best[name].measurement.throughput)
    baseline, *others = sides

    def ratios_to(base: str, other: str) -> dict[Setting, LogRatio]:
        return log_ratios(sides[base], sides[other], (variations[base], variations[other]))

    to_baseline = {name: ratios_to(baseline, name) for name in others}
    # The verdicts of all sides are one family: the more there are, the surer each has to be.
    found = verdicts(
        {
            (name, setting): ratio
            for name, ratios in to_baseline.items()
            for setting, ratio in ratios.items()
        },
        threshold,
    )

    def decisive(*names: str) -> tuple[Difference, ...]:
        return caveats({name: facts[name] for name in names})

    def best_for_both(base: str, other: str) -> Setting | None:
        """The setting with the largest product of both throughputs."""
        common = sides[base].keys() & sides[other].keys()
        return max(
            sorted(common),
            key=lambda each: sides[base][each].throughput * sides[other][each].throughput,
            default=None,
        )

    def beside_baseline(name: str) -> Against:
        ratios, best_setting = to_baseline[name], best_for_both(baseline, name)
        return Against(
            side=name,
            by_setting={setting: found[name, setting] for setting in ratios},
            overall=verdict(ratios[best_setting], threshold) if best_setting else None,
            missing=tuple(sorted(sides[baseline].keys() - sides[name].keys())),
            caveats=decisive(baseline, name),
        )

    lead_setting = best_for_both(ranking[1], ranking[0]) if others else None
    lead = ratios_to(ranking[1], ranking[0])[lead_setting] if lead_setting else None
    return Decision(
        dataset=dataset,
        sides=sides,
        best=best,
        others=tuple(map(beside_baseline, others)),
        ranking=tuple(ranking),
        lead=verdict(lead, threshold) if lead else None,
        lead_setting=lead_setting,
        lead_caveats=decisive(ranking[1], ranking[0]) if others else (),
        lone_runs=_lone_runs(
            {name: variations[name] for name in _lone(sides)},
            {name: by_name[name].cloud for name in ranking[:2]},
            lead,
        ),
    )


def _lone(sides: Sides) -> list[str]:
    """The sides that have one run, and are compared with a side of another run."""
    runs = {
        name: {one.run for each in measured.values() for one in each.passes}
        for name, measured in sides.items()
    }
    return [
        name
        for name, of_side in runs.items()
        if len(of_side) == 1 and any(not of_side & other for other in runs.values())
    ]


def _lone_runs(
    variations: Mapping[str, RunVariation], leading: Mapping[str, str], lead: LogRatio | None
) -> LoneRuns | None:
    """`leading` are the clouds of the two fastest sides."""
    if not variations:
        return None
    second = None
    if lead and lead.of_runs and leading.keys() <= variations.keys():
        second = lead.with_second_run().interval()
    first_cloud, next_cloud = leading.values()
    return LoneRuns(variations, (first_cloud, next_cloud), second)


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
