"""What tests share about the checkout, and the environment of the processes that they start."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
SECRET = "a-secret-word"  # a password that must not be in any output
_REMOVED = re.compile(r"PYTEST|.*_DB_|.*_DATABASE_URL|CLOUD_PROVIDER|ENV$")


def environment() -> dict[str, str]:
    """This process's variables without pytest's own and without the clouds configured in them."""
    return {name: value for name, value in os.environ.items() if not _REMOVED.match(name)}
