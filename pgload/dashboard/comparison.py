"""The tab that compares saved benchmark runs: the numbers of `compare`, for selected runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import streamlit as st

from pgload.dashboard.widgets import EMPTY, Sources, charts, heading, plain, table, text
from pgload.errors import SourceError
from pgload.report.decision import Against, Comparison, Decision, compare_sides
from pgload.report.history import beside
from pgload.report.i18n import Words
from pgload.report.migration_batches import FileVersion, file_version
from pgload.report.plots import plots
from pgload.report.saved import SavedRun, read_runs
from pgload.report.sides import Difference, make_sides, with_baseline
from pgload.report.svg import colours
from pgload.report.tables import run_notes

LISTED = 200


def show(sources: Sources) -> None:
    """Show the tab."""
    words = sources.words
    runs, problems = saved_runs(sources.storage)
    if not runs:
        st.info(words("no_benchmark", folder=plain(sources.storage)))
        _list(words("left_out"), problems)
        return
    chosen, baseline = _choose(runs, words)
    if not chosen:
        st.info(words("nothing_chosen"))
        return
    with st.spinner(words("comparing")):
        earlier = beside([run.path for run in chosen], [run.path for run in runs])
        history = [run for run in runs if run.path.resolve() in earlier]
        comparison = _compare(tuple(chosen), baseline, tuple(earlier), history)
    decision = comparison.decisions[0]
    if len(comparison.decisions) > 1:
        named = {_data(each, words): each for each in comparison.decisions}
        decision = named[st.selectbox(words("data_loaded"), list(named))]
    _answer(decision, words)
    found, missing = plots(decision, words)
    charts(found, words, {**colours(comparison.sides), **colours(decision.shown)})
    _list(words("not_drawn"), missing)
    for other in decision.others:
        if other.side in decision.shown:
            _verdicts(decision, other, words)
    _measured(decision, words)
    _differences(comparison, decision, words)
    _list(words("not_paired"), comparison.unpaired)
    _list(words("drift"), comparison.drift)
    _list(words("left_out"), [*problems, *(p for run in chosen for p in run.problems)])


def saved_runs(storage: Path) -> tuple[list[SavedRun], list[str]]:
    """All saved runs with a measurement, the newest first, and what could not be read."""
    found: list[SavedRun] = []
    problems = []
    for path in {*storage.glob("*.json"), *storage.glob("*/*.json")}:
        try:
            if (version := file_version(path)) is not None:
                found += _runs(path, version)
        except SourceError as error:
            problems.append(f"{path}: {error}")
    found = [run for run in found if run.measurements]
    return sorted(found, key=lambda run: (run.saved, run.path), reverse=True), sorted(problems)


@lru_cache(maxsize=512)
def _runs(path: Path, _version: FileVersion) -> tuple[SavedRun, ...]:
    return tuple(read_runs(path))


def _choose(runs: Sequence[SavedRun], words: Words) -> tuple[list[SavedRun], str | None]:
    """The selected runs with the selected methods only, and the name of the baseline.

    Selected at first is, as in `compare`, the newest run of each cloud.
    """
    one, two = st.columns([3, 2])
    names = {_name(run): run for run in runs}
    newest = {run.cloud: _name(run) for run in reversed(runs)}
    picked = one.multiselect(words("runs"), list(names), default=sorted(newest.values()))
    kept = [run for run in reversed(runs) if _name(run) in picked]
    known = sorted({each.setting.method for run in kept for each in run.measurements})
    methods = two.multiselect(words("methods"), known, default=known)
    clouds = sorted({run.cloud for run in kept})
    of_clouds = one.multiselect(words("clouds"), clouds, default=clouds)
    kept = [
        replace(
            run,
            measurements=tuple(each for each in run.measurements if each.setting.method in methods),
        )
        for run in kept
        if run.cloud in of_clouds
    ]
    kept = sorted((run for run in kept if run.measurements), key=lambda run: run.cloud)
    sides = list(make_sides(kept))
    baseline = two.selectbox(words("baseline"), sides) if len(sides) > 1 else None
    return kept, baseline


def _name(run: SavedRun) -> str:
    return text(f"{run.path.stem.split('_')[0]} {run.cloud} {run.saved:%Y-%m-%d %H:%M}")


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs={SavedRun: repr})
def _compare(
    runs: tuple[SavedRun, ...],
    baseline: str | None,
    earlier: tuple[Path, ...],  # noqa: ARG001 -- a part of the key of the cache
    _history: Sequence[SavedRun],
) -> Comparison:
    return compare_sides(with_baseline(make_sides(runs), baseline), history=_history)


def _data(decision: Decision, words: Words) -> str:
    records, size = decision.dataset.records, decision.dataset.bytes / 1e6
    return words("dataset", records=f"{records:,}", size=f"{size:,.1f}")


def _answer(decision: Decision, words: Words) -> None:
    """The fastest side, by how much, and the caveats, as at the top of the page."""
    best = decision.best[decision.fastest]
    each = best.measurement
    how = words(
        "with_setting",
        method=each.setting.method,
        size=f"{each.setting.batch_size:,}",
        connections=f"{each.setting.connections:,}",
    )
    st.markdown(f"#### {plain(decision.fastest)} {plain(how)}")
    low, high = each.throughput_min, each.throughput_max
    st.metric(
        heading(words("records_per_second")),
        f"{each.throughput:,.0f}",
        help=words("min_max_rounds", low=f"{low:,.0f}", high=f"{high:,.0f}", n=len(each.rounds)),
    )
    if best.is_fresh:
        st.caption(plain(words("fresh_passes", n=len(each.passes))))
    if decision.lead is None:
        st.info(plain(words("one_side")))
    else:
        sure = words(
            f"sure_{decision.lead.word.split()[0]}",
            ratio=f"{decision.lead.ratio:.2f}",
            other=decision.ranking[1],
            setting=decision.lead_setting.short if decision.lead_setting else "",
        )
        st.markdown(
            f"**{words(decision.lead.word)}** {plain(sure)} {_interval_text(decision, words)}"
        )
    for caveat in decision.lead_caveats:
        st.warning(_caveat(caveat, words))
    if decision.single_pass:
        st.caption(plain(words("single_pass")))
    for note in run_notes(decision, words):
        st.caption(plain(note))
    if decision.cheapest and (cost := decision.best[decision.cheapest].cost):
        price = words("per_million", price=f"{cost.price_per_hour:g}")
        line = f"{words('cheapest')}: {decision.cheapest} ${cost.dollars:,.4f} {price}"
        st.markdown(plain(line))
    if best.near:
        near = "; ".join(f"{setting.short} ({v.ratio:.2f})" for setting, v in best.near[:3])
        st.caption(plain(f"{words('as_good')}: {near}"))
    if each.bottleneck:
        bottleneck = words.maybe(each.bottleneck, each.bottleneck)
        st.caption(plain(f"{words('bottleneck')}: {bottleneck}. {each.advice or ''}"))
    if each.unstable:
        st.warning(plain(f"{words('unstable')}: {each.unstable}"))


def _interval_text(decision: Decision, words: Words) -> str:
    lead = decision.lead
    if lead is None:
        return ""
    return plain(words("interval", low=f"{lead.low:.2f}", high=f"{lead.high:.2f}"))


def _caveat(caveat: Difference, words: Words) -> str:
    """A difference between the sides that may explain the result."""
    values = " / ".join(caveat.values.values())
    decides = words(caveat.decides or "differences")
    return plain(f"{words('but')} {decides}, {caveat.fact} {values}")


def _verdicts(decision: Decision, other: Against, words: Words) -> None:
    base, ours = decision.sides[decision.baseline], decision.sides[other.side]
    title = f"{words('verdicts')}: {other.side} {words('beside')} {decision.baseline}"
    st.markdown(f"**{plain(title)}**")
    for caveat in other.caveats:
        st.caption(_caveat(caveat, words))
    pairs = list(other.by_setting.items())
    if not pairs:
        st.caption(words("no_common_setting"))
        return
    table(
        {
            words("method"): [setting.method for setting, _ in pairs],
            words("batch_size"): [setting.batch_size for setting, _ in pairs],
            words("connections"): [setting.connections for setting, _ in pairs],
            text(decision.baseline): [round(base[setting].throughput) for setting, _ in pairs],
            text(other.side): [round(ours[setting].throughput) for setting, _ in pairs],
            words("ratio"): [str(verdict) for _, verdict in pairs],
            words("verdict"): [words(verdict.word) for _, verdict in pairs],
        }
    )


def _measured(decision: Decision, words: Words) -> None:
    """All settings of the sides that are shown."""
    rows = [
        (name, setting, each)
        for name in decision.shown
        for setting, each in sorted(decision.sides[name].items())
    ]
    with st.expander(words("all_settings")):
        table(
            {
                words("axis_side"): [text(name) for name, _, _ in rows],
                words("method"): [setting.method for _, setting, _ in rows],
                words("batch_size"): [setting.batch_size for _, setting, _ in rows],
                words("connections"): [setting.connections for _, setting, _ in rows],
                words("records_per_second"): [round(each.throughput) for *_, each in rows],
                words("min_max"): [
                    f"{each.throughput_min:,.0f}–{each.throughput_max:,.0f}" for *_, each in rows
                ],
                "p50 ms": [round(each.latency.p50 * 1000, 1) for *_, each in rows],
                "p95 ms": [round(each.latency.p95 * 1000, 1) for *_, each in rows],
                "p99 ms": [round(each.latency.p99 * 1000, 1) for *_, each in rows],
                f"{words('client')} CPU %": [round(each.cpu_share * 100) for *_, each in rows],
                words("bottleneck"): [
                    words.maybe(each.bottleneck, each.bottleneck) if each.bottleneck else EMPTY
                    for *_, each in rows
                ],
            }
        )


def _differences(comparison: Comparison, decision: Decision, words: Words) -> None:
    if not comparison.differences:
        return
    with st.expander(f"{words('differences')} ({len(comparison.differences)})"):
        shown = {words("fact"): [text(each.fact) for each in comparison.differences]}
        for name in decision.shown:
            values = [each.values.get(name, EMPTY) for each in comparison.differences]
            shown[text(name)] = [text(value) for value in values]
        table(shown)


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        with st.expander(f"{title} ({len(lines)})"):
            st.text(text("\n".join(lines[:LISTED])))
