"""What an SQLSTATE means: another attempt may succeed, or the record is at fault."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgload.errors import RecordError, RefusedLoginError

if TYPE_CHECKING:
    pass

NOT_NULL, FOREIGN_KEY = "23502", "23503"
UNTRANSLATABLE = "22P05"  # \u0000, which no text can hold
# These need a new connection, perhaps to another server: since a failover this one takes no writes,
# or its disk is full.
RECONNECT_STATES = ("25006", "53100")
# SQLSTATEs, or their first characters, after which another attempt may succeed: lost connections;
# too many of them; out of memory; a server that stops, crashes or starts; serialization failure,
# deadlock, lock timeout, a canceled query.
TRANSIENT_STATES = (
    "08", "53200", "53300", "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "57014",
    *RECONNECT_STATES,
)  # fmt: skip
# Those that are the record's fault: a value, a constraint, a view or a trigger that refuses it
# (also by the states that the SQL standard has for those), a row that is too large.
DATA_STATES = ("09", "21", "22", "23", "27", "2F", "38", "39", "44", "45", "54", "P0")
# The classes that PostgreSQL uses itself (appendix A of its manual). A state of any other class
# comes from a trigger that refuses the record with a state of its own.
KNOWN_CLASSES = (
    "00", "01", "02", "03", "08", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "24", "25", "26",
    "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55", "57", "58", "72", "F0", "HV",
    "XX",
)  # fmt: skip
# A value that its type refuses; the server names the column only where it reads text (COPY).
VALUE_STATES = "22"
_COLUMN_IN_CONTEXT = re.compile(r'COPY .+, line 1, column (.+?)(?:: ".*|: null input)?')


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


def is_data_error(error: Exception) -> bool:
    """Whether the record is at fault."""
    state = getattr(error, "pgcode", None)
    if state is None:
        return isinstance(error, RecordError)
    return state.startswith(DATA_STATES) or not state.startswith(KNOWN_CLASSES)


def is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    import psycopg2

    if isinstance(error, RefusedLoginError):
        return False
    state = getattr(error, "pgcode", None)
    if state is None:  # libpq's own errors, such as a lost connection; not the driver's
        return not isinstance(error, psycopg2.ProgrammingError)
    return bool(state.startswith(TRANSIENT_STATES))


def must_reconnect(error: Exception) -> bool:
    """Whether another attempt may succeed on a new connection only."""
    return getattr(error, "pgcode", None) in RECONNECT_STATES


def is_value_error(error: Exception) -> bool:
    """Whether a single value was refused by its column's type."""
    return (getattr(error, "pgcode", None) or "").startswith(VALUE_STATES)
