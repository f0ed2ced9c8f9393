"""The charts of a migration, from the summary of its batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from pgload.contract import PARTS
from pgload.report.i18n import Words
from pgload.report.migration_batches import BatchSummary, Total
from pgload.report.plots import BARS, SCATTER, STACKED, Plot, Point

BATCH_PARTS = PARTS[:3]  # encode, write, commit: the others are not in the time of a batch
LABEL_WIDTH = 72  # characters under a chart, for the labels of all bars
LABEL_LENGTHS = (8, 20)  # characters of one label, at least and at most
LARGEST = 12  # tables or workers in a chart: those with most records


def plots(batches: BatchSummary, words: Words) -> list[Plot]:
    """The charts of a run; none without a batch."""
    if not batches.whole.batches:
        return []
    found = []
    if batches.throughput:
        found.append(_throughput(batches, words))
    found += [_batches(batches, words), _workers(batches, words)]
    if batches.whole.in_parts:
        found.append(_parts(batches, words))
    return found


def _throughput(batches: BatchSummary, words: Words) -> Plot:
    return Plot(
        name="throughput_over_run",
        kind=BARS,
        title=words("throughput_over_run"),
        subtitle=words("batches_all", n=f"{batches.whole.batches:,}"),
        x_title=words("axis_seconds"),
        y_title=words("axis_throughput"),
        unit=_rate(words),
        series={words("all_tables"): dict(_intervals(batches))},
        by_side=False,
    )


def _batches(batches: BatchSummary, words: Words) -> Plot:
    dots: dict[str, dict[float, Point]] = {}
    labels = _labels(_largest(batches.tables))
    for end, batch in batches.drawn:
        if (label := labels.get(batch.table_name)) is not None:
            point = Point(batch.total_duration_seconds * 1000, note=f"#{batch.batch_number}")
            dots.setdefault(label, {})[end] = point
    return Plot(
        name="batches_over_run",
        kind=SCATTER,
        title=words("batches_over_load"),
        subtitle=words("batches_shown", n=f"{batches.whole.batches:,}"),
        x_title=words("axis_seconds"),
        y_title=words("axis_batch_ms"),
        unit="{:,.1f} ms",
        series=dots,
        by_side=False,
    )


def _workers(batches: BatchSummary, words: Words) -> Plot:
    workers = _largest({str(worker): total for worker, total in batches.workers.items()})
    rates = {
        worker: Point(total.records / total.seconds if total.seconds else 0.0)
        for worker, total in workers.items()
    }
    return Plot(
        name="by_worker",
        kind=BARS,
        title=words("by_worker"),
        subtitle=words("by_worker_note"),
        x_title=words("connection"),
        y_title=words("axis_throughput"),
        unit=_rate(words),
        series={words("records_per_second"): rates},
        by_side=False,
    )


def _parts(batches: BatchSummary, words: Words) -> Plot:
    tables = {name: each for name, each in _largest(batches.tables).items() if each.in_parts}
    labels = _labels(tables)
    return Plot(
        name="time_by_part",
        kind=STACKED,
        title=words("time_by_part"),
        subtitle=words("batches_all", n=f"{batches.whole.batches:,}"),
        x_title=words("table"),
        y_title=words("axis_share"),
        unit="{:,.0f} %",
        series={
            words(part): {
                labels[name]: Point(100 * getattr(total, part) / total.in_parts)
                for name, total in tables.items()
            }
            for part in BATCH_PARTS
        },
        by_side=False,
    )


def _rate(words: Words) -> str:
    return "{:,.0f} " + words("records_per_second")


def _intervals(batches: BatchSummary) -> Iterator[tuple[str, Point]]:
    length = batches.throughput[-1][1]
    digits = 0 if length >= 40 else 1 if length >= 2 else 2  # enough for different labels
    for begin, end, rate in batches.throughput:
        yield f"{begin:,.{digits}f}", Point(rate, note=f"–{end:,.{digits}f}")


def _largest(totals: Mapping[str, Total]) -> dict[str, Total]:
    """Those with most records, in the order of `totals`."""
    kept = sorted(totals, key=lambda name: -totals[name].records)[:LARGEST]
    return {name: total for name, total in totals.items() if name in kept}


def _labels(names: Collection[str]) -> dict[str, str]:
    """A label for each name: the end of a long one, or the whole name if that is not unique."""
    least, most = LABEL_LENGTHS
    length = min(max(LABEL_WIDTH // max(len(names), 1), least), most)
    short = {name: name if len(name) <= length else f"…{name[1 - length :]}" for name in names}
    uses = Counter(short.values())
    return {name: label if uses[label] == 1 else name for name, label in short.items()}
