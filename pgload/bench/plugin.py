"""The hooks of `pytest benchmarks`. The root `conftest.py` loads this module as a plugin.

All hooks leave a run that asks for no benchmark alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pgload.bench.console import write_summary
from pgload.bench.drift import DriftProbe
from pgload.bench.measure import Pass, extra_info
from pgload.bench.options import (
    DEFAULT_SETTING,
    OPTIONS,
    ROOT,
    add_options,
    checked_options,
    settings_of,
)
from pgload.bench.runner import (
    DRIFT_PROBES,
    INTERRUPTS,
    JOURNAL,
    MEASURED,
    NOT_MEASURED,
    SERVERS,
    Interrupts,
    pass_id,
)
from pgload.bench.target import client_facts
from pgload.contract import LOAD_PARAMS, METHODS, Setting
from pgload.errors import PgloadError
from pgload.targets.cloud import unconfigured_default

BENCHMARKS = ROOT / "benchmarks"


pytest_plugins = ["pgload.bench.fixtures"]
_output = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "sweep(method=(…), batch_size=(…), connections=(…)): the settings that a benchmark "
        "measures, every combination; what is left out is values, 1000, 1",
    )
    config.addinivalue_line(
        "markers", "settings(*settings): (method, batch size, connections) one by one"
    )
    if not _asks_for_benchmarks(config):
        if config.option.cloud:
            raise pytest.UsageError(
                f"--cloud is for benchmarks: did you mean pytest benchmarks --cloud "
                f"{','.join(config.option.cloud)}?"
            )
        return
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "benchmarks measure nothing under -n: run them without it (-n is for tests/)"
        )
    try:
        config.stash[OPTIONS] = checked_options(config)
    except PgloadError as error:
        raise pytest.UsageError(str(error)) from None
    option = config.option
    if not (option.benchmark_save or option.benchmark_autosave):
        option.benchmark_save = "+".join(config.stash[OPTIONS].clouds)
    option.benchmark_save_data = True
    # Our table stands for theirs, which shows seconds; it comes back with --benchmark-verbose.
    option.benchmark_quiet = not option.benchmark_verbose
    if option.benchmark_json:
        option.benchmark_json.parent.mkdir(parents=True, exist_ok=True)


def _asks_for_benchmarks(config: pytest.Config) -> bool:
    paths = [Path(arg.partition("::")[0]) for arg in config.args]
    here = config.invocation_params.dir
    resolved = [(here / path).resolve() for path in paths]
    return any(p.is_relative_to(BENCHMARKS) or BENCHMARKS.is_relative_to(p) for p in resolved)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    options = metafunc.config.stash.get(OPTIONS, None)
    if options is None or "cloud" not in metafunc.fixturenames:
        return
    hidden = len(options.clouds) == 1  # then the runs of two clouds pair up by their tests' ids
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
    passes = range(1, options.passes + 1)
    one = options.passes == 1
    numbers = [
        pytest.param(number, id=pytest.HIDDEN_PARAM if one else pass_id(number))
        for number in passes
    ]
    metafunc.parametrize("pass_number", numbers)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    options = config.stash.get(OPTIONS, None)
    if options is None:
        return
    kept = _asked_for(items, options.sweep)
    dropped = [item for item in items if item not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    items[:] = in_random_order(kept, options.seed)
    config.stash[DRIFT_PROBES] = _probes(items)


def _asked_for(items: list[pytest.Item], sweep: Mapping[str, Any]) -> list[pytest.Item]:
    """Keep to what was asked for: a setting asked for by name is measured only once, whichever
    tests would cover it, and without a database only the methods asked for are encoded.
    """
    by_name = sweep.keys() & {"batch_size", "connections"}
    seen, kept = set(), []
    for item in items:
        params = _params(item)
        load = tuple(params[name] for name in (*LOAD_PARAMS, "pass_number") if name in params)
        wanted = params.get("method") in (None, *sweep.get("method", METHODS))
        if wanted and not (by_name and "pass_number" in params and load in seen):
            seen.add(load)
            kept.append(item)
    return kept


def in_random_order(items: list[pytest.Item], seed: int) -> list[pytest.Item]:
    """Loads first, pass by pass, each pass in an order of its own; then what needs no database.

    The clouds of a setting stay together, so that they are measured side by side.
    """
    passes = defaultdict[int, dict[Any, list[pytest.Item]]](lambda: defaultdict(list))
    others = []
    for item in items:
        params = _params(item)
        if "pass_number" in params:
            setting = tuple(params[name] for name in LOAD_PARAMS[1:])
            test = getattr(item, "originalname", item.name)
            passes[params["pass_number"]][test, setting].append(item)
        else:
            others.append(item)
    ordered = []
    for number, settings in sorted(passes.items()):
        groups = list(settings.values())
        Random(f"{seed} {number}").shuffle(groups)
        ordered += [item for group in groups for item in group]
    return ordered + others


def _probes(items: list[pytest.Item]) -> dict[str, DriftProbe]:
    """For each cloud the default setting, if it is measured, else one that asks for least."""
    loads = [params for params in map(_params, items) if "pass_number" in params]
    default = tuple(values[0] for values in DEFAULT_SETTING.values())
    probes = {}
    for cloud in dict.fromkeys(params["cloud"] for params in loads):
        settings = [
            tuple(params[name] for name in LOAD_PARAMS[1:])
            for params in loads
            if params["cloud"] == cloud
        ]
        chosen = default if default in settings else min(settings, key=lambda s: (s[2], s))
        probes[cloud] = DriftProbe(Setting(*chosen), total=len(settings))
    return probes


def _params(item: pytest.Item) -> Mapping[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if OPTIONS in config.stash and reporter is not None and config.option.verbose == 0:
        # Our lines take the place of pytest's path and dots (see pytest_report_teststatus).
        reporter.showfspath = False


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    if OPTIONS not in session.config.stash:
        return (yield)
    with Interrupts(session) as interrupts:
        session.config.stash[INTERRUPTS] = interrupts
        return (yield)


def pytest_report_header(config: pytest.Config) -> str | None:
    options = config.stash.get(OPTIONS, None)
    if options is None:
        return None
    effort = options.effort
    passes = f"{options.passes} passes of " if options.passes > 1 else ""
    rounds = f"{passes}{effort.rounds} timed, {effort.warmup_rounds} warm-up"
    header = (
        f"pgload: {', '.join(options.clouds)}; loads of each setting: {rounds}; all verified; "
        f"order by seed {options.seed}"
    )
    missing = unconfigured_default(options.variables)
    if missing and not config.option.cloud:
        header += (
            f"\npgload: CLOUD_PROVIDER={missing} is not configured; --cloud {missing} says why"
        )
    return header


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    if OPTIONS in config.stash and config.option.verbose <= 0 and report.when == "call":
        return report.outcome, "", report.outcome.upper()  # our line says the rest
    return None


@pytest.hookimpl(wrapper=True, tryfirst=True)  # pytest-benchmark saves in a wrapper of its own
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int
) -> Generator[None, object, object]:
    """Leave out what Ctrl-C cut off, a load without a check or a benchmark without a round; and
    save nothing where nothing is left.
    """
    if OPTIONS in session.config.stash:
        _keep_what_is_whole(session)
        _close_the_journal(session, exitstatus)
    return (yield)


def _keep_what_is_whole(session: pytest.Session) -> None:
    benchmarks: Any = session.config._benchmarksession  # type: ignore[attr-defined]
    benchmarks.benchmarks[:] = [
        bench
        for bench in benchmarks.benchmarks
        if bench.stats.data
        and not bench.has_error
        and ("cloud" not in (bench.params or {}) or bench.extra_info.get("verified"))
    ]
    _join_passes(benchmarks.benchmarks, session.config.stash.get(MEASURED, {}))
    if not benchmarks.benchmarks:
        benchmarks.save = benchmarks.autosave = benchmarks.json = None


def _close_the_journal(session: pytest.Session, exitstatus: int) -> None:
    """A run that was interrupted, or ran out of time, can be gone on with."""
    journal = session.config.stash.get(JOURNAL, None)
    unmeasured = session.config.stash.get(NOT_MEASURED, [])
    out_of_time = any("--max-time" in each["reason"] for each in unmeasured)
    if journal and exitstatus != pytest.ExitCode.INTERRUPTED and not out_of_time:
        journal.remove()


def _join_passes(benchmarks: list[Any], measured: dict[str, list[Pass]]) -> None:
    """Make one benchmark of a setting's passes, in place, under the name without a pass."""
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
        if len(measured.get(name, ())) > 1:
            bench.extra_info.update(extra_info(measured[name]))
    benchmarks[:] = joined.values()


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    if OPTIONS in config.stash:
        machine_info["client"] = client_facts()
        machine_info["servers"] = config.stash.get(SERVERS, {})
        machine_info["not_measured"] = config.stash.get(NOT_MEASURED, [])
        machine_info["run"] = _run_facts(config)


def _run_facts(config: pytest.Config) -> dict[str, Any]:
    options = config.stash[OPTIONS]
    probes = config.stash.get(DRIFT_PROBES, {})
    reports = {cloud: probe.report() for cloud, probe in probes.items()}
    return {
        "seed": options.seed,
        "passes": options.passes,
        "rounds": options.effort.rounds,
        "warmup_rounds": options.effort.warmup_rounds,
        "drift": {cloud: report for cloud, report in reports.items() if report},
    }


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    if OPTIONS in config.stash:
        config.stash[_output] = output_json


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    output = config.stash.get(_output, None)
    if output is not None:
        drift = output["machine_info"]["run"]["drift"]
        write_summary(terminalreporter, output["benchmarks"], drift, _saved_file(config))


def _saved_file(config: pytest.Config) -> Path | None:
    """The JSON of this run, relative to where it was started if it is below."""
    session = config._benchmarksession  # type: ignore[attr-defined]
    name = session.save or session.autosave
    if not name:
        return None
    newest: Path = max(session.storage.query(f"*_{name}"))
    here = config.invocation_params.dir
    return newest.relative_to(here) if newest.is_relative_to(here) else newest
