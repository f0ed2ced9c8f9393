"""Tables as text: for a terminal after a run and in a comparison, and Markdown for a pull request.

What goes to a terminal is ASCII only, so that it passes through logs and pipes that are not UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from pgload.contract import PARTS, Setting
from pgload.report.decision import Against, Best, Decision
from pgload.report.i18n import Words
from pgload.report.measurement import DatasetSize, Measurement, pool
from pgload.report.stats import FASTER, NOISY, SLOWER, Verdict

NOT_MEASURED = "-"
SETTING = ("method", "batch", "conn.")  # the head of the columns of `_setting`
MARKS = {FASTER: "🟢", SLOWER: "🔴", NOISY: "🟡"}
UNMARKED = "⚪"
CHANGED = (SLOWER, FASTER)  # the verdicts that a Markdown table lists first
MARKDOWN_ROWS = 60  # of one table; the rest is in compare.csv


def run_table(measurements: Iterable[Measurement]) -> str:
    """What one run measured: a row for each setting (and cloud, where there are several).

    It fits 80 columns: beside the names of clouds (10 columns) MB/s, which the dataset's size gives
    too, has no room. `batch` is the batch size, `conn.` the connections.
    Throughput as the median in records/s and MB/s of JSON text, and in records/s its range over the
    rounds; percentiles of the batch latency in ms; client CPU as a share of the load's duration in
    %, where 100 is one busy core. Several tests of one setting are pooled into one row; each
    dataset has a table of its own. An empty string without measurements.
    """
    by_dataset: dict[DatasetSize, list[Measurement]] = {}
    for each in sorted(pool(measurements), key=lambda each: (each.setting, each.cloud)):
        by_dataset.setdefault(each.dataset, []).append(each)
    return "\n\n".join(_run_table(dataset, rows) for dataset, rows in sorted(by_dataset.items()))


def _run_table(dataset: DatasetSize, measurements: Sequence[Measurement]) -> str:
    clouds = sorted({each.cloud for each in measurements})
    header = ["records/s", "MB/s", "min-max", "p50", "p95", "p99", "CPU%"]
    if len(clouds) > 1:
        header.remove("MB/s")
    rows = [
        [
            _rate(each),
            *([f"{each.mb_per_second:,.1f}"] if len(clouds) == 1 else []),
            f"{_short(each.throughput_min)}-{_short(each.throughput_max)}",
            *(f"{s * 1000:,.1f}" for s in (each.latency.p50, each.latency.p95, each.latency.p99)),
            f"{100 * each.cpu_share:.0f}",
        ]
        for each in measurements
    ]
    title = f"{', '.join(clouds)}: {dataset}{_repeated(dataset, measurements)}\n"
    note = "p50, p95, p99: latency of a batch in ms\n"
    return title + note + _by_setting(measurements, header, rows)


def _repeated(dataset: DatasetSize, measurements: Sequence[Measurement]) -> str:
    """How large the loads were, where they repeat the dataset."""
    loaded = sorted({each.repeats * dataset.records for each in measurements})
    if loaded == [dataset.records]:
        return ""
    sizes = "-".join(f"{each:,}" for each in dict.fromkeys((loaded[0], loaded[-1])))
    return f", repeated in loads of {sizes} records"


def _short(rate: float) -> str:
    """Three digits of it or a little more, such as 812, 9.87k and 102k."""
    if rate < 999.5:
        return f"{rate:.0f}"
    thousands = rate / 1000
    digits = 2 if thousands < 9.995 else 1 if thousands < 99.95 else 0
    return f"{thousands:,.{digits}f}k"


def profile_table(measurements: Iterable[Measurement]) -> str:
    """Where the time of a record went, and the bottleneck: a row for each setting (and cloud).

    Parts in microseconds per record, summed over the workers; parts that took no time are omitted.
    The bottleneck with its share of the workers' time. An empty string without measurements.
    """
    found = sorted(pool(measurements), key=lambda each: (each.dataset, each.setting, each.cloud))
    parts = [part for part in PARTS if any(each.profile.get(part) for each in found)]
    header = [*(f"{part} us" for part in parts), "bottleneck"]
    rows = [
        [
            *(f"{each.profile.get(part, 0) / each.dataset.records * 1e6:,.1f}" for part in parts),
            _bottleneck(each),
        ]
        for each in found
    ]
    return _by_setting(found, header, rows) if rows else ""


def _bottleneck(each: Measurement) -> str:
    if each.bottleneck is None:
        return NOT_MEASURED
    return f"{each.bottleneck} {each.bottleneck_shares.get(each.bottleneck, 0):.0%}"


def _by_setting(
    measurements: Sequence[Measurement], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """A table of the rows after the settings they belong to, and their clouds if several."""
    if len({each.cloud for each in measurements}) == 1:
        return _align(
            [*SETTING, *header],
            [[*_setting(each.setting), *row] for each, row in zip(measurements, rows, strict=True)],
        )
    return _align(
        ["cloud", *SETTING, *header],
        [
            [each.cloud, *_setting(each.setting), *row]
            for each, row in zip(measurements, rows, strict=True)
        ],
        text_columns=(0, 1),
    )


def compare_tables(decision: Decision) -> str:
    """A table for each side against the baseline: a row for each setting that either measured.

    Throughput in records/s, the median of all rounds; the ratio, above 1 if the side is faster
    than the baseline, with its 95% interval; the verdict. Only the sides that `decision.shown`
    names. For a single side: its throughput.
    """
    if not decision.others:
        return _single_side_table(decision)
    shown = _shown(decision)
    tables = [_against_table(decision, other) for other in shown]
    if len(shown) < len(decision.others):
        tables.append(f"and {len(decision.others) - len(shown)} slower sides, in the CSV and JSON")
    return "\n\n".join(tables)


def _single_side_table(decision: Decision) -> str:
    side = decision.baseline
    rows = [
        [*_setting(setting), _rate(decision.sides[side].get(setting))]
        for setting in decision.settings
    ]
    title = f"records/s, median of the rounds; {decision.dataset}\n"
    return title + _align([*SETTING, side], rows)


def _against_table(decision: Decision, other: Against) -> str:
    side, baseline = other.side, decision.baseline
    base, contender = decision.sides[baseline], decision.sides[side]
    rows = []
    for setting in sorted(base.keys() | contender.keys()):
        verdict = other.by_setting.get(setting)
        rows.append(
            [
                *_setting(setting),
                _rate(base.get(setting)),
                _rate(contender.get(setting)),
                f"{verdict.ratio:.2f}" if verdict else NOT_MEASURED,
                _interval(verdict),
                verdict.word if verdict else NOT_MEASURED,
            ]
        )
    header = [*SETTING, baseline, side, "ratio", "95%", "verdict"]
    return "\n".join(
        [
            "records/s, median of the rounds; "
            f"ratio and verdict: {side} against {baseline}; {decision.dataset}",
            *(f"  they also differ in {caveat}" for caveat in other.caveats),
            _align(header, rows, text_columns=(0, len(header) - 1)),
        ]
    )


def _shown(decision: Decision) -> list[Against]:
    return [other for other in decision.others if other.side in decision.shown]


def _setting(setting: Setting) -> list[str]:
    return [setting.method, f"{setting.batch_size:,}", f"{setting.connections:,}"]


def _rate(each: Measurement | None) -> str:
    return f"{each.throughput:,.0f}" if each else NOT_MEASURED


def _interval(verdict: Verdict | None) -> str:
    if verdict is None:
        return NOT_MEASURED
    return f"{verdict.low:.2f}-{verdict.high:.2f}"


def _align(
    header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Sequence[int] = (0,)
) -> str:
    """A table of equally wide columns: those of text are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in (header, ["-" * width for width in widths], *rows):
        aligned = [
            cell.ljust(width) if column in text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def decision_lines(decision: Decision) -> list[str]:
    """The fastest side and how certain that is, the best of each side, the cheapest; as lines."""
    best = decision.best[decision.fastest].measurement
    fresh = _fresh(decision.best[decision.fastest])
    lines = [f"fastest: {decision.fastest}, {best.setting}: {_rate(best)} records/s{fresh}"]
    if decision.lead:
        lines.append(
            f"  against {decision.ranking[1]}, both with {decision.lead_setting}: "
            f"{decision.lead:ascii} times as fast; {decision.lead.word}"
            + "".join(f"; but they also differ in {caveat}" for caveat in decision.lead_caveats)
        )
    for side in decision.shown:
        lines += _best_lines(side, decision.best[side])
    for other in _shown(decision):
        counts = ", ".join(f"{count} {word}" for word, count in other.counts.most_common())
        lines.append(f"{other.side} against {decision.baseline}: {counts or 'no common setting'}")
        lines += [f"  but they also differ in {caveat}" for caveat in other.caveats]
    if decision.single_pass:
        lines.append(
            "measured in a single pass, in which a slow minute looks like a slow server: "
            "measure several with `pytest benchmarks --passes 5`"
        )
    for note in run_notes(decision, Words("en")):
        lines.append(_ascii(f"{note[0].lower()}{note[1:]}".removesuffix(".")))
    if cheapest := decision.cheapest:
        lines.append(f"cheapest for a million records: {cheapest}, {decision.best[cheapest].cost}")
    return lines


def run_notes(decision: Decision, words: Words) -> list[str]:
    """Sentences on the variation between runs where a side has one: how much, and what to do."""
    lone = decision.lone_runs
    if lone is None:
        return []
    known = {
        name: words(
            "run_variation" if each.runs > 1 else "run_variation_assumed",
            side=name,
            percent=f"{100 * math.sqrt(each.variance):.1f}",
            runs=each.runs,
        )
        for name, each in lone.variations.items()
        if name in decision.shown
    }
    notes = [words("single_run", variations=", ".join(known.values()))]
    if lone.second and decision.lead:
        now, then = (
            f"{low:.2f}-{high:.2f}"
            for low, high in ((decision.lead.low, decision.lead.high), lone.second)
        )
        notes.append(words("second_run", now=now, then=then))
        if lone.clouds[0] != lone.clouds[1]:
            notes.append(words("in_one_run", clouds=",".join(lone.clouds)))
    return notes


def _best_lines(side: str, best: Best) -> list[str]:
    each = best.measurement
    lines = [f"best of {side}: {each.setting}: {_rate(each)} records/s{_fresh(best)}"]
    if best.near:
        near = "; ".join(f"{setting} ({verdict.ratio:.2f})" for setting, verdict in best.near[:3])
        lines.append(f"  not shown to be slower: {near}")
    if each.unstable:
        lines.append(f"  unstable: {_ascii(each.unstable)}")
    if each.bottleneck:
        advice = f"; {_ascii(each.advice)}" if each.advice else ""
        lines.append(f"  bottleneck: {_bottleneck(each)}{advice}")
    return lines


def _fresh(best: Best) -> str:
    passes = len(best.measurement.passes)
    return f" in {passes} fresh passes" if best.is_fresh else ""


def _ascii(text: str) -> str:
    """The text with `?` for what is not ASCII; sentences from a file may hold any character."""
    return text.encode("ascii", "replace").decode()


def to_markdown(decisions: Sequence[Decision]) -> str:
    """For a pull request: the decision, and tables with what changed first."""
    return "\n".join(line for decision in decisions for line in _markdown(decision)) + "\n"


def _markdown(decision: Decision) -> Iterator[str]:
    best = decision.best[decision.fastest].measurement
    yield f"### {decision.dataset}"
    yield ""
    fastest = _escape(decision.fastest)
    yield f"Fastest: **{fastest}** with {best.setting}: **{_rate(best)} records/s**."
    if decision.lead:
        yield (
            f"{decision.lead} times as fast as {_escape(decision.ranking[1])}, both with "
            f"{decision.lead_setting}: "
            f"**{decision.lead.word}**."
        )
    if cheapest := decision.cheapest:
        cost = decision.best[cheapest].cost
        yield f"Cheapest: **{_escape(cheapest)}**, {cost}, per million records."
    yield ""
    shown = _shown(decision)
    for other in shown:
        yield from _markdown_table(decision, other)
    if len(shown) < len(decision.others):
        yield f"… and {len(decision.others) - len(shown)} slower sides, in compare.csv."


def _markdown_table(decision: Decision, other: Against) -> Iterator[str]:
    for caveat in other.caveats:
        yield f"> ⚠️ They also differ in {_escape(str(caveat))}"
    yield ""
    yield (
        f"| setting | {_escape(decision.baseline)}, records/s | {_escape(other.side)}, records/s "
        "| ratio (95%) | verdict |"
    )
    yield "|---|---:|---:|---:|---|"
    base, contender = decision.sides[decision.baseline], decision.sides[other.side]
    changed_first = sorted(
        other.by_setting.items(),
        key=lambda item: CHANGED.index(item[1].word) if item[1].word in CHANGED else len(CHANGED),
    )
    for setting, verdict in changed_first[:MARKDOWN_ROWS]:
        yield (
            f"| {setting} | {_rate(base[setting])} | {_rate(contender[setting])} "
            f"| {verdict} | {MARKS.get(verdict.word, UNMARKED)} {verdict.word} |"
        )
    if len(changed_first) > MARKDOWN_ROWS:
        yield ""
        yield f"… and {len(changed_first) - MARKDOWN_ROWS} more settings, in compare.csv."
    yield ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
