"""What a dry run reports besides the plan: which records would be rejected."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Raw

from pgload.contract import Setting
from pgload.errors import RecordError
from pgload.load.encode import RowEncoder
from pgload.migrate.plan import FilePlan
from pgload.migrate.writing.input_check import check_input
from pgload.source.reader import Batch, read_records

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

FIRST = 1000  # records of a file that are checked from its beginning on
SPREAD = 1000  # about as many of the others, at equal distances
SHOWN = 3  # of the reasons for which records of a file would be rejected

# Lines on how long the load of so many records and bytes takes on a cloud, with this setting, at
# this price in US dollars an hour, if it is known.
Forecast = Callable[[str, Setting, int, int, float | None], Iterator[str]]


class SampleCheck(NamedTuple):
    """How many records of a file were checked, and why some would be rejected, by their number."""

    checked: int
    refused: dict[int, str]


def check_sample(file: FilePlan, connection: Connection) -> SampleCheck:
    """Check records from all of a file against the types of the columns; writes nothing.

    Needs no privilege, since no table is used.
    """
    batch = sample(file)
    encoder, refused = RowEncoder(file.table.columns), dict[int, str]()
    for at, number in enumerate(batch.numbers):
        try:
            encoder.check(batch.select([at]))
        except RecordError as error:
            column = f"column {error.column}: " if error.column else ""
            refused[number] = f"{column}{error.reason}"
    with connection.cursor() as cursor:
        cursor.execute("BEGIN READ ONLY")
        try:
            found = check_input(cursor, file.table, batch)
        finally:
            cursor.execute("ROLLBACK")
    for at, refusal in found.items():
        refused.setdefault(batch.numbers[at], f"column {refusal.column}: {refusal.message}")
    return SampleCheck(len(batch.records), dict(sorted(refused.items())))


def sample(file: FilePlan) -> Batch:
    """Records from all of the file."""
    total = file.scan.records
    step = max((total - FIRST) // SPREAD, 1)
    numbers = [*range(1, min(FIRST, total) + 1), *range(FIRST + step, total + 1, step)]
    records: list[Raw] = []
    first = 1
    for window in read_records(file.scan.source, file.scan.stamp, file.scan.form):
        end = bisect_left(numbers, first + len(window))
        # Copies, as a record would keep its whole window in memory.
        records += [window[number - first].copy() for number in numbers[len(records) : end]]
        first += len(window)
    return Batch(file.path, 1, records, selected=numbers)


def describe_checks(checks: dict[str, SampleCheck], records: int) -> Iterator[str]:
    """Lines on the checks of files, by name, which hold so many records in all."""
    checked = sum(each.checked for each in checks.values())
    refused = sum(len(each.refused) for each in checks.values())
    for name, check in checks.items():
        if check.refused:
            count = len(check.refused)
            yield f"{name}: {count:,} of {check.checked:,} records checked would be rejected"
            numbers: dict[str, list[int]] = {}
            for number, why in check.refused.items():
                numbers.setdefault(why, []).append(number)
            for why, (first, *others) in islice(numbers.items(), SHOWN):
                yield f"  record {first}{f' and {len(others):,} more' if others else ''}: {why}"
            if len(numbers) > SHOWN:
                yield f"  and {len(numbers) - SHOWN:,} more reasons"
    if checks:
        all_ = "all" if checked == records else f"{checked:,} of"
        outcome = f"{refused:,} of them are refused" if refused else "none is refused"
        yield f"checked against the columns' types: {all_} {records:,} records, {outcome}"
