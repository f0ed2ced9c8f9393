"""How long a load will take, and what it will cost, by the newest saved run of its cloud."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pgload.contract import STORAGE, Setting, duration
from pgload.errors import SourceError
from pgload.report.measurement import Measurement
from pgload.report.saved import SavedRun, read_runs

SAME_SIZE = 1.1  # records whose sizes differ by less than this factor load at the same speed


def forecast(
    cloud: str,
    setting: Setting,
    records: int,
    size: int,
    price_per_hour: float | None = None,
    storage: Path = STORAGE,
) -> Iterator[str]:
    """Lines on how long so many records, of `size` bytes in all, take on a cloud.

    By the newest run that measured the setting, else by the nearest setting of the newest run.
    Where records have another size than those of the run, bytes per second count. The price is in
    US dollars, and that of the run if it is not given.
    """
    found = _measured(cloud, setting, size / records, storage)
    if found is None:
        yield f"how long it takes is not known: no saved run of {cloud}; measure it with"
        yield (
            f"  pytest benchmarks --cloud {cloud} --method {setting.method} "
            f"--batch-size {setting.batch_size} --connections {setting.connections}"
        )
        return
    run, measured = found
    of_ours, of_run = size / records, measured.dataset.bytes / measured.dataset.records
    by_bytes = not 1 / SAME_SIZE < of_ours / of_run < SAME_SIZE
    seconds = records / measured.throughput * (of_ours / of_run if by_bytes else 1)
    number = re.match(r"\d+", run.path.name)
    price = price_per_hour or run.server.get("price_per_hour")
    yield (
        f"the load takes about {duration(max(seconds, 1))}{_cost(price, seconds)} by run "
        f"{number[0] if number else run.path.name} of {run.saved.astimezone():%Y-%m-%d}:"
    )
    nearest = "" if measured.setting == setting else ", the nearest to what is asked for"
    yield (
        f"  {measured.setting.short}, {measured.throughput:,.0f} records/s of "
        f"{_kilobytes(of_run)}{nearest}"
    )
    if by_bytes:
        yield f"  scaled by bytes, as a record has {_kilobytes(of_ours)} here"


def _measured(
    cloud: str, setting: Setting, record_size: float, storage: Path
) -> tuple[SavedRun, Measurement] | None:
    """The run and the measurement to go by; None where there is none."""
    runs = sorted(_runs(cloud, storage), key=lambda run: (run.saved, run.path), reverse=True)
    if not runs:
        return None
    exact = (r for r in runs if any(each.setting == setting for each in r.measurements))
    run = next(exact, runs[0])

    def distance(each: Measurement) -> tuple[bool, float, float, float]:
        size = abs(math.log(each.dataset.bytes / each.dataset.records / record_size))
        return *_distance(each.setting, setting), size, each.throughput  # rather too slow

    return run, min(run.measurements, key=distance).fresh


def _runs(cloud: str, storage: Path) -> Iterable[SavedRun]:
    for path in (*storage.glob("*.json"), *storage.glob("*/*.json")):
        try:
            found = read_runs(path)
        except SourceError:
            continue
        yield from (run for run in found if run.cloud == cloud and run.measurements)


def _distance(one: Setting, other: Setting) -> tuple[bool, float]:
    """How different two settings are: another method most, then the factors between numbers."""
    return one.method != other.method, sum(
        abs(math.log(a / b))
        for a, b in ((one.connections, other.connections), (one.batch_size, other.batch_size))
    )


def _cost(price_per_hour: object, seconds: float) -> str:
    if not isinstance(price_per_hour, int | float) or price_per_hour <= 0:
        return ""
    dollars = price_per_hour * seconds / 3600
    return f" and ${dollars:,.2f}" if dollars >= 0.01 else " and less than $0.01"


def _kilobytes(size: float) -> str:
    return f"{size / 1000:,.1f} KB"
