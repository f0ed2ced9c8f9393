"""Measures the settings of a run one after the other, and reports each one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.drift import load_once
from pgload.bench.finals import FINAL_PASSES, Finalist, choose_finalists, run_finals
from pgload.bench.load_size import too_few_records
from pgload.bench.measure import (
    Pass,
    Plan,
    attempt,
    extra_info,
    measure,
    unstable,
    variation,
)
from pgload.bench.search import Search
from pgload.bench.session import BenchSession
from pgload.bench.target import BenchTarget
from pgload.contract import Setting
from pgload.errors import (
    PgloadError,
    RefusedLoginError,
    TargetError,
    TooManyConnectionsError,
)


class Runner:
    """Measures settings for the tests of a run."""

    def __init__(
        self, session: BenchSession, targets: Mapping[str, BenchTarget], dataset: Dataset
    ) -> None:
        self._session = session
        self._options = session.options
        self._console = session.console
        self._targets = targets
        self._dataset = dataset
        self._begin: float | None = None  # of the first setting

    def run(
        self, benchmark: Any, test: str, pass_number: int, cloud: str, setting: Setting
    ) -> None:
        """Measure one setting once; `test` is the same in all passes.

        Skips the test if the setting cannot be measured, fails it if the load failed, and ends the
        run if the connection to the cloud is lost or refused, except under --keep-going.
        """
        if not benchmark.disabled:
            self._probe(cloud)
        name = self._name(cloud, setting, pass_number)
        try:
            if self._resume(benchmark, name, test, pass_number, cloud, setting):
                self._session.probes[cloud].total -= 1
            else:
                self._measure(benchmark, name, test, pass_number, cloud, setting)
                self._session.probes[cloud].done += 1
        except pytest.skip.Exception:
            self._session.probes[cloud].total -= 1
            self._after_setting(benchmark, cloud)
            raise
        except pytest.fail.Exception:
            self._session.probes[cloud].done += 1
            self._after_setting(benchmark, cloud)
            raise
        self._after_setting(benchmark, cloud)

    def race(self, items: list[pytest.Item]) -> None:
        """Race all settings, and leave the items of the best ones in `items`."""
        search = Search(self._session, self._targets, self._dataset, items, self._out_of_time)
        self._session.search = search
        search.race()

    def _after_setting(self, benchmark: Any, cloud: str) -> None:
        """Measure drift if it is time to, and the finals after the last setting."""
        if benchmark.disabled:
            return
        self._probe(cloud)
        if self._session.search:
            self._session.search.after_setting(cloud)
        # What a search measures is fresh already: its race has chosen what is measured.
        done = all(each.done >= each.total for each in self._session.probes.values())
        if done and not self._session.search:
            _, error = attempt(self._run_finals)
            if error:
                self._console.line(f"finals: {error}")

    def _probe(self, cloud: str) -> None:
        if cloud not in self._session.unavailable:
            probe = self._session.probes[cloud]
            self._session.interrupts.interruptible(
                partial(probe.measure_if_due, self._targets[cloud], self._dataset)
            )

    def _run_finals(self) -> None:
        session = self._session
        measured = {
            test: passes
            for test, passes in session.passes.items()
            if session.settings[test][0] not in session.unavailable
        }
        session.finals = choose_finalists(measured, session.settings)

        def load(finalist: Finalist) -> float:
            self._console.status(f"{finalist.cloud}: finals, {finalist.setting.short}")
            target = self._targets[finalist.cloud]
            work = partial(
                load_once, target, self._dataset, finalist.setting, repeats=finalist.repeats
            )
            return session.interrupts.interruptible(work)

        passes = min(self._options.passes, FINAL_PASSES)
        run_finals(session.finals, passes, load, in_time=lambda: not self._out_of_time())
        for finalist in session.finals:
            if finalist.passes:
                report = finalist.report()
                self._console.line(
                    f"{finalist.cloud}: {finalist.setting.short}, one of the best: "
                    f"{report['records_per_second']:,.0f} records/s in fresh passes"
                )

    def _name(self, cloud: str, setting: Setting, pass_number: int) -> str:
        name = f"{setting.method:<11} {setting.batch_size:>5} × {setting.connections:<2}"
        if len(self._options.clouds) > 1:
            name = f"{cloud:<9} {name}"
        if self._options.passes > 1:
            name = f"{pass_number}/{self._options.passes} {name}"
        return name

    def _resume(
        self,
        benchmark: Any,
        name: str,
        test: str,
        pass_number: int,
        cloud: str,
        setting: Setting,
    ) -> bool:
        """Take the pass from the journal of the run that is resumed, if it is there."""
        journal = self._session.journal
        before = journal.passes.get((test, pass_number)) if journal else None
        if before is None:
            return False
        stats = benchmark._make_stats(1)
        for seconds in before.seconds:
            stats.update(seconds)
        self._add(benchmark, test, before, cloud, setting)
        self._console.result(name, benchmark, note="measured before")
        return True

    def _measure(
        self, benchmark: Any, name: str, test: str, pass_number: int, cloud: str, setting: Setting
    ) -> None:
        reason = self._session.unavailable.get(cloud) or self._reason_against(setting)
        if reason:
            self._skip(name, cloud, setting, reason)
        target = self._targets[cloud]

        def work() -> Pass | None:
            return measure(
                benchmark,
                target,
                self._dataset,
                setting,
                self._options.effort,
                self._options.load_size,
                pass_number=pass_number,
                plan=self._plan(test),
                on_load=lambda load: self._console.status(f"{name}   {load}"),
            )

        try:
            measured = self._session.interrupts.interruptible(work)
        except PgloadError as error:
            if target.connection.closed or isinstance(error, RefusedLoginError):
                self._lose(cloud, error)
            # Only a number of connections that was asked for has to be available.
            required = "connections" in self._options.sweep
            if isinstance(error, TooManyConnectionsError) and not required:
                self._skip(name, cloud, setting, str(error))
            self._console.line(f"{name:<25} failed: {error}")
            pytest.fail(str(error), pytrace=False)
        if target.connection.closed:
            self._lose(cloud, TargetError(f"{cloud}: the connection was lost"))
        if measured is not None:
            if self._session.journal:
                self._session.journal.add(test, measured)
            self._add(benchmark, test, measured, cloud, setting)
            self._console.result(name, benchmark, note=f"rows verified{self._instability(test)}")

    def _instability(self, test: str) -> str:
        """A note on a setting whose passes are finished, and vary too much; by how much."""
        passes = self._session.passes[test]
        if not 1 < len(passes) == self._options.passes:
            return ""
        throughputs = [each.throughput for each in passes]
        return f"; unstable ({variation(throughputs):.0%})" if unstable(throughputs) else ""

    def _plan(self, test: str) -> Plan | None:
        """What the passes of a test do, if one was measured, in this run or before it."""
        journal = self._session.journal
        known = list(self._session.passes.get(test, ()))
        if journal:
            known += [each for (name, _), each in journal.passes.items() if name == test]
        return known[0].plan if known else None

    def _out_of_time(self) -> bool:
        limit, now = self._options.max_time, time.monotonic()
        self._begin = self._begin or now
        return limit is not None and now - self._begin > limit

    def _reason_against(self, setting: Setting) -> str | None:
        if self._out_of_time():
            return self._session.out_of_time
        return too_few_records(self._dataset, setting, self._options.load_size)

    def _add(self, benchmark: Any, test: str, measured: Pass, cloud: str, setting: Setting) -> None:
        self._session.settings[test] = (cloud, setting)
        self._session.passes.setdefault(test, []).append(measured)
        benchmark.extra_info.update(extra_info([measured]))
        if cloud not in self._session.unavailable:
            known = self._targets[cloud].target.facts
            benchmark.extra_info["rtt_asked_ms"] = known.get("rtt_asked_ms")

    def _lose(self, cloud: str, error: PgloadError) -> NoReturn:
        if not self._options.keep_going:
            self._session.stop(error)
        self._session.unavailable[cloud] = str(error)  # for the settings that follow
        self._console.line(f"failed: {error}")
        pytest.fail(str(error), pytrace=False)

    def _skip(self, name: str, cloud: str, setting: Setting, reason: str) -> NoReturn:
        entry = {"cloud": cloud, **asdict(setting), "reason": reason}
        if entry not in self._session.not_measured:  # once for all passes
            self._session.not_measured.append(entry)
            self._console.line(f"{name:<25} not measured: {reason}")
        pytest.skip(reason)
