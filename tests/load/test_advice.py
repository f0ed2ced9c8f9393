"""Advice fits the setting that was measured; needs no server."""

from __future__ import annotations

import pytest

from pgload.contract import BOTTLENECKS, METHODS
from pgload.load.advice import Circumstances, advice


@pytest.mark.parametrize("name", BOTTLENECKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("connections", [1, 10])
@pytest.mark.parametrize("bandwidth", [False, True])
def test_nothing_that_is_done_already(
    name: str, method: str, connections: int, bandwidth: bool
) -> None:
    """A load by copy is not advised to use copy, nor one connection to use fewer."""
    text = advice([name], Circumstances(method, connections, bandwidth))
    assert method != "copy" or "copy" not in text
    assert connections > 1 or "fewer of them" not in text
    assert text[0].islower()


def test_every_bottleneck_has_its_own() -> None:
    """No two bottlenecks have the same advice."""
    assert len({advice([name], Circumstances()) for name in BOTTLENECKS}) == len(BOTTLENECKS)


def test_event_of_a_wait() -> None:
    """A wait within the server is reported with its event."""
    assert "(Timeout:PgSleep)" in advice(["server_wait"], Circumstances(), "Timeout:PgSleep")


@pytest.mark.parametrize(("others", "reported"), [(0.05, False), (0.4, True)])
def test_other_processes(others: float, reported: bool) -> None:
    """Other processes are reported once they use a considerable part of the processors."""
    text = advice(["client"], Circumstances(same_machine=True, others=others))
    assert ("other processes used 40% of this machine's processors" in text) == reported
    assert "client and server share the processors of one machine" in text


def test_hidden_states() -> None:
    """A privilege is recommended only where the server hides its states."""
    assert "GRANT" in advice(["unknown"], Circumstances(hidden=True))
    assert "GRANT" not in advice(["unknown"], Circumstances())


def test_several_loads() -> None:
    """The other processes' share is the mean over the loads of a setting."""
    loads = [Circumstances("copy", 4, others=share) for share in (0.1, 0.3)]
    assert Circumstances.of(loads) == Circumstances("copy", 4, others=0.2)
    assert Circumstances.of([]) == Circumstances()
