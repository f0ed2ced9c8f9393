"""What an error says: whether it passes, whether a record is at fault, and with which column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgload.errors import RecordError
from pgload.migrate.rejects import Reject
from pgload.source.reader import Batch

if TYPE_CHECKING:
    import psycopg2

# SQLSTATEs, or their first characters, after which another attempt may succeed: lost connections;
# too many of them; no memory; a server that ends, crashes or starts; serialization failure,
# deadlock, a lock or a query that was given up.
RETRIED = ("08", "53200", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "57014")
# Those that are a record's fault: a value, a constraint, a view's or a trigger's refusal (also with
# the states that the SQL standard has for those), a row that is too large.
REJECTED = ("09", "21", "22", "23", "27", "2F", "38", "39", "44", "45", "54", "P0")
BAD_VALUE = "22"  # of which the server names the column only where it reads text, as in COPY
_COLUMN_IN_CONTEXT = re.compile(r'COPY .+, line 1, column (.+?)(?:: ".*|: null input)?')


def make_reject(
    table: str, part: Batch, column: str | None, error: psycopg2.Error | RecordError
) -> Reject:
    """The record that `part` is, with what was wrong with it."""
    said = error.reason if isinstance(error, RecordError) else error.diag.message_primary
    return Reject(
        file=part.path.name,
        record=part.first_record,
        offset=part.offset(part.first_record),
        table=table,
        column=column,
        sqlstate=getattr(error, "pgcode", None),
        message=said or str(error),
        data=part.records[0],
    )


def column_of(error: Exception) -> str | None:
    """The column that an error names."""
    if isinstance(error, RecordError):
        return error.column
    diag = getattr(error, "diag", None)
    if diag is None:
        return None
    context = (diag.context or "").split("\n")[0]
    found = None if diag.column_name else _COLUMN_IN_CONTEXT.fullmatch(context)
    return diag.column_name or (found[1] if found else None)


def is_the_data(error: Exception) -> bool:
    """Whether a record is at fault."""
    state = getattr(error, "pgcode", None)
    return isinstance(error, RecordError) or bool(state and state.startswith(REJECTED))


def may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    state = getattr(error, "pgcode", None)
    # libpq's own errors, such as a connection that was cut, have no state.
    return state is None or state.startswith(RETRIED)


def is_a_value(error: Exception) -> bool:
    """Whether it is one value that its column does not take."""
    return (getattr(error, "pgcode", None) or "").startswith(BAD_VALUE)
