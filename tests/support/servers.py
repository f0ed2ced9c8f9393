"""Embedded servers for tests, which share one run of initdb."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from pgload.targets.embedded import embedded as start_embedded
from pgload.targets.target import Target


def embedded(**settings: str) -> AbstractContextManager[Target]:
    """As `pgload.targets.embedded.embedded`, with the tests' cluster; see tests/conftest.py."""
    return start_embedded(Path(os.environ["EMBEDDED_CACHE"]), **settings)
