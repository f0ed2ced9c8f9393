"""Which files of a migration are begun, and which are done: their batches end in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from pgload.errors import SourceError
from pgload.load.stats import BatchStat
from pgload.migrate.console import say
from pgload.migrate.outputs import Outputs
from pgload.migrate.snapshot import FileFacts


class FilesInWork:
    """Tells the outputs of files as they are begun, written and done."""

    def __init__(self, out: Outputs) -> None:
        self._out = out
        self._lock = Lock()
        self._open = Counter[str]()  # batches of a file that are handed out and not written
        self._errors: dict[str, str | None] = {}  # of files that are handed out to their end

    @contextmanager
    def handing_out(self, file: FileFacts) -> Iterator[None]:
        """Around the reading of one file. One that cannot be read further keeps no other file."""
        error = None
        self._out.file_started(file)
        self.handed_out(file.name)  # so that it is not done before it is handed out to its end
        try:
            yield
        except SourceError as trouble:
            error = str(trouble)
            say(f"pgload: {error}")
        self._errors[file.name] = error
        self._close(file.name)

    def handed_out(self, name: str) -> None:
        """A batch of the file is on its way."""
        with self._lock:
            self._open[name] += 1

    def written(self, stat: BatchStat) -> None:
        """A batch is done with."""
        self._out.batch(stat)
        self._close(stat.file)

    def _close(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            done = not self._open[name]
        if done:
            self._out.file_finished(name, self._errors[name])
