"""Plain text tables for a terminal, after a run and in a comparison.

In ASCII only, so that they also pass through a log or a pipe that is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgload.report.measurement import Dataset, Measurement, pool
from pgload.report.pairing import Sides

NOT_MEASURED = "-"


def run_table(measurements: Iterable[Measurement]) -> str:
    """What one run measured: a row for each setting (and cloud, where there are several).

    Narrow enough for a terminal of 80 columns while there is one cloud. `batch` is the batch size,
    `conn.` the connections. Throughput in records/s, as the median and the range over the rounds;
    percentiles of a batch's latency in ms; client CPU as a share of the load's duration in %,
    where 100 is one core kept busy.
    A setting that ran under several tests is one row; different datasets stand in tables of
    their own. No measurements give an empty string.
    """
    by_dataset: dict[Dataset, list[Measurement]] = {}
    for each in sorted(pool(measurements), key=lambda each: (each.setting, each.cloud)):
        by_dataset.setdefault(each.dataset, []).append(each)
    return "\n\n".join(_run_table(dataset, rows) for dataset, rows in sorted(by_dataset.items()))


def _run_table(dataset: Dataset, measurements: Sequence[Measurement]) -> str:
    clouds = sorted({each.cloud for each in measurements})
    several = len(clouds) > 1
    header = ["method", "batch", "conn.", "records/s", "min-max"]
    header += ["p50 ms", "p95 ms", "p99 ms", "CPU %"]
    rows = [
        [
            *([each.cloud] if several else []),
            each.setting.method,
            f"{each.setting.batch_size:,}",
            f"{each.setting.connections:,}",
            f"{each.throughput:,.0f}",
            f"{each.throughput_min:,.0f}-{each.throughput_max:,.0f}",
            *(f"{s * 1000:,.1f}" for s in (each.latency.p50, each.latency.p95, each.latency.p99)),
            f"{each.cpu_share:.0%}".rstrip("%"),
        ]
        for each in measurements
    ]
    if several:
        header.insert(0, "cloud")
    return "\n".join(
        [f"{', '.join(clouds)}: {dataset}", *_align(header, rows, 2 if several else 1)]
    )


def compare_table(dataset: Dataset, sides: Sides) -> str:
    """The sides next to each other: a row for each setting, then the best setting of each side.

    Throughput in records/s, the median of all rounds. Beside every side but the first, the
    baseline, stands its ratio to the baseline: above 1 it is faster.
    """
    baseline, *others = sides
    header = ["method", "batch", "conn.", baseline]
    for name in others:
        header += [name, "ratio"]
    and_ratio = f", and ratio to {baseline}" if others else ""
    rows = []
    for setting in sorted({setting for measured in sides.values() for setting in measured}):
        row = [setting.method, f"{setting.batch_size:,}", f"{setting.connections:,}"]
        base = sides[baseline].get(setting)
        for name, measured in sides.items():
            each = measured.get(setting)
            row.append(f"{each.throughput:,.0f}" if each else NOT_MEASURED)
            if name != baseline:
                row.append(_ratio(each, base))
        rows.append(row)
    return "\n".join(
        [
            f"records/s, median of the rounds{and_ratio}; {dataset}",
            *_align(header, rows, text_columns=1),
            "",
            *(_best(name, measured.values()) for name, measured in sides.items()),
        ]
    )


def _ratio(each: Measurement | None, base: Measurement | None) -> str:
    if each is None or base is None:
        return NOT_MEASURED
    return f"{each.throughput / base.throughput:.2f}"


def _best(name: str, measurements: Iterable[Measurement]) -> str:
    best = max(measurements, key=lambda each: each.throughput)
    return f"best of {name}: {best.setting}: {best.throughput:,.0f} records/s"


def _align(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> list[str]:
    """Lines of equal columns: the first ones are text and stand left, numbers stand right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in (header, ["-" * width for width in widths], *rows):
        aligned = [
            cell.ljust(width) if index < text_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return lines
