"""The hooks of a run of benchmarks."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pgload.bench.console import write_summary
from pgload.bench.measure import Pass, attempt, extra_info
from pgload.bench.selection import drift_probes, in_random_order, pass_id, select, settings_of
from pgload.bench.session import BenchSession
from pgload.bench.target import client_facts
from pgload.contract import LOAD_PARAMS
from pgload.targets.cloud import unconfigured_default


class BenchHooks:
    """Parametrizes, orders, reports and saves the benchmarks of one run."""

    def __init__(self, config: pytest.Config, session: BenchSession) -> None:
        self._config = config
        self._session = session
        self._options = session.options

    def pytest_report_header(self) -> str:
        options, effort = self._options, self._options.effort
        loads = f"{options.passes} × {effort.rounds} timed, {effort.warmup_rounds} warm-up"
        what = "a race, then passes of the best" if options.search else f"each setting: {loads}"
        header = (
            f"pgload: {', '.join(options.clouds)}; loads of {what}; all verified; "
            f"order by seed {options.seed}"
        )
        missing = unconfigured_default(options.variables)
        if missing and not self._config.option.cloud:
            header += (
                f"\npgload: CLOUD_PROVIDER={missing} is not configured; --cloud {missing} says why"
            )
        return header

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.option.verbose == 0:
            # Our lines replace pytest's path and dots (see pytest_report_teststatus).
            reporter.showfspath = False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "cloud" not in metafunc.fixturenames:
            return
        options = self._options
        hidden = len(options.clouds) == 1  # the runs of two clouds then pair up by their tests' ids
        if "run_load" not in metafunc.fixturenames:
            clouds = [
                pytest.param(cloud, id=pytest.HIDDEN_PARAM if hidden else cloud)
                for cloud in options.clouds
            ]
            metafunc.parametrize("cloud", clouds)
            return
        # Settings outside, clouds inside: clouds are measured side by side.
        cases = [
            (cloud, *setting)
            for setting in settings_of(metafunc.definition, options.sweep)
            for cloud in options.clouds
        ]
        ids = ["-".join(map(str, case[1:] if hidden else case)) for case in cases]
        metafunc.parametrize(LOAD_PARAMS, cases, ids=ids)
        single = options.passes == 1
        numbers = [
            pytest.param(number, id=pytest.HIDDEN_PARAM if single else pass_id(number))
            for number in range(1, options.passes + 1)
        ]
        metafunc.parametrize("pass_number", numbers)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        selected = select(items, self._options.sweep)
        deselected = [item for item in items if item not in selected]
        if deselected:
            self._config.hook.pytest_deselected(items=deselected)
        items[:] = in_random_order(selected, self._options.seed)
        races = [item for item in items if "run_race" in getattr(item, "fixturenames", ())]
        if bool(races) != self._options.search:
            raise pytest.UsageError(
                "a search needs a race and its finals: run pytest benchmarks --search"
            )
        items.sort(key=lambda item: item not in races)  # stable: the race is the first
        self._session.probes = drift_probes(items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        with self._session.interrupts.handled(session):
            return (yield)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if self._config.option.verbose <= 0 and report.when == "call":
            return report.outcome, "", report.outcome.upper()  # our line reports the rest
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # pytest-benchmark saves in a wrapper of its own
    def pytest_sessionfinish(self, exitstatus: int) -> Generator[None, object, object]:
        self._drop_incomplete()
        self._close_journal(exitstatus)
        return (yield)

    def _drop_incomplete(self) -> None:
        """Drop loads that were not verified, benchmarks without a round, and an empty run."""
        benchmarks: Any = self._config._benchmarksession  # type: ignore[attr-defined]
        benchmarks.benchmarks[:] = [
            bench
            for bench in benchmarks.benchmarks
            if bench.stats.data
            and not bench.has_error
            and ("cloud" not in (bench.params or {}) or bench.extra_info.get("verified"))
        ]
        _join_passes(benchmarks.benchmarks, self._session.passes)
        finals = {each.test: each.passes for each in self._session.finals if each.passes}
        for bench in benchmarks.benchmarks:
            if bench.fullname in finals:
                bench.extra_info["finals"] = finals[bench.fullname]
        if not benchmarks.benchmarks:
            benchmarks.save = benchmarks.autosave = benchmarks.json = None

    def _close_journal(self, exitstatus: int) -> None:
        """Remove the journal, unless the run was interrupted or ran out of time."""
        out_of_time = any("--max-time" in each["reason"] for each in self._session.not_measured)
        journal = self._session.journal
        if journal and exitstatus != pytest.ExitCode.INTERRUPTED and not out_of_time:
            journal.remove()

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        """Adds the facts; what cannot be computed is replaced by the reason, and not fatal."""
        session, client, error = self._session, *attempt(client_facts)
        machine_info["client"] = client or {"note": error}
        machine_info["servers"] = session.servers
        machine_info["not_measured"] = session.not_measured
        drift, finals = dict[str, Any](), dict[str, Any]()
        for cloud, probe in session.probes.items():
            report, error = attempt(probe.report)
            if report or error:
                drift[cloud] = report or {"note": error}
        for each in session.finals:
            report, error = attempt(each.report)
            if each.passes:
                finals.setdefault(each.cloud, []).append(report or {"note": error})
        machine_info["run"] = {
            "seed": self._options.seed,
            "passes": self._options.passes,
            "rounds": self._options.effort.rounds,
            "warmup_rounds": self._options.effort.warmup_rounds,
            "drift": drift,
            "finals": finals,
        }
        if session.search:
            report, error = attempt(session.search.report)
            machine_info["run"]["search"] = {"note": error} if error else report

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        self._session.output = output_json

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        output = self._session.output
        if output is not None:
            run = output["machine_info"]["run"]
            saved = self._saved_file()
            write = partial(
                write_summary, terminalreporter, output["benchmarks"], run["drift"], saved
            )
            _, error = attempt(write)
            if error:
                terminalreporter.write_line(f"the summary {error}; saved: {saved}")
            if search := self._session.search:
                terminalreporter.section("which setting to take")
                for cloud in search.races:
                    for line in search.answer(cloud):
                        terminalreporter.write_line(line)

    def _saved_file(self) -> Path | None:
        """The JSON of this run, relative to the directory it was started in, if it is below it."""
        benchmarks = self._config._benchmarksession  # type: ignore[attr-defined]
        name = benchmarks.save or benchmarks.autosave
        if not name:
            return None
        newest: Path = max(benchmarks.storage.query(f"*_{name}"))
        here = self._config.invocation_params.dir
        return newest.relative_to(here) if newest.is_relative_to(here) else newest


def _join_passes(benchmarks: list[Any], passes: dict[str, list[Pass]]) -> None:
    """Join the benchmarks of a setting's passes into one, in place; its name has no pass in it."""
    joined: dict[str, Any] = {}
    for bench in benchmarks:
        suffix = f"-{pass_id((bench.params or {}).get('pass_number', 0))}"
        bench.params = {k: v for k, v in (bench.params or {}).items() if k != "pass_number"} or None
        bench.name, bench.fullname, bench.param = (
            text and text.replace(f"{suffix}]", "]").removesuffix(suffix)
            for text in (bench.name, bench.fullname, bench.param)
        )
        first = joined.setdefault(bench.fullname, bench)
        if first is not bench:
            for seconds in bench.stats.data:
                first.stats.update(seconds)
    for name, bench in joined.items():
        if len(passes.get(name, ())) > 1:
            bench.extra_info.update(extra_info(passes[name]))
    benchmarks[:] = joined.values()
