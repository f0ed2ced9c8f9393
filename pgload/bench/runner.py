"""Measures the settings of a run one after the other, and reports each one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from pgload.bench.dataset import Dataset
from pgload.bench.measure import Pass, extra_info, measure
from pgload.bench.session import BenchSession
from pgload.bench.target import BenchTarget
from pgload.contract import Setting
from pgload.errors import PgloadError, TargetError, TooManyConnectionsError, UsageError


class _Entry(msgspec.Struct):
    test: str
    measured: Pass


class Journal:
    """A file of JSON Lines that an interrupted run is resumed from.

    Its first line describes the run; each further one is a pass of a setting, written as soon as it
    is measured. `resume` reads what an earlier run has written; it raises `UsageError` when there
    is no such run, or when it differs from this one. An incomplete last line is ignored.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self.passes: dict[tuple[str, int], Pass] = {}  # measured before, by test and pass number
        header = msgspec.json.encode(run)
        if resume:
            self._read(header)
        else:
            path.write_bytes(header + b"\n")

    def add(self, test: str, measured: Pass) -> None:
        """Append a pass of a test."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(_Entry(test, measured)) + b"\n")

    def remove(self) -> None:
        """Delete the file, once the run is complete and saved."""
        self._path.unlink(missing_ok=True)

    def _read(self, header: bytes) -> None:
        try:
            first, *lines = self._path.read_bytes().splitlines(keepends=True)
            before = msgspec.json.decode(first)
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            raise UsageError(
                f"--resume: there is no interrupted run of {self._path.stem.partition('_')[2]} "
                "here; omit --resume"
            ) from None
        now = msgspec.json.decode(header)
        for name in now:
            if before.get(name) != now[name]:
                raise UsageError(
                    f"--resume: the interrupted run had {name} {before.get(name)}, not "
                    f"{now[name]}: use the same, or omit --resume"
                )
        complete = [line for line in lines if line.endswith(b"\n")]
        try:
            entries = [msgspec.json.decode(line, type=_Entry) for line in complete]
        except msgspec.DecodeError as error:
            raise UsageError(
                f"--resume: {self._path} cannot be read ({error}); omit --resume"
            ) from None
        self._path.write_bytes(first + b"".join(complete))
        self.passes = {(each.test, each.measured.number): each.measured for each in entries}


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
        run if the connection to the cloud is lost, except under --keep-going.
        """
        probe = self._session.probes[cloud]
        name = self._name(cloud, setting, pass_number)
        try:
            if not self._resume(benchmark, name, test, pass_number, cloud):
                self._measure(benchmark, name, test, pass_number, cloud, setting)
        finally:
            probe.done += 1
            available = cloud not in self._session.unavailable
            if probe.end_is_due and available and not benchmark.disabled:
                with suppress(PgloadError):  # a lost server is reported by its settings
                    self._session.interrupts.interruptible(
                        partial(probe.measure_end, self._targets[cloud], self._dataset)
                    )

    def _name(self, cloud: str, setting: Setting, pass_number: int) -> str:
        name = f"{setting.method:<11} {setting.batch_size:>5} × {setting.connections:<2}"
        if len(self._options.clouds) > 1:
            name = f"{cloud:<9} {name}"
        if self._options.passes > 1:
            name = f"{pass_number}/{self._options.passes} {name}"
        return name

    def _resume(self, benchmark: Any, name: str, test: str, pass_number: int, cloud: str) -> bool:
        """Take the pass from the journal of the run that is resumed, if it is there."""
        journal = self._session.journal
        before = journal.passes.get((test, pass_number)) if journal else None
        if before is None:
            return False
        stats = benchmark._make_stats(1)
        for seconds in before.seconds:
            stats.update(seconds)
        self._add(benchmark, test, before, cloud)
        self._console.result(name, benchmark, note="measured before")
        return True

    def _measure(
        self, benchmark: Any, name: str, test: str, pass_number: int, cloud: str, setting: Setting
    ) -> None:
        reason = self._session.unavailable.get(cloud) or self._reason_against(setting)
        if reason:
            self._skip(name, cloud, setting, reason)
        target = self._targets[cloud]
        effort = self._options.effort
        loads = effort.warmup_rounds + effort.rounds

        def work() -> Pass | None:
            if not benchmark.disabled:
                self._session.probes[cloud].before_setting(target, self._dataset)
            return measure(
                benchmark,
                target,
                self._dataset,
                setting,
                effort,
                pass_number=pass_number,
                on_round=lambda load: self._console.status(f"{name}   load {load} of {loads}"),
            )

        try:
            measured = self._session.interrupts.interruptible(work)
        except PgloadError as error:
            if target.connection.closed:
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
            self._add(benchmark, test, measured, cloud)
            if self._session.journal:
                self._session.journal.add(test, measured)
            unstable = benchmark.extra_info["unstable"]
            note = f"; unstable: {unstable}" if unstable and len(measured.seconds) > 1 else ""
            self._console.result(name, benchmark, note=f"rows verified{note}")

    def _reason_against(self, setting: Setting) -> str | None:
        limit, now = self._options.max_time, time.monotonic()
        self._begin = self._begin or now
        if limit is not None and now - self._begin > limit:
            return f"the {limit:g} s of --max-time are over; --resume measures the rest"
        return too_few_records(self._dataset, setting)

    def _add(self, benchmark: Any, test: str, measured: Pass, cloud: str) -> None:
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
        self._session.not_measured.append({"cloud": cloud, **asdict(setting), "reason": reason})
        self._console.line(f"{name:<25} not measured: {reason}")
        pytest.skip(reason)


def too_few_records(dataset: Dataset, setting: Setting) -> str | None:
    """Why the dataset is too small to measure the setting, and the size that it needs, or None."""
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
