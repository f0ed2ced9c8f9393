"""What the numbers of a run depend on beside the setting: server, client, distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pgload.report.runs import Run

# Facts that say nothing about speed, or that stand elsewhere in the report.
ELSEWHERE = ("build", "price_per_hour", "price_date", "settings", "non_default")
# Where sides differ in one of these, the numbers compare it rather than the sides.
DECISIVE = {
    "setting fsync": "durability",
    "setting synchronous_commit": "durability",
    "setting full_page_writes": "durability",
    "client cpu": "client machine",
    "client cores": "client machine",
    "server rtt_asked_ms": "distance",
}


@dataclass(frozen=True)
class Difference:
    """One fact in which sides differ."""

    fact: str
    values: Mapping[str, str]  # side → value, of the sides that recorded it
    decides: str | None  # durability, client machine, distance; None: worth knowing

    def __str__(self) -> str:
        """`durability: setting fsync on / off`."""
        kind = f"{self.decides}: " if self.decides else ""
        return f"{kind}{self.fact} {' / '.join(self.values.values())}"


def facts(run: Run) -> dict[str, str]:
    """What is known of a run's server and client, flat: `setting fsync` → `on`."""
    server = {name: value for name, value in run.server.items() if name not in ELSEWHERE}
    settings = {**_mapping(run.server.get("non_default")), **_mapping(run.server.get("settings"))}
    known = {f"server {name}": value for name, value in server.items()}
    known |= {f"setting {name}": value for name, value in settings.items()}
    known |= {f"client {name}": value for name, value in run.client.items()}
    return {name: f"{value}" for name, value in known.items() if value is not None}


def differences(by_side: Mapping[str, Mapping[str, str]]) -> list[Difference]:
    """In what the sides' facts differ, the decisive first.

    What a side did not record is not a difference: older files hold less.
    """
    names = {name for known in by_side.values() for name in known}
    found = []
    for name in sorted(names, key=lambda name: (name not in DECISIVE, name)):
        values = {side: known[name] for side, known in by_side.items() if name in known}
        if len(set(values.values())) > 1:
            found.append(Difference(name, values, DECISIVE.get(name)))
    return found


def alike(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two runs of a cloud may be pooled: the same server, settings and kind of client."""

    def server(known: Mapping[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in known.items()
            if name in DECISIVE or not name.startswith("client ")
        }

    return server(one) == server(other)


def caveats(by_side: Mapping[str, Mapping[str, str]]) -> tuple[Difference, ...]:
    """In what the sides differ that decides the result, so that a verdict has to say it."""
    return tuple(each for each in differences(by_side) if each.decides)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
