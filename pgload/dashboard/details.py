"""The tab on one migration in detail: files, batches, tables, rejects, the raw files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import streamlit as st

from pgload.contract import BATCHES, OUTPUT_FILES
from pgload.dashboard.plots import BATCH_PARTS, plots
from pgload.dashboard.widgets import (
    EMPTY,
    SHOWN_FILES,
    SHOWN_RUNS,
    Sources,
    charts,
    count,
    duration,
    file_status,
    heading,
    metrics,
    plain,
    status,
    table,
)
from pgload.report.i18n import Words
from pgload.report.migration_batches import BatchLine, BatchSummary, Total, read_batch_summary
from pgload.report.migrations import (
    SavedMigration,
    SavedReject,
    read_migration,
    read_rejects,
    run_folders,
)

SHOWN_REJECTS = 500
SHOWN_CHARACTERS = 100_000  # of a record
MEDIA_TYPES = {".json": "application/json", ".jsonl": "application/jsonl", ".log": "text/plain"}


def show(sources: Sources) -> None:
    """Show the tab."""
    words = sources.words
    folders = run_folders(sources.outputs)[:SHOWN_RUNS]
    if not folders:
        st.info(words("no_run", folder=plain(sources.outputs)))
        return
    migrations = {str(folder): read_migration(folder) for folder in folders}
    chosen = st.selectbox(
        words("run"), list(migrations), format_func=lambda key: _name(migrations[key], words)
    )
    migration = migrations[chosen]
    batches, problem = read_batch_summary(migration.folder)
    for line in (*migration.problems, problem):
        if line:
            st.warning(f"{words('unreadable')} {plain(line)}")
    if batches.broken:
        st.warning(words("broken_lines", n=count(batches.broken)))
    _files(migration, words)
    _batches(batches, words)
    _rejects(migration, words)
    _raw_files(migration.folder, words)


def _name(migration: SavedMigration, words: Words) -> str:
    parts = [
        migration.started,
        migration.facts.cloud_provider,
        status(migration.state, words),
    ]
    return ", ".join(filter(None, parts))


def _files(migration: SavedMigration, words: Words) -> None:
    st.subheader(heading(words("files")))
    # Those with an error first: they are what the user looks for.
    files = sorted(migration.files, key=lambda each: (not each.error, each.file))
    if not files:
        st.caption(words("no_files_yet"))
        return
    shown = files[:SHOWN_FILES]
    table(
        {
            words("file"): [each.file for each in shown],
            words("state"): [file_status(each.status, words) for each in shown],
            words("table"): [each.table or EMPTY for each in shown],
            words("records"): [each.committed for each in shown],
            words("rejects"): [each.rejects for each in shown],
            words("batches"): [each.batches for each in shown],
            words("reason"): [each.error or "" for each in shown],
        }
    )
    if len(files) > len(shown):
        st.caption(words("more_files", n=count(len(files) - len(shown))))


def _batches(batches: BatchSummary, words: Words) -> None:
    st.subheader(heading(words("batches")))
    whole = batches.whole
    if not whole.batches:
        st.caption(words("no_batches_yet"))
        return
    numbers = {
        heading(words("batches")): count(whole.batches),
        heading(words("records")): count(whole.records),
        heading(words("batches_retried")): count(whole.retried),
    }
    latency = {name: f"{seconds * 1000:,.1f} ms" for name, seconds in batches.latency.items()}
    metrics(numbers | latency)
    charts(plots(batches, words), words)
    _time_by_part(batches, words)
    if batches.retried:
        st.markdown(f"**{heading(words('batches_retried'))}**")
        _batch_table(batches.retried, words)
    with st.expander(words("slowest", n=len(batches.slowest))):
        _batch_table(batches.slowest, words)
    st.markdown(f"**{words('tables')}**")
    _totals(batches.tables, words("table"), words)
    st.markdown(f"**{heading(words('connections'))}**")
    _totals({str(n): total for n, total in batches.workers.items()}, words("connection"), words)


def _time_by_part(batches: BatchSummary, words: Words) -> None:
    """The share of each part in the time of all batches."""
    whole = batches.whole
    if whole.seconds > 0:
        shares = ", ".join(
            f"{words(part)} {getattr(whole, part) / whole.seconds:.0%}" for part in BATCH_PARTS
        )
        waited = words("waited", time=duration(batches.waited, words))
        st.markdown(plain(f"{words('time_by_part')}: {shares}. {waited}"))
        st.caption(words("part_note"))


def _batch_table(batches: Sequence[BatchLine], words: Words) -> None:
    milliseconds = {
        words("milliseconds"): "total_duration_seconds",
        **{words(part): f"{part}_seconds" for part in BATCH_PARTS},
    }
    table(
        {
            "#": [each.batch_number for each in batches],
            words("file"): [each.file for each in batches],
            words("table"): [each.table_name for each in batches],
            words("records"): [each.records_count for each in batches],
            **{
                title: [round(getattr(each, key) * 1000, 1) for each in batches]
                for title, key in milliseconds.items()
            },
            words("connection"): [each.worker for each in batches],
            words("attempts"): [each.attempts for each in batches],
            words("reason"): [each.error or "" for each in batches],
        }
    )


def _totals(totals: Mapping[str, Total], title: str, words: Words) -> None:
    each = list(totals.values())
    table(
        {
            title: list(totals),
            words("records"): [total.records for total in each],
            words("batches"): [total.batches for total in each],
            words("batches_retried"): [total.retried for total in each],
            words("batch_seconds"): [round(total.seconds, 3) for total in each],
            words("records_per_second"): [round(total.rate, 1) for total in each],
        }
    )


def _rejects(migration: SavedMigration, words: Words) -> None:
    st.subheader(heading(words("rejects")))
    rejects = list(read_rejects(migration.folder, SHOWN_REJECTS))
    total = migration.facts.rejects
    if not rejects:
        st.caption(words("rejects_gone") if total else words("no_rejects"))
        return
    table(
        {
            words("file"): [each.file for each in rejects],
            words("record"): ["" if each.record is None else str(each.record) for each in rejects],
            words("table"): [each.table for each in rejects],
            words("column"): [each.column or "" for each in rejects],
            words("sqlstate"): [each.sqlstate or "" for each in rejects],
            words("reason"): [each.message for each in rejects],
        }
    )
    if total is not None and total > len(rejects):
        st.caption(words("more_rejects", n=count(total - len(rejects))))
    chosen = st.selectbox(
        words("rejected_record"),
        range(len(rejects)),
        format_func=lambda n: (
            f"{n + 1}. {rejects[n].file}, {words('record')} {rejects[n].record or EMPTY}"
        ),
    )
    st.code(_record(rejects[chosen]), language="json", wrap_lines=True)


def _record(reject: SavedReject) -> str:
    """The record, indented and with its escapes as characters; its text, if it is not JSON."""
    shown = bytes(reject.data).decode() or reject.text or ""
    with suppress(ValueError, RecursionError):  # among others an integer of 5,000 digits
        shown = json.dumps(json.loads(shown), indent=2, ensure_ascii=False)
    return shown[:SHOWN_CHARACTERS]


def _raw_files(folder: Path, words: Words) -> None:
    """The files themselves, which are read when they are downloaded."""
    st.subheader(heading(words("raw")))
    st.caption(plain(folder))
    files = [folder / name for name in (*OUTPUT_FILES, BATCHES) if (folder / name).is_file()]
    if not files:
        st.caption(words("no_raw"))
    with st.container(horizontal=True):
        for path in files:
            st.download_button(
                plain(path.name),
                partial(_content, path),
                file_name=path.name,
                mime=MEDIA_TYPES[path.suffix],
                on_click="ignore",
                key=f"raw {path}",
            )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # removed since the page was shown
        return b""
