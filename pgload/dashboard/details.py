"""The tab on one migration in detail: files, batches, tables, rejects, the raw files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from pgload.dashboard.plots import plots
from pgload.dashboard.widgets import (
    Places,
    charts,
    count,
    duration,
    heading,
    metrics,
    plain,
    status,
    table,
)
from pgload.report.i18n import Words
from pgload.report.watch import RAW, MigrationFiles, number, read_run, rejects, run_folders, text
from pgload.report.watch_batches import BatchLine, Summary, Total, read_summary
from pgload.report.watch_files import file_states

SHOWN_RUNS = 50
SHOWN_FILES = 5000
SHOWN_REJECTS = 500
LONG = 100_000  # characters of one record, of which no more is shown
KINDS = {".json": "application/json", ".jsonl": "application/jsonl", ".log": "text/plain"}


def show(places: Places) -> None:
    """The whole tab."""
    words = places.words
    folders = run_folders(places.outputs)[:SHOWN_RUNS]
    if not folders:
        st.info(words("no_run", folder=plain(places.outputs)))
        return
    runs = {str(folder): read_run(folder) for folder in folders}
    chosen = st.selectbox(words("run"), list(runs), format_func=lambda key: _name(runs[key], words))
    run = runs[chosen]
    summary, trouble = read_summary(run.folder)
    for problem in (*run.problems, trouble):
        if problem:
            st.warning(f"{words('unreadable')} {plain(problem)}")
    if summary.broken:
        st.warning(words("broken_lines", n=count(summary.broken)))
    _files(run, words)
    _batches(summary, words)
    _held_back(run, summary, words)
    _rejects(run, words)
    _raw(run.folder, words)


def _name(run: MigrationFiles, words: Words) -> str:
    parts = [run.started, run.text("cloud_provider"), status(run.state(), words)]
    return text(", ".join(filter(None, parts)))


def _files(run: MigrationFiles, words: Words) -> None:
    st.subheader(heading(words("files")))
    states = file_states([run])
    if not states:
        st.caption(words("no_files_yet"))
        return
    known = {text(each.get("file")): each for each in run.files}
    # Those with an error first: they are what one comes to see.
    names = sorted(states, key=lambda name: (not states[name].error, name))[:SHOWN_FILES]

    def column(key: str) -> list[float | None]:
        return [number(known.get(name, {}).get(key)) for name in names]

    table(
        {
            words("file"): names,
            words("state"): [
                words.maybe(f"file_{states[name].status}", states[name].status) for name in names
            ],
            words("table"): [states[name].table or "–" for name in names],
            words("records"): [states[name].records for name in names],
            words("records_failed"): column("records_failed"),
            words("rejects"): column("rejects"),
            words("batches"): column("batches"),
            words("reason"): [states[name].error for name in names],
        }
    )


def _batches(summary: Summary, words: Words) -> None:
    st.subheader(heading(words("batches")))
    whole = summary.whole
    if not whole.batches:
        st.caption(words("no_batches_yet"))
        return
    numbers = {
        heading(words("batches")): count(whole.batches),
        heading(words("records")): count(whole.records),
        heading(words("batches_retried")): count(whole.retried),
        "p50": f"{summary.latency['p50'] * 1000:,.1f} ms",
        "p95": f"{summary.latency['p95'] * 1000:,.1f} ms",
        "p99": f"{summary.latency['p99'] * 1000:,.1f} ms",
        "max": f"{summary.latency['max'] * 1000:,.1f} ms",
    }
    metrics(numbers)
    charts(plots(summary, words), words)
    if summary.retried:
        st.markdown(f"**{heading(words('batches_retried'))}**")
        _batch_table(summary.retried, words)
    with st.expander(words("slowest", n=len(summary.slowest))):
        _batch_table(summary.slowest, words)
    st.markdown(f"**{words('tables')}**")
    _totals(summary.tables, words("table"), words)
    st.markdown(f"**{heading(words('connections'))}**")
    _totals({str(n): total for n, total in summary.workers.items()}, words("connection"), words)


def _batch_table(batches: Sequence[BatchLine], words: Words) -> None:
    table(
        {
            "#": [each.batch_number for each in batches],
            words("file"): [text(each.file) for each in batches],
            words("table"): [text(each.table_name) for each in batches],
            words("records"): [each.records_count for each in batches],
            words("milliseconds"): [
                round(each.total_duration_seconds * 1000, 1) for each in batches
            ],
            words("encode"): [round(each.encode_seconds * 1000, 1) for each in batches],
            words("write"): [round(each.write_seconds * 1000, 1) for each in batches],
            words("commit"): [round(each.commit_seconds * 1000, 1) for each in batches],
            words("connection"): [each.worker for each in batches],
            words("attempts"): [each.attempts for each in batches],
            words("reason"): [text(each.error) for each in batches],
        }
    )


def _totals(totals: Mapping[str, Total], title: str, words: Words) -> None:
    each = list(totals.values())
    table(
        {
            title: [text(name) for name in totals],
            words("records"): [total.records for total in each],
            words("batches"): [total.batches for total in each],
            words("batches_retried"): [total.retried for total in each],
            words("batch_seconds"): [round(total.seconds, 3) for total in each],
            words("records_per_second"): [round(total.rate, 1) for total in each],
        }
    )


def _held_back(run: MigrationFiles, summary: Summary, words: Words) -> None:
    """By the run's own word where it has one, otherwise where the time of its batches went."""
    st.subheader(heading(words("bottleneck")))
    known = run.text("bottleneck")
    shares = run.facts.get("bottleneck_shares")
    if known:
        st.markdown(plain(f"{words.maybe(known, known)}. {run.text('advice')}"))
    if isinstance(shares, dict):
        percent = {text(name): number(share) for name, share in shares.items()}
        table(
            {
                words("bottleneck"): [words.maybe(name, name) for name in percent],
                words("axis_share"): [round(100 * (share or 0), 1) for share in percent.values()],
            }
        )
    whole = summary.whole
    if whole.seconds > 0:
        parts = {"encode": whole.encode, "write": whole.write, "commit": whole.commit}
        told = ", ".join(
            f"{words(name)} {part / whole.seconds:.0%}" for name, part in parts.items()
        )
        waited = words("waited", time=duration(summary.waited, words))
        st.markdown(plain(f"{words('time_by_part')}: {told}. {waited}"))
    retries = count(run.number("retries"))
    st.caption(plain(f"{words('retries')}: {retries}. {words('held_back_note')}"))


def _rejects(run: MigrationFiles, words: Words) -> None:
    st.subheader(heading(words("rejects")))
    found = list(rejects(run.folder, SHOWN_REJECTS))
    in_all = run.number("rejects")
    if not found:
        st.caption(words("no_rejects") if not in_all else words("rejects_gone"))
        return
    columns = ("file", "record", "table", "column", "sqlstate")
    shown: dict[str, list[Any]] = {
        words(name): [text(each.get(name)) for each in found] for name in columns
    }
    table(shown | {words("reason"): [text(each.get("message")) for each in found]})
    if in_all is not None and in_all > len(found):
        st.caption(words("more_rejects", n=count(in_all - len(found))))
    place = st.selectbox(
        words("rejected_record"),
        range(len(found)),
        format_func=lambda n: text(
            f"{n + 1}. {found[n].get('file')}, {words('record')} {found[n].get('record')}"
        ),
    )
    st.code(_record(found[place]), language="json", wrap_lines=True)


def _record(reject: Mapping[str, Any]) -> str:
    """The record as it was, indented; its text, where it is no JSON."""
    if "data" not in reject:
        return text(reject.get("text"))[:LONG]
    return text(json.dumps(reject["data"], indent=2, ensure_ascii=False))[:LONG]


def _raw(folder: Path, words: Words) -> None:
    """The files as they are, read when they are asked for."""
    st.subheader(heading(words("raw")))
    st.caption(plain(folder))
    files = [folder / name for name in RAW if (folder / name).is_file()]
    if not files:
        st.caption(words("no_raw"))
    with st.container(horizontal=True):
        for path in files:
            st.download_button(
                plain(path.name),
                partial(_content, path),
                file_name=path.name,
                mime=KINDS[path.suffix],
                on_click="ignore",
                key=f"raw {path}",
            )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # removed since the page was made
        return b""
