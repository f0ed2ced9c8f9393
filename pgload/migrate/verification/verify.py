"""`--verify` and the `verify` command: whether the rows of the files are in their tables.

Rows that were there before do not matter, and a row that was lost or changed is missing. After
`--on-conflict` only the keys are compared, since a later record may have replaced the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pgload.errors import UsageError
from pgload.load.verify import ROW_HASH, Fingerprint, fingerprint
from pgload.migrate.console import show
from pgload.migrate.ledger.entries import EMPTY, Entry, FileKey
from pgload.migrate.ledger.ledger import Ledger
from pgload.migrate.outputs.rejects import rejected_numbers
from pgload.migrate.plan import FilePlan
from pgload.migrate.verification.accounting import FileAccount
from pgload.migrate.verification.progress import VerifyProgress
from pgload.migrate.verification.results import VerifiedFile, VerifiedTable
from pgload.migrate.verification.rows import (
    FileRows,
    HashJoin,
    Surplus,
    compared_tables,
    count_rows,
    exists,
    file_rows,
    key_hash,
    sum_records,
)
from pgload.schema.keys import conflict_key
from pgload.source.reader import Batch, read_batches

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

BATCH = 1000  # records that the server hashes at a time
KEPT = 1000  # differing batches of a file in the results

Result = TypeVar("Result")


class OnServer(Protocol):
    """Runs an action with the connection, again after transient errors."""

    def __call__(self, action: Callable[[Connection], Result], /) -> Result: ...


def verify(
    files: Sequence[FilePlan],
    on_server: OnServer,
    ledger: Ledger | None,
    *,
    by_key: bool | None,
    output_dir: Path,
    progressed: Callable[[], None],
) -> list[VerifiedTable]:
    """Compare the files with their tables, and show the progress; writes only temporary tables.

    `by_key` is whether only keys are compared; None: for tables of which the ledger, if there is
    one, has skipped or updated rows. The rejects in the `output_dir` say which records of a batch
    they are. `progressed` is called when more records than ever before are compared.
    """
    progress = VerifyProgress(sum(file.scan.records for file in files), progressed)
    entries: Mapping[FileKey, Entry] = {}
    if ledger is not None:
        entries = on_server(lambda _: ledger.look_up([file.in_ledger for file in files]))
    rejected = rejected_numbers(output_dir)
    tables: dict[tuple[str | None, str], list[FilePlan]] = {}
    for file in files:
        tables.setdefault((file.table.schema, file.table.name), []).append(file)
    with show(lambda: progress.display):
        return [
            _TableCheck(each, entries, on_server, ledger, rejected).run(by_key, progress)
            for each in tables.values()
        ]


class _TableCheck:
    """The comparison of one table with its files."""

    def __init__(
        self,
        files: Sequence[FilePlan],
        entries: Mapping[FileKey, Entry],
        on_server: OnServer,
        ledger: Ledger | None,
        rejected: Mapping[str, Collection[int]],
    ) -> None:
        self._files = files
        self._table = files[0].table
        self._entries = [entries.get(file.in_ledger.key) for file in files]
        self._on_server = on_server
        self._ledger = ledger
        self._rejected = rejected
        self._accounts: dict[int, FileAccount] = {}  # by file: of those that lack rows

    def run(self, by_key: bool | None, progress: VerifyProgress) -> VerifiedTable:
        """Compare; the sums first where they can be equal, else each row."""
        self._progress, start = progress, progress.done
        if not self._on_server(partial(exists, self._table)):
            for index, file in enumerate(self._files):
                account = self._on_server(partial(self._account, index))
                for number in range(1, file.scan.records + 1):
                    account.lacks(number)
            return self._result(Fingerprint(0, 0), Surplus(0, None), by_key=False)
        key = self._on_server(partial(self._key, by_key))
        tables = self._on_server(
            lambda connection: compared_tables([f.table for f in self._files], key, connection)
        )
        groups: dict[tuple[str, ...], list[FileRows]] = {}
        for index, table in enumerate(tables):
            names = tuple(column.name for column in table.columns)
            rows = self._on_server(partial(file_rows, index, table))
            groups.setdefault(names, []).append(rows)
        if key is None and len(groups) == 1 and (total := self._equal_sums(*groups.values())):
            return self._result(total, Surplus(0, None), by_key=False)
        total, surplus = Fingerprint(0, 0), Surplus(0, None)

        def join(connection: Connection) -> None:
            nonlocal total, surplus
            progress.restart(start)
            self._accounts.clear()
            found = [self._join(each, connection, key) for each in groups.values()]
            if len(found) == 1 and key is None:
                total, surplus = found[0]
            else:  # one row may be found by records of different columns
                total = fingerprint(self._table, connection)

        self._on_server(join)
        return self._result(total, surplus, by_key=key is not None)

    def _key(self, by_key: bool | None, connection: Connection) -> Sequence[str] | None:
        """The key that is compared; None for whole rows."""
        if by_key is None and self._ledger is not None:
            if self._ledger.has_conflicts(self._table):
                try:
                    return conflict_key(self._table, connection)
                except UsageError:  # the key was dropped since
                    return None
            return None
        return conflict_key(self._table, connection) if by_key else None

    def _equal_sums(self, files: Sequence[FileRows]) -> Fingerprint | None:
        """The table's fingerprint if it is the sum of that of the records; else None.

        It is not computed if there are not as many rows as records should have been written.
        """
        table = files[0].table
        written = sum(
            file.scan.records - (entry.rejected + entry.counts.not_written if entry else 0)
            for file, entry in zip(self._files, self._entries, strict=True)
        )
        if self._on_server(partial(count_rows, table)) != written:
            return None
        rows = checksum = 0
        for file in files:
            for batch in self._batches(file):
                sums, bad = self._on_server(
                    partial(sum_records, file, batch.first_record, batch.records)
                )
                rows, checksum = rows + sums.rows, checksum + sums.checksum
                if bad:
                    account = self._on_server(partial(self._account, file.index))
                    for number in bad:
                        account.lacks(number)
        self._progress.state = f"comparing with table {table.name}"
        total = self._on_server(partial(fingerprint, table))
        explained = not any(account.missing for account in self._accounts.values())
        return total if total == Fingerprint(rows, checksum) and explained else None

    def _join(
        self, files: Sequence[FileRows], connection: Connection, key: Sequence[str] | None
    ) -> tuple[Fingerprint, Surplus]:
        """Compare each row of files that fill the same columns."""

        def lacks(index: int, number: int) -> None:
            self._account(index).lacks(number)

        table = files[0].table
        of_key = key is not None and {each.name for each in table.columns} == set(key)
        with HashJoin(connection, key_hash(table, connection) if of_key else ROW_HASH) as join:
            for file in files:
                for batch in self._batches(file):
                    for number in join.add(file, batch.first_record, batch.records):
                        lacks(file.index, number)
            self._progress.state = f"comparing with table {self._table.name}"
            total = join.count(table)
            join.find_absent(lacks)
            if key is not None:  # one row is enough for all records of a key
                return total, Surplus(0, None)
            return total, join.find_uneven(
                lacks,
                [
                    lambda index, number: self._account(index).is_rejected(number),
                    lambda index, number: self._account(index).may_lack(number),
                ],
            )

    def _batches(self, file: FileRows) -> Iterator[Batch]:
        plan = self._files[file.index]
        self._progress.state = plan.path.name
        for batch in read_batches(plan.scan.source, BATCH, plan.scan.stamp, plan.scan.form):
            yield batch
            self._progress.add(len(batch.records))

    def _account(self, index: int, _connection: Connection | None = None) -> FileAccount:
        if index not in self._accounts:
            file, entry, batches = self._files[index], self._entries[index], None
            if (ledger := self._ledger) is not None and entry is not None:
                batches = ledger.batches(file.in_ledger)
            name = file.path.name
            self._accounts[index] = FileAccount(
                name,
                file.scan.records,
                batches,
                self._rejected.get(name, ()),
                divided=bool(entry and entry.partitions),
            )
        return self._accounts[index]

    def _result(self, total: Fingerprint, surplus: Surplus, *, by_key: bool) -> VerifiedTable:
        files = []
        for index in range(len(self._files)):
            files.append(self._on_server(partial(self._file, index)))
        example = None
        if surplus.example is not None:
            index, number = surplus.example
            example = f"record {number} of {self._files[index].path.name}"
        missing = sum(each.missing for each in files)
        return VerifiedTable(
            table=self._table.name,
            rows=total.rows,
            other_rows=None if by_key else max(total.rows - sum(each.found for each in files), 0),
            doubled=surplus.rows,
            doubled_example=example,
            checksum=str(total.checksum),
            by_key=by_key,
            missing=missing,
            verified=not missing and not any(each.uncommitted for each in files),
            files=sorted(files, key=lambda each: each.file),
        )

    def _file(self, index: int, _connection: Connection) -> VerifiedFile:
        file, entry = self._files[index], self._entries[index]
        recorded = entry or EMPTY
        read = file.scan.records
        uncommitted = read - sum(entry.batches.values()) if entry else 0
        account = self._account(index) if uncommitted or index in self._accounts else None
        differing = list(account.differing()) if account else []
        return VerifiedFile(
            file=file.path.name,
            table=file.table.name,
            read=read,
            found=read - (account.lacking if account else 0),
            written=recorded.records - recorded.counts.updated,
            rejected=recorded.rejected,
            assumed_rejected=account.assumed_rejected if account else 0,
            **recorded.counts._asdict(),
            in_ledger=entry is not None,
            uncommitted=uncommitted,
            missing=account.missing if account else 0,
            batches_differing=len(differing),
            differing=differing[:KEPT],
        )
