"""What the root `conftest.py` and `benchmarks/` are made of: the hooks.

All hooks leave a run that asks for no benchmark alone.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pgload.errors import PgloadError
from pgload.fixtures import NOT_MEASURED, SERVERS
from pgload.interrupt import INTERRUPTS, Interrupts
from pgload.load.methods import METHODS
from pgload.options import OPTIONS, ROOT, add_options, checked_options, settings_of
from pgload.targets.open import unconfigured_default
from pgload.terminal import write_summary

BENCHMARKS = ROOT / "benchmarks"
SETTING_NAMES = ("cloud", "method", "batch_size", "connections")
ON_REQUEST = (
    "test_grid.py",
    "test_peers.py",
    "test_distance.py",
    "test_memory.py",
    "test_promises.py",
    "test_scale.py",
)  # long; run when named on the command line

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


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.parent == BENCHMARKS and collection_path.name in ON_REQUEST:
        named = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
        if collection_path not in [path.resolve() for path in named]:
            return True
    return None


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
    metafunc.parametrize(SETTING_NAMES, cases, ids=ids)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep to what was asked for: a setting asked for by name is measured only once, whichever
    tests would cover it, and without a database only the methods asked for are encoded.
    """
    options = config.stash.get(OPTIONS, None)
    if options is None or not options.sweep:
        return
    by_name = options.sweep.keys() & {"batch_size", "connections"}
    seen, kept, dropped = set(), [], []
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        setting = tuple(params[name] for name in SETTING_NAMES if name in params)
        wanted = params.get("method") in (None, *options.sweep.get("method", METHODS))
        if not wanted or (by_name and len(setting) == len(SETTING_NAMES) and setting in seen):
            dropped.append(item)
        else:
            seen.add(setting)
            kept.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


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
    rounds = f"{options.rounds} timed, {options.warmup_rounds} warm-up"
    header = f"pgload: {', '.join(options.clouds)}; loads of each setting: {rounds}; all verified"
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
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Leave out what Ctrl-C cut off, a load without a check or a benchmark without a round; and
    save nothing where nothing is left.
    """
    if OPTIONS in session.config.stash:
        _keep_what_is_whole(session)
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
    if not benchmarks.benchmarks:
        benchmarks.save = benchmarks.autosave = benchmarks.json = None


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    if OPTIONS in config.stash:
        machine_info["servers"] = config.stash.get(SERVERS, {})
        machine_info["not_measured"] = config.stash.get(NOT_MEASURED, [])


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    if OPTIONS in config.stash:
        config.stash[_output] = output_json


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    output = config.stash.get(_output, None)
    if output is not None:
        write_summary(terminalreporter, output["benchmarks"], _saved_file(config))


def _saved_file(config: pytest.Config) -> Path | None:
    """The JSON of this run, relative to where it was started if it is below."""
    session = config._benchmarksession  # type: ignore[attr-defined]
    name = session.save or session.autosave
    if not name:
        return None
    newest: Path = max(session.storage.query(f"*_{name}"))
    here = config.invocation_params.dir
    return newest.relative_to(here) if newest.is_relative_to(here) else newest
