"""Measures the settings of a run one after the other, and says what became of each."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self, TypeVar

import msgspec
import pytest

from pgload.bench.console import Lines
from pgload.bench.dataset import Dataset
from pgload.bench.drift import DriftProbe
from pgload.bench.measure import Pass, extra_info, measure
from pgload.bench.options import OPTIONS
from pgload.bench.target import BenchTarget
from pgload.contract import Setting
from pgload.errors import PgloadError, TargetError, TooManyConnectionsError, UsageError

INTERRUPTED = 2  # pytest's exit code
Result = TypeVar("Result")


class Interrupts:
    """Takes SIGINT while it is entered. A second one, while the first is waiting, acts at once."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._at_once = False

    def __enter__(self) -> Self:
        self._before: Any = signal.signal(signal.SIGINT, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self._session.shouldstop:
            signal.default_int_handler(number, frame)
        self._session.shouldstop = "Ctrl-C"

    def allow(self, work: Callable[[], Result]) -> Result:
        """Do work that an interrupt may end at any moment; the run then ends in good order."""
        try:
            try:
                self._at_once = True
                if self._session.shouldstop:
                    raise KeyboardInterrupt
                return work()
            finally:
                self._at_once = False
        except KeyboardInterrupt:
            # From here, because pytest cannot show every place that a signal can hit.
            raise pytest.exit.Exception("Ctrl-C", INTERRUPTED) from None


INTERRUPTS = pytest.StashKey[Interrupts]()


class _Entry(msgspec.Struct):
    test: str
    measured: Pass


class Journal:
    """JSON Lines: first what the run is, then each pass of each setting as it is measured.

    With `resume` what an earlier run has written is read first; raises `UsageError` when there is
    none, or when it was a run of something else. A line that was cut off counts as not there.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self.kept: dict[tuple[str, int], Pass] = {}  # by test and number of the pass
        header = msgspec.json.encode(run)
        if resume:
            self._read(header)
        else:
            path.write_bytes(header + b"\n")

    def add(self, test: str, measured: Pass) -> None:
        """Keep a pass of a test."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(_Entry(test, measured)) + b"\n")

    def remove(self) -> None:
        """The run is complete, and saved elsewhere."""
        self._path.unlink(missing_ok=True)

    def _read(self, header: bytes) -> None:
        try:
            first, *lines = self._path.read_bytes().splitlines(keepends=True)
            before = msgspec.json.decode(first)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            raise UsageError(
                f"--resume: there is no interrupted run of {self._path.stem.partition('_')[2]} "
                "here; leave it away"
            ) from None
        now = msgspec.json.decode(header)
        for name in now:
            if before.get(name) != now[name]:
                raise UsageError(
                    f"--resume: the interrupted run had {name} {before.get(name)}, not "
                    f"{now[name]}: ask for the same, or leave --resume away"
                )
        whole = [line for line in lines if line.endswith(b"\n")]
        self._path.write_bytes(first + b"".join(whole))
        for line in whole:
            entry = msgspec.json.decode(line, type=_Entry)
            self.kept[entry.test, entry.measured.number] = entry.measured


NOT_MEASURED = pytest.StashKey[list[dict[str, Any]]]()  # settings, and why
MEASURED = pytest.StashKey[dict[str, list[Pass]]]()  # by test
DRIFT_PROBES = pytest.StashKey[dict[str, DriftProbe]]()  # by cloud
SERVERS = pytest.StashKey[dict[str, Any]]()  # cloud → what is known of its server
JOURNAL = pytest.StashKey[Journal]()


def pass_id(number: int) -> str:
    """What the ids of a pass's tests end in."""
    return f"pass{number}"


def end_the_run(say: Lines, error: PgloadError) -> NoReturn:
    """Say what is wrong, and end."""
    say.line(f"pgload: {error}")
    pytest.exit("stopped", returncode=2)


class Runner:
    """What all settings of a run share."""

    def __init__(
        self,
        config: pytest.Config,
        sites: dict[str, BenchTarget | str],
        dataset: Dataset,
        journal: Journal | None,
    ) -> None:
        self._options = config.stash[OPTIONS]
        self._interrupts = config.stash[INTERRUPTS]
        self._probes = config.stash[DRIFT_PROBES]
        self._unmeasured = config.stash.setdefault(NOT_MEASURED, [])
        self._measured = config.stash.setdefault(MEASURED, {})
        self._say = Lines(config)
        self._sites = sites
        self._dataset = dataset
        self._journal = journal
        self._begin: float | None = None  # of the first setting

    def run(self, benchmark: Any, test: str, number: int, cloud: str, setting: Setting) -> None:
        """Measure one setting once, in the pass of that number; `test` is the same in all passes.

        Skips the test where the setting cannot be measured, fails it where it went wrong, and ends
        the run when its cloud is lost.
        """
        try:
            self._run(benchmark, test, number, cloud, setting)
        finally:
            self._probes[cloud].done += 1
            self._close_the_anchor(benchmark, cloud)

    def _run(self, benchmark: Any, test: str, number: int, cloud: str, setting: Setting) -> None:
        name = f"{setting.method:<11} {setting.batch_size:>5} × {setting.connections:<2}"
        if len(self._options.clouds) > 1:
            name = f"{cloud:<9} {name}"
        if self._options.passes > 1:
            name = f"{number}/{self._options.passes} {name}"
        kept = self._journal.kept.get((test, number)) if self._journal else None
        if kept is not None:
            make = benchmark._make_stats(1)
            for seconds in kept.seconds:
                make.update(seconds)
            self._keep(benchmark, test, kept, cloud)
            self._say.result(name, benchmark, note="measured before")
            return
        site = self._sites[cloud]
        reason = site if isinstance(site, str) else self._reason_against(setting)
        if reason or isinstance(site, str):
            self._not_measured(name, cloud, setting, str(reason))
        try:
            measured = self._interrupts.allow(
                partial(self._measure, benchmark, site, setting, number, name)
            )
        except PgloadError as error:
            self._failed(error, name, site, setting)
        if site.connection.closed:
            self._lost(TargetError(f"{cloud}: the connection was lost"), site)
        if measured is not None:
            self._keep(benchmark, test, measured, cloud)
            if self._journal:
                self._journal.add(test, measured)
            unstable = benchmark.extra_info["unstable"]
            note = f"; unstable: {unstable}" if unstable and len(measured.seconds) > 1 else ""
            self._say.result(name, benchmark, note=f"rows verified{note}")

    def _reason_against(self, setting: Setting) -> str | None:
        limit, now = self._options.max_time, time.monotonic()
        self._begin = self._begin or now
        if limit is not None and now - self._begin > limit:
            return f"the {limit:g} s of --max-time are over; --resume goes on"
        return too_small(self._dataset, setting)

    def _measure(
        self, benchmark: Any, site: BenchTarget, setting: Setting, number: int, name: str
    ) -> Pass | None:
        probe, effort = self._probes[site.target.cloud], self._options.effort
        loads = effort.warmup_rounds + effort.rounds
        if not benchmark.disabled:
            probe.before_setting(site, self._dataset)
        return measure(
            benchmark,
            site,
            self._dataset,
            setting,
            effort,
            number=number,
            on_round=lambda load: self._say.status(f"{name}   load {load} of {loads}"),
        )

    def _close_the_anchor(self, benchmark: Any, cloud: str) -> None:
        probe, site = self._probes[cloud], self._sites[cloud]
        if probe.is_due and not benchmark.disabled and isinstance(site, BenchTarget):
            with suppress(PgloadError):  # a server that is gone is told of by its settings
                self._interrupts.allow(partial(probe.at_the_end, site, self._dataset))

    def _keep(self, benchmark: Any, test: str, measured: Pass, cloud: str) -> None:
        self._measured.setdefault(test, []).append(measured)
        benchmark.extra_info.update(extra_info([measured]))
        site = self._sites[cloud]
        if not isinstance(site, str):
            benchmark.extra_info["rtt_asked_ms"] = site.target.facts.get("rtt_asked_ms")

    def _failed(
        self, error: PgloadError, name: str, site: BenchTarget, setting: Setting
    ) -> NoReturn:
        if site.connection.closed:
            self._lost(error, site)
        asked_for = "connections" in self._options.sweep
        if isinstance(error, TooManyConnectionsError) and not asked_for:
            self._not_measured(name, site.target.cloud, setting, str(error))
        self._say.line(f"{name:<25} failed: {error}")
        pytest.fail(str(error), pytrace=False)

    def _lost(self, error: PgloadError, site: BenchTarget) -> NoReturn:
        if not self._options.keep_going:
            end_the_run(self._say, error)
        self._sites[site.target.cloud] = str(error)  # for the settings to come
        self._say.line(f"failed: {error}")
        pytest.fail(str(error), pytrace=False)

    def _not_measured(self, name: str, cloud: str, setting: Setting, reason: str) -> NoReturn:
        self._unmeasured.append({"cloud": cloud, **asdict(setting), "reason": reason})
        self._say.line(f"{name:<25} not measured: {reason}")
        pytest.skip(reason)


def too_small(dataset: Dataset, setting: Setting) -> str | None:
    """Why the dataset cannot show what the setting is worth, if it cannot."""
    longest = max(map(len, dataset.files.values()))
    batches = sum(1 for _ in dataset.batches(setting.batch_size))
    if longest < setting.batch_size:
        needed, short = setting.batch_size, f"no file fills a batch of {setting.batch_size}"
    elif batches < setting.connections:
        needed = (setting.connections - 1) * setting.batch_size + 1
        short = f"too few batches ({batches}) for {setting.connections} connections"
    else:
        return None
    return f"{short}; needs {needed:,} records in one file (--records {needed})"
