"""The tab on migrations: the one that runs, the data, a command to start one, and the history."""

from __future__ import annotations

import shlex
from collections import Counter

import streamlit as st

from pgload.contract import DATA_SUFFIXES, METHODS, OUTPUT_DIR
from pgload.dashboard.widgets import (
    Places,
    count,
    duration,
    heading,
    metrics,
    plain,
    setting,
    status,
    table,
)
from pgload.report.watch import (
    ENDED,
    RUNNING,
    MigrationFiles,
    last_lines,
    mappings,
    number,
    read_run,
    run_folders,
    text,
)
from pgload.report.watch_files import FileState, file_states

EVERY = 1.0  # seconds between two looks at what goes on
FILES_EVERY = 3.0
CLOUDS = ("EMBEDDED", "CONTAINER", "GCP", "AZURE", "AWS")
BATCH_SIZES = (100, 500, 1000, 2000, 5000)
CONNECTIONS = (1, 2, 5, 10)
SHOWN_RUNS = 50
SHOWN_FILES = 5000
STATES = ("completed", "completed_with_errors", "failed", "interrupted", ENDED)
NOTE = {"completed": "success", "completed_with_errors": "warning", "interrupted": "warning"}


def show(places: Places) -> None:
    """The whole tab."""
    words = places.words
    st.fragment(_live, run_every=EVERY)(places)
    st.subheader(words("start_one"))
    _command(places)
    st.subheader(words("data_folder"))
    st.fragment(_data, run_every=FILES_EVERY)(places)
    st.subheader(words("history"))
    st.fragment(_history, run_every=FILES_EVERY)(places)


def _live(places: Places) -> None:
    """What runs now, otherwise the last run. The whole page is made anew when a run begins or ends.

    It looks at the newest runs only: older ones have ended.
    """
    runs = [read_run(folder) for folder in run_folders(places.outputs)[:3]]
    states = {str(run.folder): run.state() for run in runs}
    before, st.session_state["states"] = st.session_state.get("states"), states
    if before is not None and before != states:
        st.rerun(scope="app")
    running = [run for run in runs if states[str(run.folder)] == RUNNING]
    if not runs:
        st.info(places.words("no_run", folder=plain(places.outputs)))
    for run in running or runs[:1]:
        _one(run, states[str(run.folder)], places)


def _one(run: MigrationFiles, state: str, places: Places) -> None:
    words = places.words
    st.markdown(f"**{plain(status(state, words))}** · {plain(setting(run, words))}")
    for problem in run.problems:
        st.warning(f"{words('unreadable')} {plain(problem)}")
    if not run.facts:
        st.info(words("nothing_in_it", folder=plain(run.folder)))
        return
    percent = run.number("percent")
    if percent is not None:
        st.progress(min(max(percent / 100, 0.0), 1.0), text=f"{int(percent)} %")
    done, failed = run.number("files_completed"), run.number("files_failed")
    numbers = {"records": _of(run.records, run.all_records)}
    if state == RUNNING:
        numbers["rate_now"] = count(run.number("records_per_second"))
        numbers["time_left"] = duration(run.number("eta_seconds"), words)
    else:
        numbers["took"] = duration(run.seconds, words)
    numbers |= {
        "rate_average": count(run.number("average_records_per_second")),
        "files": _of(None if done is None else done + (failed or 0), run.number("total_files")),
        "rejects": count(run.number("rejects")),
        "records_failed": count(run.number("records_failed")),
        "retries": count(run.number("retries")),
    }
    metrics({heading(words(name)): value for name, value in numbers.items()})
    if state == RUNNING:
        st.caption(f"{words('current_file')}: {plain(run.text('current_file') or '–')}")
        _connections(run, places)
    elif state:
        _ending(run, state, places)


def _of(part: float | None, whole: float | None) -> str:
    return count(part) if whole is None else f"{count(part)} / {count(whole)}"


def _connections(run: MigrationFiles, places: Places) -> None:
    words = places.words
    each = mappings(run.facts.get("connections"))
    doing = Counter(text(one.get("state")) for one in each)
    told = ", ".join(f"{words.maybe(f'state_{name}', name)} {n}" for name, n in doing.items())
    with st.expander(plain(f"{words('connections')}: {told or '–'}")):
        table(
            {
                words("connection"): [text(one.get("worker")) for one in each],
                words("state"): [
                    words.maybe(f"state_{text(one.get('state'))}", text(one.get("state")))
                    for one in each
                ],
                words("since_seconds"): [number(one.get("seconds")) for one in each],
            }
        )


def _ending(run: MigrationFiles, state: str, places: Places) -> None:
    """How it ended, and where it did not come to its end, how to go on."""
    words = places.words
    note = getattr(st, NOTE.get(state, "error"))
    when = run.text("completion_time") or run.text("last_update")
    when = plain(when[:19].replace("T", " "))
    note(words(f"says_{state}", when=when) if state in STATES else plain(state))
    if state in (ENDED, "failed", "interrupted"):
        st.write(words("how_to_resume"))
        st.code(resume_command(run, places), language="bash", wrap_lines=True)
    if state not in ("completed", RUNNING) and (lines := last_lines(run.folder)):
        with st.expander(words("last_lines")):
            st.code(lines, language=None, wrap_lines=True)


def migrate_command(
    places: Places, cloud: str, method: str, batch_size: int, connections: int, *more: str
) -> str:
    """The command line that migrates with that setting, quoted for a shell."""
    command = ["python", "-m", "pgload", "migrate", "--cloud", cloud, "--data", str(places.data)]
    command += ["--method", method, "--batch-size", str(batch_size)]
    command += ["--connections", str(connections)]
    if places.outputs != OUTPUT_DIR:
        command += ["--output-dir", str(places.outputs)]
    return text(shlex.join([*command, *more]))


def resume_command(run: MigrationFiles, places: Places) -> str:
    """The command line that goes on with what a run has left."""
    size, connections = (run.number(name) for name in ("batch_size", "num_connections"))
    return migrate_command(
        places,
        run.text("cloud_provider") or CLOUDS[0],
        run.text("method") or METHODS[0],
        int(size or 1000),
        int(connections or 1),
        "--resume",
    )


def _command(places: Places) -> None:
    """Selections, and the command line that they make."""
    words = places.words
    one, two, three, four = st.columns(4)
    cloud = one.selectbox(
        words("cloud_provider"), CLOUDS, accept_new_options=True, help=words("any_cloud")
    )
    method = two.selectbox(words("method"), METHODS, index=METHODS.index("copy"))
    size = three.selectbox(words("batch_size"), BATCH_SIZES, index=BATCH_SIZES.index(1000))
    connections = four.selectbox(words("connections"), CONNECTIONS)
    command = migrate_command(places, cloud or CLOUDS[0], method, size, connections)
    st.code(command, language="bash", wrap_lines=True)


def _data(places: Places) -> None:
    """The files of the data folder, and what the newest run that knows each says of it."""
    words = places.words
    try:
        files = [
            (path.name, path.stat())
            for path in sorted(places.data.iterdir())
            if path.suffix.lower() in DATA_SUFFIXES and path.is_file()
        ]
    except OSError as error:
        st.info(words("no_data", folder=plain(places.data), why=plain(error.strerror)))
        return
    if not files:
        st.info(words("no_files", folder=plain(places.data), suffixes=", ".join(DATA_SUFFIXES)))
        return
    runs = [read_run(folder) for folder in run_folders(places.outputs)[:SHOWN_RUNS]]
    if runs and runs[0].state() == RUNNING:  # which will come to all of them
        runs = runs[:1]
    known = file_states(runs)
    size = sum(facts.st_size for _, facts in files)
    st.caption(words("data_sum", folder=plain(places.data), n=count(len(files)), size=_mb(size)))
    shown = files[:SHOWN_FILES]
    nothing = FileState("not_begun", "")
    states = [known.get(text(name), nothing).beside(facts.st_mtime) for name, facts in shown]
    table(
        {
            words("file"): [text(name) for name, _ in shown],
            words("size"): [facts.st_size for _, facts in shown],
            words("table"): [each.table or "–" for each in states],
            words("records"): [each.records for each in states],
            words("state"): [words.maybe(f"file_{each.status}", each.status) for each in states],
            words("cloud_provider"): [each.cloud or "–" for each in states],
            words("reason"): [each.error for each in states],
        },
        sizes=[words("size")],
    )
    if len(files) > len(shown):
        st.caption(words("more_files", n=count(len(files) - len(shown))))


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _history(places: Places) -> None:
    words = places.words
    folders = run_folders(places.outputs)
    runs = [read_run(folder) for folder in folders[:SHOWN_RUNS]]
    if not runs:
        st.caption(words("no_history"))
        return
    table(
        {
            words("started"): [text(run.started) for run in runs],
            words("state"): [status(run.state(), words) for run in runs],
            words("cloud_provider"): [run.text("cloud_provider") or "–" for run in runs],
            words("method"): [run.text("method") or "–" for run in runs],
            words("batch_size"): [run.number("batch_size") for run in runs],
            words("connections"): [run.number("num_connections") for run in runs],
            words("records"): [run.records for run in runs],
            words("took_seconds"): [run.seconds for run in runs],
            words("rate_average"): [run.number("average_records_per_second") for run in runs],
            words("records_failed"): [run.number("records_failed") for run in runs],
        }
    )
    if len(folders) > len(runs):
        st.caption(words("more_runs", n=len(folders) - len(runs)))
