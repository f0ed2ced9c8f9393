"""`--search`: a race on each cloud, and passes of the settings that win it, until it is decided.

All clouds measure the winners of every race, so that the clouds can be compared at them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from pgload.bench.drift import load_once
from pgload.bench.load_size import too_few_records
from pgload.bench.measure import extra_info
from pgload.bench.race import INDIFFERENCE, Judgement, Outcome, judge, race
from pgload.bench.selection import drift_probes, load_of, measures_setting
from pgload.bench.session import BenchSession
from pgload.contract import Setting, duration, migrate_command
from pgload.errors import PgloadError, RefusedLoginError
from pgload.targets.cloud import LOCAL_CLOUDS

if TYPE_CHECKING:
    from pgload.bench.dataset import Dataset
    from pgload.bench.target import BenchTarget

# A load of a race is shorter than one that is measured: it only has to find those that are.
BATCHES = 3  # of each connection
SECONDS = 0.3


@dataclass
class CloudRace:
    """The race on one cloud."""

    cloud: str
    settings: Sequence[Setting]
    running: Generator[Setting, float | None, Outcome]
    next: Setting | None = None  # to load
    outcome: Outcome | None = None
    rates: dict[Setting, float] = field(default_factory=dict)  # of the last load of each
    loads: int = 0
    seconds: float = 0.0  # of all loads, with all around them
    reasons: dict[Setting, str] = field(default_factory=dict)  # of those that failed

    def send(self, found: float | str) -> None:
        """Take the records per second of the load of `next`, or why there are none."""
        assert self.next is not None
        if isinstance(found, str):
            self.reasons[self.next] = found
            rate = None
        else:
            rate = self.rates[self.next] = found
        self.loads += 1
        self._advance(lambda: self.running.send(rate))

    def abandon(self, reason: str) -> None:
        """End the race without finalists, since the cloud is lost."""
        assert self.next is not None
        self.reasons[self.next] = reason
        self.next, self.outcome = None, Outcome()

    def start(self) -> None:
        """Find the first setting to load."""
        self._advance(lambda: next(self.running))

    def _advance(self, step: Callable[[], Setting]) -> None:
        try:
            self.next = step()
        except StopIteration as stop:
            self.next, self.outcome = None, stop.value

    def report(self) -> dict[str, Any]:
        """For the saved JSON."""
        assert self.outcome is not None
        return {
            "settings": len(self.settings),
            "loads": self.loads,
            "seconds": self.seconds,
            "finalists": [asdict(each) for each in self.outcome.finalists],
            "dropped": [
                {**asdict(each.setting), "rung": each.rung, "loads": each.loads}
                | {"ratio": each.ratio}
                for each in self.outcome.dropped
            ],
            "failed": [
                {**asdict(each), "reason": self.reasons[each]} for each in self.outcome.failed
            ],
        }


class Search:
    """The races of a run, side by side, and the finals.

    `items` are pytest's, one for each cloud, setting and pass, from which those that are not to be
    measured are taken out.
    """

    def __init__(
        self,
        session: BenchSession,
        targets: Mapping[str, BenchTarget],
        dataset: Dataset,
        items: list[pytest.Item],
        out_of_time: Callable[[], bool],
    ) -> None:
        self._session = session
        self._targets = targets
        self._dataset = dataset
        self._items = items
        self._out_of_time = out_of_time
        self._done = Counter[str]()  # settings of the finals, by cloud
        self.races: dict[str, CloudRace] = {}
        self.finalists: list[Setting] = []  # those that won a race, on any cloud
        self.judgements: dict[str, Judgement] = {}  # by cloud

    def race(self) -> None:
        """Race the settings on every cloud, and keep the items of those that win."""
        seed = self._session.options.seed
        loads = map(load_of, filter(measures_setting, self._items))
        settings = list(dict.fromkeys(setting for _, setting, _ in loads))
        for cloud in self._targets:
            running = race(settings, Random(f"{seed} {cloud}"))
            self.races[cloud] = CloudRace(cloud, settings, running)
            self.races[cloud].start()
            self._replay(self.races[cloud])
        while unfinished := [each for each in self.races.values() if each.next is not None]:
            for each in unfinished:
                if self._out_of_time():
                    self._drop(lambda *_: True)
                    self._session.not_measured.append(
                        {"cloud": each.cloud, "reason": self._session.out_of_time}
                    )
                    return
                self._load(each)
        for each in self.races.values():
            assert each.outcome is not None
            if not each.outcome.finalists:
                *_, reason = each.reasons.values()
                self._session.console.line(f"{each.cloud}: no setting could be loaded: {reason}")
                continue
            self.finalists += [
                setting for setting in each.outcome.finalists if setting not in self.finalists
            ]
            self._session.console.line(
                f"{each.cloud}: raced {len(settings)} settings in {each.loads} loads and "
                f"{duration(each.seconds)}; the best: "
                f"{', '.join(setting.short for setting in each.outcome.finalists)}"
            )
        self._drop(lambda _, setting, __: setting not in self.finalists)
        if not self.finalists:
            pytest.fail("no setting could be loaded", pytrace=False)
        self._session.probes = drift_probes(self._items)

    def after_setting(self, cloud: str) -> None:
        """End the finals of a cloud after a pass that decides them."""
        self._done[cloud] += 1
        if self._done[cloud] % len(self.finalists):
            return
        done, rates = self._done[cloud] // len(self.finalists), self._rates(cloud)
        most = max(map(len, rates.values()), default=0)
        finals = {setting: found for setting, found in rates.items() if len(found) == most}
        if finals:  # all of them may have failed
            self.judgements[cloud] = judge(finals)
            if self.judgements[cloud].decided:
                self._drop(lambda each, _, number: each == cloud and number > done)
                self._session.probes[cloud].total = self._session.probes[cloud].done

    def _drop(self, unwanted: Callable[[str, Setting, int], bool]) -> None:
        """Take items out that have not run, by their cloud, setting and pass."""
        dropped = [
            item for item in self._items if measures_setting(item) and unwanted(*load_of(item))
        ]
        if dropped:
            ids = set(map(id, dropped))
            self._items[:] = [item for item in self._items if id(item) not in ids]
            dropped[0].config.hook.pytest_deselected(items=dropped)

    def report(self) -> dict[str, Any]:
        """For the saved JSON, by cloud: the race, and what its finals show."""
        found = {}
        for cloud, each in self.races.items():
            judgement = self.judgements.get(cloud)
            if each.outcome and judgement:
                found[cloud] = each.report() | {
                    "fastest": asdict(judgement.fastest),
                    "best": asdict(judgement.best),
                    "not_slower": [asdict(setting) for setting in judgement.not_slower],
                    "decided": judgement.decided,
                }
        return found

    def answer(self, cloud: str) -> list[str]:
        """Lines that say which setting to take on a cloud, and how sure that is."""
        judgement, target = self.judgements.get(cloud), self._targets[cloud].target
        if judgement is None:
            return []
        best = judgement.best
        rate = self._records_per_second(cloud, best)
        million = 1e6 / rate  # seconds
        price = target.price_per_hour
        cost = f", ${million / 3600 * price:.4f}" if price else ""
        lines = [f"{cloud}: take {best}: {rate:,.0f} records/s"]
        if judgement.decided:
            lines.append(f"no other setting is likely to be more than {INDIFFERENCE:.0%} faster")
        else:
            lines.append(
                f"too noisy to decide: another may be more than {INDIFFERENCE:.0%} faster; repeat "
                "the search while the server and this machine do nothing else"
            )
        if best != judgement.fastest:
            lines.append(
                f"{judgement.fastest.short} is faster by less than {INDIFFERENCE:.0%}, with more "
                "connections or larger batches"
            )
        if judgement.not_slower:
            names = ", ".join(each.short for each in judgement.not_slower if each != best)
            lines += [f"not shown to be slower than the fastest: {names}"] if names else []
        lines.append(f"a million records: {duration(million)}{cost}")
        if cloud not in LOCAL_CLOUDS:
            data = str(self._session.options.data or "data")
            lines.append(f"migrate with: {migrate_command(cloud, best, data)}")
        return lines

    def _records_per_second(self, cloud: str, setting: Setting) -> float:
        """The number that the tables and the saved JSON have for a finalist."""
        session = self._session
        (passes,) = (
            measured
            for test, measured in session.passes.items()
            if session.settings[test] == (cloud, setting)
        )
        return float(extra_info(passes)["records_per_second"])

    def _rates(self, cloud: str) -> dict[Setting, list[float]]:
        """Records per second of the finals' passes."""
        session = self._session
        return {
            session.settings[test][1]: [one.throughput for one in measured]
            for test, measured in session.passes.items()
            if session.settings[test][0] == cloud
        }

    def _replay(self, race: CloudRace) -> None:
        """Take the loads that the run which is resumed has done."""
        journal = self._session.journal
        for found in journal.raced[race.cloud] if journal else ():
            if race.next is not None:
                race.send(found)

    def _load(self, race: CloudRace) -> None:
        session, setting = self._session, race.next
        assert setting is not None
        session.console.status(
            f"{race.cloud}: race of {len(race.settings)} settings, load {race.loads + 1}: "
            f"{setting.short}"
        )
        begin = time.monotonic()
        found = self._rate(race, setting)
        race.seconds += time.monotonic() - begin
        if race.cloud in session.unavailable:
            race.abandon(str(found))
            return
        if session.journal:
            session.journal.add_load(race.cloud, found)
        race.send(found)

    def _rate(self, race: CloudRace, setting: Setting) -> float | str:
        """Records per second of one load, or why the setting cannot be loaded."""
        if reason := too_few_records(self._dataset, setting, self._session.options.load_size):
            return reason
        session, target = self._session, self._targets[race.cloud]
        repeats = self._repeats(race, setting)
        work = partial(load_once, target, self._dataset, setting, repeats=repeats)
        try:
            return self._dataset.records * repeats / session.interrupts.interruptible(work)
        except PgloadError as error:
            if target.connection.closed or isinstance(error, RefusedLoginError):
                if not session.options.keep_going:
                    session.stop(error)
                session.unavailable[race.cloud] = str(error)
            return str(error)

    def _repeats(self, race: CloudRace, setting: Setting) -> int:
        """How often a load repeats the dataset."""
        size, dataset = self._session.options.load_size, self._dataset
        batches = dataset.whole_batches(setting.batch_size)
        least = ceil(BATCHES * setting.connections / batches) if size.for_batches else 1
        if not size.for_time or not race.rates:
            return least
        rates = sorted(race.rates.values())
        expected = race.rates.get(setting, rates[len(rates) // 2])
        return max(least, ceil(SECONDS * expected / dataset.records))
