"""The tab on migrations: the running or last one, a command to start one, the data, the history."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pgload.contract import BATCH_SIZES, CONNECTIONS, DATA_SUFFIXES, METHODS, OUTPUT_DIR, Setting
from pgload.dashboard.widgets import (
    EMPTY,
    SHOWN_FILES,
    SHOWN_RUNS,
    Sources,
    count,
    duration,
    file_status,
    heading,
    metrics,
    plain,
    rounded,
    status,
    table,
    target_and_setting,
    text,
)
from pgload.report.migrations import (
    ENDED,
    RUNNING,
    SavedFile,
    SavedMigration,
    last_lines,
    read_migration,
    run_folders,
)

INTERVAL = 1.0  # seconds between two readings of the running migration
LONG_INTERVAL = 3.0  # and of the data folder and the history
CLOUDS = ("EMBEDDED", "CONTAINER", "GCP", "AZURE", "AWS")
STATES = ("completed", "completed_with_errors", "failed", "interrupted", ENDED)
BOX = {"completed": "success", "completed_with_errors": "warning", "interrupted": "warning"}


def show(sources: Sources) -> None:
    """Show the tab."""
    words = sources.words
    st.fragment(_current, run_every=INTERVAL)(sources)
    st.subheader(words("start_one"))
    _command(sources)
    st.subheader(words("data_folder"))
    st.fragment(_data, run_every=LONG_INTERVAL)(sources)
    st.subheader(words("history"))
    st.fragment(_history, run_every=LONG_INTERVAL)(sources)


def _current(sources: Sources) -> None:
    """The running migrations, otherwise the last one.

    Only the newest three are read: older ones have ended. When one begins or ends, the whole page
    is shown again.
    """
    migrations = [read_migration(folder) for folder in run_folders(sources.outputs)[:3]]
    states = {str(each.folder): each.state for each in migrations}
    before, st.session_state["states"] = st.session_state.get("states"), states
    if before is not None and before != states:
        st.rerun(scope="app")
    running = [each for each in migrations if states[str(each.folder)] == RUNNING]
    if not migrations:
        st.info(sources.words("no_run", folder=plain(sources.outputs)))
    for each in running or migrations[:1]:
        _migration(each, states[str(each.folder)], sources)


def _migration(migration: SavedMigration, state: str, sources: Sources) -> None:
    words, facts = sources.words, migration.facts
    how = plain(target_and_setting(migration, words))
    st.markdown(f"**{plain(status(state, words))}** · {how}")
    for problem in migration.problems:
        st.warning(f"{words('unreadable')} {plain(problem)}")
    if migration.is_empty:
        st.info(words("nothing_in_it", folder=plain(migration.folder)))
        return
    if facts.percent is not None:
        fraction = min(max(facts.percent / 100, 0.0), 1.0)
        st.progress(fraction, text=f"{int(100 * fraction)} %")
    numbers = {"records": _of(migration.records, migration.all_records)}
    if state == RUNNING:
        numbers["rate_now"] = count(facts.records_per_second)
        numbers["time_left"] = duration(facts.eta_seconds, words)
    else:
        numbers["took"] = duration(migration.seconds, words)
    done = migration.files_completed
    ended = None if done is None else done + (migration.files_failed or 0)
    numbers |= {
        "rate_average": count(facts.average_records_per_second),
        "files": _of(ended, facts.total_files),
        "rejects": count(facts.rejects),
        "retries": count(facts.retries),
    }
    metrics({heading(words(name)): value for name, value in numbers.items()})
    if state == RUNNING:
        st.caption(f"{words('current_file')}: {plain(facts.current_file or EMPTY)}")
        _connections(migration, sources)
    elif state:
        _ending(migration, state, sources)


def _of(part: float | None, whole: float | None) -> str:
    return count(part) if whole is None else f"{count(part)} / {count(whole)}"


def _connections(migration: SavedMigration, sources: Sources) -> None:
    words = sources.words
    connections = migration.facts.connections or ()
    states = [words.maybe(f"state_{each.state}", each.state) for each in connections]
    summary = ", ".join(f"{state} {n}" for state, n in Counter(states).items())
    with st.expander(plain(f"{words('connections')}: {summary or EMPTY}")):
        table(
            {
                words("connection"): [str(each.worker) for each in connections],
                words("state"): states,
                words("since_seconds"): [each.seconds for each in connections],
            }
        )


def _ending(migration: SavedMigration, state: str, sources: Sources) -> None:
    """How it ended and, if it can be resumed, the command that does."""
    words = sources.words
    box = getattr(st, BOX.get(state, "error"))
    box(words(f"says_{state}", when=plain(migration.ended)) if state in STATES else plain(state))
    command = migration.facts.resume_command
    if state in (ENDED, "failed", "interrupted") and command:
        st.write(words("how_to_resume"))
        st.code(text(command), language="bash", wrap_lines=True)
    if state != "completed" and (lines := last_lines(migration.folder)):
        with st.expander(words("last_lines")):
            st.code(lines, language=None, wrap_lines=True)


def migrate_command(sources: Sources, cloud: str, setting: Setting) -> str:
    """The command line that migrates to a cloud with a setting, quoted for a shell."""
    command = ["python", "-m", "pgload", "migrate", "--cloud", cloud, "--data", str(sources.data)]
    command += ["--method", setting.method, "--batch-size", str(setting.batch_size)]
    command += ["--connections", str(setting.connections)]
    if sources.outputs != OUTPUT_DIR:
        command += ["--output-dir", str(sources.outputs)]
    return text(shlex.join(command))


def _command(sources: Sources) -> None:
    """Select boxes, and the command line that they make."""
    words = sources.words
    columns = st.columns(4)
    cloud = columns[0].selectbox(
        words("cloud_provider"), CLOUDS, accept_new_options=True, help=words("any_cloud")
    )
    method = columns[1].selectbox(words("method"), METHODS, index=METHODS.index("copy"))
    size = columns[2].selectbox(words("batch_size"), BATCH_SIZES, index=BATCH_SIZES.index(1000))
    connections = columns[3].selectbox(words("connections"), CONNECTIONS)
    command = migrate_command(sources, cloud or CLOUDS[0], Setting(method, size, connections))
    st.code(command, language="bash", wrap_lines=True)


@dataclass(frozen=True)
class FolderFile:
    """A file of the data folder, and its state in the newest migration that has begun it."""

    name: str
    size: int  # bytes
    modified: float  # POSIX time
    migration: SavedMigration | None = None
    state: SavedFile | None = None

    @property
    def status(self) -> str:
        """The status of the file in that migration, or `changed` if it was written to since."""
        if self.migration is None or self.state is None:
            return "pending"
        return "changed" if self.modified > self.migration.started_at else self.state.status


def files_in(data: Path, migrations: list[SavedMigration]) -> list[FolderFile]:
    """The files of the data folder, by name. `migrations`: the newest first.

    Raises `OSError` if the folder cannot be read.
    """
    known: dict[str, tuple[SavedMigration, SavedFile]] = {}
    for migration in migrations:
        for state in migration.files:
            if state.status != "pending":
                known.setdefault(state.file, (migration, state))
    found = []
    for path in sorted(data.iterdir()):
        if path.suffix.lower() in DATA_SUFFIXES and path.is_file():
            name, facts = text(path.name), path.stat()
            newest = known.get(name, (None, None))
            found.append(FolderFile(name, facts.st_size, facts.st_mtime, *newest))
    return found


def _data(sources: Sources) -> None:
    words = sources.words
    migrations = [read_migration(folder) for folder in run_folders(sources.outputs)[:SHOWN_RUNS]]
    if migrations and migrations[0].state == RUNNING:  # it will load all of them
        migrations = migrations[:1]
    folder = plain(sources.data)
    try:
        files = files_in(sources.data, migrations)
    except OSError as error:
        st.info(words("no_data", folder=folder, why=plain(error.strerror)))
        return
    if not files:
        st.info(words("no_files", folder=folder, suffixes=", ".join(DATA_SUFFIXES)))
        return
    size = sum(each.size for each in files)
    st.caption(words("data_sum", folder=folder, n=count(len(files)), size=count(size / 1e6, 1)))
    shown = files[:SHOWN_FILES]
    states = [each.state or SavedFile() for each in shown]
    clouds = [each.migration.facts.cloud_provider if each.migration else None for each in shown]
    table(
        {
            words("file"): [each.name for each in shown],
            words("size"): [each.size for each in shown],
            words("table"): [state.table or EMPTY for state in states],
            words("records"): [each.state.committed if each.state else None for each in shown],
            words("state"): [file_status(each.status, words) for each in shown],
            words("cloud_provider"): [cloud or EMPTY for cloud in clouds],
            words("reason"): [state.error or "" for state in states],
        },
        sizes=[words("size")],
    )
    if len(files) > len(shown):
        st.caption(words("more_files", n=count(len(files) - len(shown))))


def _history(sources: Sources) -> None:
    words = sources.words
    folders = run_folders(sources.outputs)
    migrations = [read_migration(folder) for folder in folders[:SHOWN_RUNS]]
    if not migrations:
        st.caption(words("no_history"))
        return
    facts = [each.facts for each in migrations]
    table(
        {
            words("started"): [each.started for each in migrations],
            words("state"): [status(each.state, words) for each in migrations],
            words("cloud_provider"): [each.cloud_provider or EMPTY for each in facts],
            words("method"): [each.method or EMPTY for each in facts],
            words("batch_size"): [each.batch_size for each in facts],
            words("connections"): [each.num_connections for each in facts],
            words("records"): [each.records for each in migrations],
            words("took_seconds"): [rounded(each.seconds) for each in migrations],
            words("rate_average"): [rounded(each.average_records_per_second) for each in facts],
            words("rejects"): [each.rejects for each in facts],
        }
    )
    if len(folders) > len(migrations):
        st.caption(words("more_runs", n=len(folders) - len(migrations)))
