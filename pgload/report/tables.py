"""Plain text tables for a terminal, after a run and in a comparison.

In ASCII only, so that they also pass through a log or a pipe that is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pgload.contract import PARTS, Setting
from pgload.report.decision import Against, Best, Decision
from pgload.report.measurement import DatasetSize, Measurement, pool
from pgload.report.stats import FASTER, NOISY, SLOWER, Verdict

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
    by_dataset: dict[DatasetSize, list[Measurement]] = {}
    for each in sorted(pool(measurements), key=lambda each: (each.setting, each.cloud)):
        by_dataset.setdefault(each.dataset, []).append(each)
    return "\n\n".join(_run_table(dataset, rows) for dataset, rows in sorted(by_dataset.items()))


def _run_table(dataset: DatasetSize, measurements: Sequence[Measurement]) -> str:
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


def profile_table(measurements: Iterable[Measurement]) -> str:
    """Where the time of a record went, a row for each setting (and cloud), and what held it back.

    In microseconds; `write`, `commit` and `wait` are summed over the connections. What held a load
    back has its share of the connections' time beside it. No measurements give an empty string.
    """
    found = sorted(pool(measurements), key=lambda each: (each.dataset, each.setting, each.cloud))
    parts = [part for part in PARTS if any(each.profile.get(part) for each in found)]
    several = len({each.cloud for each in found}) > 1
    header = ["method", "batch", "conn.", *(f"{part} us" for part in parts), "held back by"]
    rows = [
        [
            *([each.cloud] if several else []),
            each.setting.method,
            f"{each.setting.batch_size:,}",
            f"{each.setting.connections:,}",
            *(f"{each.profile.get(part, 0) / each.dataset.records * 1e6:,.1f}" for part in parts),
            _held_back(each),
        ]
        for each in found
    ]
    if several:
        header.insert(0, "cloud")
    return "\n".join(_align(header, rows, 2 if several else 1)) if rows else ""


def _held_back(each: Measurement) -> str:
    if each.bottleneck is None:
        return NOT_MEASURED
    return f"{each.bottleneck} {each.bottleneck_shares.get(each.bottleneck, 0):.0%}"


def compare_tables(decision: Decision) -> str:
    """A table for each side beside the baseline, a row for each setting that one of them measured.

    Throughput in records/s, the median of all rounds; the ratio, above 1 faster than the baseline,
    with its 95% interval, and the verdict. Of many sides only the fastest. With
    one side only: what it measured.
    """
    baseline, dataset = decision.baseline, decision.dataset
    if not decision.others:
        header = ["method", "batch", "conn.", baseline]
        rows = [
            [*_setting(setting), _rate(decision.sides[baseline].get(setting))]
            for setting in decision.settings
        ]
        title = f"records/s, median of the rounds; {dataset}"
        return "\n".join([title, *_align(header, rows, text_columns=1)])
    shown = [other for other in decision.others if other.side in decision.shown]
    tables = [_against_table(decision, other) for other in shown]
    if len(shown) < len(decision.others):
        tables.append(f"and {len(decision.others) - len(shown)} slower sides, in the CSV and JSON")
    return "\n\n".join(tables)


def _against_table(decision: Decision, other: Against) -> str:
    baseline, dataset = decision.baseline, decision.dataset
    header = ["method", "batch", "conn.", baseline, other.side, "ratio", "95%", "verdict"]
    base, ours = decision.sides[baseline], decision.sides[other.side]
    rows = []
    for setting in sorted(base.keys() | ours.keys()):
        verdict = other.by_setting.get(setting)
        rows.append(
            [
                *_setting(setting),
                _rate(base.get(setting)),
                _rate(ours.get(setting)),
                f"{verdict.ratio:.2f}" if verdict else NOT_MEASURED,
                _interval(verdict),
                verdict.word if verdict else NOT_MEASURED,
            ]
        )
    return "\n".join(
        [
            f"records/s, median of the rounds; ratio and verdict: {other.side} beside {baseline}; "
            f"{dataset}",
            *(f"  not the sides alone, {caveat}" for caveat in other.caveats),
            *_align(header, rows, text_columns=1, text_last=True),
        ]
    )


def _setting(setting: Setting) -> list[str]:
    return [setting.method, f"{setting.batch_size:,}", f"{setting.connections:,}"]


def _rate(each: Measurement | None) -> str:
    return f"{each.throughput:,.0f}" if each else NOT_MEASURED


def _interval(verdict: Verdict | None) -> str:
    if verdict is None or verdict.low is None or verdict.high is None:
        return NOT_MEASURED
    return f"{verdict.low:.2f}-{verdict.high:.2f}"


def decision_lines(decision: Decision) -> list[str]:
    """The decision in a few lines: the fastest, how sure, the best of each side, the cheapest."""
    best = decision.best[decision.fastest].measurement
    lines = [f"fastest: {decision.fastest}, {best.setting}: {best.throughput:,.0f} records/s"]
    if decision.lead:
        lines.append(
            f"  beside {decision.ranking[1]} at its best: {_words(decision.lead)}"
            + "".join(f"; but {each}" for each in decision.lead_caveats)
        )
    for name in decision.shown:
        lines += _best(name, decision.best[name])
    for other in (each for each in decision.others if each.side in decision.shown):
        counts = ", ".join(f"{count} {word}" for word, count in other.counts.most_common())
        lines.append(f"{other.side} beside {decision.baseline}: {counts or 'no common setting'}")
        lines += [f"  but {each}" for each in other.caveats]
    if decision.single_pass:
        lines.append(
            "measured in a single pass, where a slow minute looks like a slow server: "
            "`pytest benchmarks --passes 5` tells them apart"
        )
    if cheapest := decision.cheapest:
        lines.append(f"cheapest: {cheapest}, {decision.best[cheapest].cost} per million records")
    return lines


def _words(verdict: Verdict) -> str:
    return f"{verdict:ascii} times as fast; {verdict.word}"


def _best(name: str, best: Best) -> list[str]:
    each = best.measurement
    lines = [f"best of {name}: {each.setting}: {each.throughput:,.0f} records/s"]
    if best.near:
        near = "; ".join(f"{setting} ({verdict.ratio:.2f})" for setting, verdict in best.near[:3])
        lines.append(f"  not shown to be slower: {near}")
    if each.unstable:
        lines.append(f"  unstable: {_ascii(each.unstable)}")
    if each.bottleneck:
        lines.append(f"  held back by: {each.bottleneck}; {_ascii(each.advice or '')}".rstrip("; "))
    return lines


def _ascii(text: str) -> str:
    """Sentences from a file may hold any character; a log or a pipe may not."""
    return text.encode("ascii", "replace").decode()


def _align(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: int,
    *,
    text_last: bool = False,
) -> list[str]:
    """Lines of equal columns: the first ones are text and stand left, numbers stand right."""
    last = len(header) - 1 if text_last else None
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in (header, ["-" * width for width in widths], *rows):
        aligned = [
            cell.ljust(width) if index < text_columns or index == last else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return lines


MARKS = {FASTER: "🟢", SLOWER: "🔴", NOISY: "🟡"}
ROWS = 60  # of a table that fits into a pull request; the changed ones first


def to_markdown(decisions: Sequence[Decision]) -> str:
    """For a pull request: the decision, and tables with what changed first."""
    return "\n".join(line for decision in decisions for line in _markdown(decision)) + "\n"


def _markdown(decision: Decision) -> Iterator[str]:
    best = decision.best[decision.fastest].measurement
    yield f"### {decision.dataset}"
    yield ""
    yield (
        f"Fastest: **{_escaped(decision.fastest)}** with {best.setting}: "
        f"**{best.throughput:,.0f} records/s**."
    )
    if decision.lead:
        yield (
            f"{decision.lead} times {_escaped(decision.ranking[1])} at its best: "
            f"**{decision.lead.word}**."
        )
    if cheapest := decision.cheapest:
        cost = decision.best[cheapest].cost
        yield f"Cheapest: **{_escaped(cheapest)}**, {cost}, per million records."
    yield ""
    shown = [other for other in decision.others if other.side in decision.shown]
    for other in shown:
        yield from _markdown_table(decision, other)
    if len(shown) < len(decision.others):
        yield f"… and {len(decision.others) - len(shown)} slower sides, in compare.csv."


def _markdown_table(decision: Decision, other: Against) -> Iterator[str]:
    for caveat in other.caveats:
        yield f"> ⚠️ {_escaped(str(caveat))}"
    yield ""
    base, ours = decision.sides[decision.baseline], decision.sides[other.side]
    yield (
        f"| setting | {_escaped(decision.baseline)}, records/s | {_escaped(other.side)}, records/s "
        "| ratio (95%) | verdict |"
    )
    yield "|---|---:|---:|---:|---|"
    order = (SLOWER, FASTER)
    changed_first = sorted(
        other.by_setting.items(),
        key=lambda item: order.index(item[1].word) if item[1].word in order else len(order),
    )
    for setting, verdict in changed_first[:ROWS]:
        yield (
            f"| {setting} | {base[setting].throughput:,.0f} | {ours[setting].throughput:,.0f} "
            f"| {verdict} | {MARKS.get(verdict.word, '⚪')} {verdict.word} |"
        )
    if len(changed_first) > ROWS:
        yield ""
        yield f"… and {len(changed_first) - ROWS} more settings, in compare.csv."
    yield ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
