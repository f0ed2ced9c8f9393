"""What is shown of a running migration."""

from __future__ import annotations

from collections.abc import Iterable

from pgload.contract import duration, one_line
from pgload.migrate.console import LINE_EVERY, Display
from pgload.migrate.outputs.progress import ConnectionState, Snapshot

NORMAL_STATES = ("writing", "waiting")  # of connections


def display(snapshot: Snapshot) -> Display:
    """What is shown of a run at one moment."""
    files = f"{snapshot.files_completed + snapshot.files_failed} of {snapshot.total_files} done"
    return Display(
        percent=snapshot.percent,
        texts={
            "records": _records(snapshot),
            "speed": _speeds(snapshot),
            "rejected": f"{snapshot.rejects:,} records{_retries(snapshot)}",
            "connections": _connections(snapshot.connections),
            "files": f"{files}, {one_line(snapshot.current_file or 'none begun')}",
        },
        line=_line(snapshot),
        red=["rejected"] if snapshot.rejects else [],
    )


def _line(snapshot: Snapshot) -> str:
    """The run in one line, like

    1,000,000 of 5,000,000 records (20%), 41,000 records/s, 1 min 38 s left, 0 rejected
    """
    parts = [_records(snapshot), f"{snapshot.records_per_second:,.0f} records/s"]
    if snapshot.eta_seconds is not None and snapshot.status == "running":
        parts.append(f"{duration(snapshot.eta_seconds)} left")
    for name in ("updated", "skipped", "suppressed"):
        if number := getattr(snapshot, name):
            parts.append(f"{number:,} {name}")
    parts.append(f"{snapshot.rejects:,} rejected{_retries(snapshot)}")
    others = [each for each in snapshot.connections if each.state not in NORMAL_STATES]
    if others and snapshot.status == "running":
        parts.append(f"connections: {_connections(others)}")
    return ", ".join(parts)


def _records(snapshot: Snapshot) -> str:
    # Rounded down, so that 100% means all of them.
    return (
        f"{snapshot.total_records_processed:,} of {snapshot.total_records:,} records "
        f"({int(snapshot.percent)}%)"
    )


def _speeds(snapshot: Snapshot) -> str:
    left = "" if snapshot.eta_seconds is None else f", {duration(snapshot.eta_seconds)} left"
    return (
        f"{snapshot.records_per_second:,.0f} records/s now, "
        f"{snapshot.average_records_per_second:,.0f} on average"
        f"{left if snapshot.status == 'running' else ''}"
    )


def _retries(snapshot: Snapshot) -> str:
    return f", {snapshot.retries:,} retries" if snapshot.retries else ""


def _connections(connections: Iterable[ConnectionState]) -> str:
    """How many are in which state, and how long the longest if that is long: `3 lost (12 s)`."""
    states: dict[str, list[float]] = {}
    for each in connections:
        states.setdefault(one_line(each.state), []).append(each.seconds)
    return ", ".join(
        f"{len(seconds)} {state}"
        + (f" ({duration(max(seconds))})" if max(seconds) >= LINE_EVERY else "")
        for state, seconds in states.items()
    )
