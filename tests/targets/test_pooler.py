"""A pooler between client and server is noticed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from pgload.errors import TargetError
from pgload.targets.delay import delayed
from pgload.targets.pooler import is_pooled
from pgload.targets.target import Target
from tests.support.pooler import pooled


def test_direct(server: Target) -> None:
    """A connection to the server is not pooled, nor is one through a proxy that only forwards."""
    with delayed(server, 1) as distant:
        for target in (server, distant):
            with closing(target.connect()) as connection:
                assert not is_pooled(connection)


def test_pooled(server: Target) -> None:
    """A connection through a pooler is, whether or not the pooler has a server for it already."""
    with pooled(server) as target:
        for _ in range(2):
            with closing(target.connect()) as connection:
                assert is_pooled(connection)
                assert is_pooled(connection)


def test_strings_with_escapes(server: Target) -> None:
    """A setting that a pooler may not keep is not made through it, but refused with what to do."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE escaping LOGIN SUPERUSER")
        cursor.execute("ALTER ROLE escaping SET standard_conforming_strings = off")
        changes = {"user": "escaping", "dbname": "postgres"}
        escaping = replace(server, parameters={**server.parameters, **changes})
        try:
            with (
                pooled(escaping) as target,
                pytest.raises(TargetError, match="ALTER ROLE … SET standard_conforming_strings"),
            ):
                target.connect()
        finally:
            cursor.execute("DROP ROLE escaping")
