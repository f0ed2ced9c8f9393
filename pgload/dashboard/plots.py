"""What is drawn of a migration: the summary of its batches → plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pgload.report.i18n import Words
from pgload.report.plots import BARS, SCATTER, STACKED, Plot, Point
from pgload.report.watch import text
from pgload.report.watch_batches import Summary, Total

PARTS = ("encode", "write", "commit")
LONG = 24  # characters of a name
MOST = 12  # tables and workers in one chart: the ones with most records


def plots(summary: Summary, words: Words) -> list[Plot]:
    """The charts of a run; none without a batch."""
    if not summary.whole.batches:
        return []
    rate = "{:,.0f} " + words("records_per_second")
    size = words("batches_shown", n=f"{summary.whole.batches:,}")
    found = []
    if summary.throughput:
        found.append(
            Plot(
                "throughput_over_run",
                BARS,
                words("throughput_over_run"),
                words("batches_all", n=f"{summary.whole.batches:,}"),
                words("axis_seconds"),
                words("axis_throughput"),
                rate,
                {words("all_tables"): dict(_stretches(summary))},
                by_side=False,
            )
        )
    dots: dict[str, dict[float, Point]] = {}
    largest = _largest(summary.tables)
    for at, batch in summary.outline:
        if text(batch.table_name) in largest:
            point = Point(batch.total_duration_seconds * 1000, note=f"#{batch.batch_number}")
            dots.setdefault(_short(text(batch.table_name)), {})[at] = point
    found.append(
        Plot(
            "batches_over_run",
            SCATTER,
            words("batches_over_load"),
            size,
            words("axis_seconds"),
            words("axis_batch_ms"),
            "{:,.1f} ms",
            dots,
            by_side=False,
        )
    )
    found.append(
        Plot(
            "by_worker",
            BARS,
            words("by_worker"),
            words("by_worker_note"),
            words("connection"),
            words("axis_throughput"),
            rate,
            {
                words("records_per_second"): {
                    name: Point(total.records / total.seconds if total.seconds else 0.0)
                    for name, total in _largest(summary.workers).items()
                }
            },
            by_side=False,
        )
    )
    shares = {name: each for name, each in largest.items() if _spent(each)}
    if shares:
        found.append(
            Plot(
                "time_by_part",
                STACKED,
                words("time_by_part"),
                words("batches_all", n=f"{summary.whole.batches:,}"),
                words("table"),
                words("axis_share"),
                "{:,.0f} %",
                {
                    words(part): {
                        _short(name): Point(100 * getattr(total, part) / _spent(total))
                        for name, total in shares.items()
                    }
                    for part in PARTS
                },
                by_side=False,
            )
        )
    return found


def _stretches(summary: Summary) -> Iterator[tuple[str, Point]]:
    length = summary.throughput[-1][1]
    digits = 0 if length >= 40 else 1 if length >= 2 else 2  # as many as tell stretches apart
    for begin, end, rate in summary.throughput:
        yield f"{begin:,.{digits}f}", Point(rate, note=f"–{end:,.{digits}f}")


def _largest(totals: Mapping[str, Total] | Mapping[int, Total]) -> dict[str, Total]:
    """In the order in which they come."""
    named = {text(name): total for name, total in totals.items()}
    kept = sorted(named, key=lambda name: -named[name].records)[:MOST]
    return {name: total for name, total in named.items() if name in kept}


def _short(name: str) -> str:
    """A name that a chart has room for."""
    return name if len(name) <= LONG else f"{name[: LONG // 2]}…{name[-LONG // 2 :]}"


def _spent(total: Total) -> float:
    return total.encode + total.write + total.commit
