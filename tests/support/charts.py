"""A decision that every chart can be drawn from, and its plots by name."""

from __future__ import annotations

from pgload.contract import BOTTLENECKS
from pgload.report.decision import Decision
from pgload.report.i18n import Words
from pgload.report.plots import Plot, plots
from tests.support.saved_runs import decision, load

SHARES = dict.fromkeys(BOTTLENECKS, 0.0) | {"client": 0.25, "wal": 0.75}


def grid(*clouds: str) -> Decision:
    """Two methods × three batch sizes × two numbers of connections, measured on each cloud."""
    return decision(
        (
            load(
                cloud,
                method,
                size,
                connections,
                seconds=[1 / connections, 0.9 / connections],
                bottleneck_shares=SHARES,
                profile={"read": 0.1, "encode": 0.2, "write": 0.6, "commit": 0.1},
            )
            for cloud in clouds
            for method in ("copy", "values")
            for size in (1000, 100, 5000)
            for connections in (4, 1)
        ),
        servers={cloud: {"price_per_hour": 0.36} for cloud in clouds},
    )


def plots_by_name(of: Decision, language: str = "en") -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(of, Words(language))[0]}
