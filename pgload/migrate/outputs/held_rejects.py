"""Rejects of batches that are being committed: in a file of their own until it is known.

They have to be on the disk before the commit, or a process that is killed right after it would lose
them. But in `rejects.jsonl` there are only those of committed batches. So a worker's file holds the
rejects of its batch, after a first line that says which batch it is. After the commit they go to
`rejects.jsonl`. By the ledger, a later run decides on those that a killed process has left.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pgload.contract import HELD_REJECTS, REJECTS, to_json
from pgload.migrate.ledger.entries import BatchKey
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.outputs.files import AppendFile, replace_file
from pgload.migrate.outputs.rejects import Reject, reject_line
from pgload.migrate.outputs.run_dir import is_running


class HeldRejects:
    """The held rejects of a run's workers, each of one batch. Methods may raise `OutputError`."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._held: dict[int, Sequence[Reject]] = {}

    def hold(self, worker: int, batch: BatchKey | None, rejects: Sequence[Reject]) -> None:
        """Put a batch's rejects on the disk, instead of those that the worker has held before.

        `batch` is None without a ledger.
        """
        lines = [to_json({"batch": batch}) + b"\n", *map(reject_line, rejects)]
        replace_file(self._path(worker), lines, durable=True, mode=0o600)  # they are records
        self._held[worker] = rejects

    def get(self, worker: int) -> Sequence[Reject]:
        """What the worker holds."""
        return self._held.get(worker, ())

    def drop(self, worker: int) -> None:
        """Forget them: they are in `rejects.jsonl`, or their batch was not committed."""
        if self._held.pop(worker, None):
            self._path(worker).unlink(missing_ok=True)

    def _path(self, worker: int) -> Path:
        return self._run_dir / HELD_REJECTS.replace("*", str(worker))


class _Head(msgspec.Struct):
    """The first line of a worker's file."""

    batch: BatchKey | None


def settle_rejects(output_dir: Path, ledger: Ledger) -> Iterator[str]:
    """Decide what became of rejects that killed runs have held; returns a note for each batch.

    Where the ledger has the batch by that run, they go to that run's `rejects.jsonl`; where another
    run has written it, they are removed. Where the ledger does not have it they stay: a server may
    still be committing it.
    """
    runs = output_dir / "runs"
    for path in runs.glob(f"*/.{HELD_REJECTS}.tmp"):  # of a run that was killed while it wrote it
        if not is_running(path.parent):
            path.unlink(missing_ok=True)
    for path in sorted(runs.glob(f"*/{HELD_REJECTS}")):
        run_dir = path.parent
        if run_dir.is_symlink() or is_running(run_dir):
            continue
        with suppress(OSError, ValueError):  # removed meanwhile, or not ours
            head, *lines = path.read_bytes().splitlines(keepends=True)
            batch = msgspec.json.decode(head, type=_Head).batch
            writer = ledger.writer_of(batch) if batch else None
            if batch is None or writer is None:
                continue
            if writer == batch.run:
                _append_missing(run_dir / REJECTS, lines)
                yield f"rejects of a run that was killed, {len(lines):,}: see {run_dir / REJECTS}"
            path.unlink(missing_ok=True)


def _append_missing(path: Path, lines: Sequence[bytes]) -> None:
    """Append the lines that the file does not have, as the run may have been killed meanwhile."""
    there, wanted, whole = Counter[bytes](), set(lines), 0  # bytes of whole lines
    if path.exists():
        with path.open("rb") as content:
            for line in content:
                if line.endswith(b"\n"):
                    whole += len(line)
                    there.update([line] if line in wanted else [])
        os.truncate(path, whole)
    missing = Counter(lines) - there
    file = AppendFile(path)
    try:
        file.append(b"".join(missing.elements()), durable=True)
    finally:
        file.close()
