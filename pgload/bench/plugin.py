"""The pytest plugin, loaded by the root `conftest.py` or by its entry point.

It adds the options where the ini file names folders of benchmarks, so that other projects may have
options of the same names. The hooks and fixtures are registered only in a run of benchmarks, so any
other run with this plugin installed is left alone. Its entry point has to be named like this
module: pytest then sees that the conftest means the same plugin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgload.bench.options import add_options, checked_options
from pgload.errors import PgloadError


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.addini(
        "pgload_benchmarks",
        "folders of pgload's benchmarks, relative to this file: its options are for runs of these",
        type="paths",
        default=[],
    )
    config: Any = pluginmanager.get_plugin("pytestconfig")  # it has read the ini file
    if config.getini("pgload_benchmarks"):
        add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "sweep(method=(…), batch_size=(…), connections=(…)): the settings that a benchmark "
        "measures, in every combination; the defaults are values, 1000 and 1",
    )
    config.addinivalue_line(
        "markers", "settings(*settings): (method, batch size, connections) one by one"
    )
    if _runs_benchmarks(config):
        _configure_run(config)
    elif asked := getattr(config.option, "cloud", None):
        clouds = ",".join(asked)
        raise pytest.UsageError(
            f"--cloud is for benchmarks: did you mean pytest benchmarks --cloud {clouds}? "
            "(the ini option pgload_benchmarks names their folder)"
        )


def _runs_benchmarks(config: pytest.Config) -> bool:
    """Whether a folder of benchmarks, or something in it, is among what pytest was asked to run."""
    here = config.invocation_params.dir
    asked = [(here / arg.partition("::")[0]).resolve() for arg in config.args]
    folders: list[Path] = config.getini("pgload_benchmarks")
    return any(
        path.is_relative_to(folder) or folder.is_relative_to(path)
        for folder in map(Path.resolve, folders)
        for path in asked
    )


def _configure_run(config: pytest.Config) -> None:
    # Imported here: a run of anything else does not need them.
    from pgload.bench.console import BenchConsole
    from pgload.bench.hooks import BenchHooks
    from pgload.bench.session import SESSION, BenchSession

    option = config.option
    if getattr(option, "numprocesses", None):
        raise pytest.UsageError(
            "benchmarks measure nothing under -n: run them without it (-n is for tests/)"
        )
    try:
        options = checked_options(config)
    except PgloadError as error:
        raise pytest.UsageError(str(error)) from None
    if not (option.benchmark_save or option.benchmark_autosave):
        option.benchmark_save = "+".join(options.clouds)
    option.benchmark_save_data = True
    # Our table replaces theirs, which shows seconds; --benchmark-verbose brings it back.
    option.benchmark_quiet = not option.benchmark_verbose
    if option.benchmark_json:
        option.benchmark_json.parent.mkdir(parents=True, exist_ok=True)
    session = config.stash[SESSION] = BenchSession(options, BenchConsole(config))
    config.pluginmanager.import_plugin("pgload.bench.fixtures")  # its assertions are rewritten
    config.pluginmanager.register(BenchHooks(config, session), "pgload-hooks")
