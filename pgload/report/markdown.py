"""A comparison as Markdown that fits in a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgload.report.decision import Against, Decision
from pgload.report.stats import FASTER, NOISY, SLOWER

MARKS = {FASTER: "🟢", SLOWER: "🔴", NOISY: "🟡"}
ROWS = 60  # of a table that fits into a pull request; the changed ones first


def to_markdown(decisions: Sequence[Decision]) -> str:
    """For a pull request: the decision, and tables with what changed first."""
    return "\n".join(line for decision in decisions for line in _markdown(decision)) + "\n"


def _markdown(decision: Decision) -> Iterator[str]:
    best = decision.best[decision.fastest].measurement
    yield f"### {decision.dataset}"
    yield ""
    yield (
        f"Fastest: **{_escaped(decision.fastest)}** with {best.setting}: "
        f"**{best.throughput:,.0f} records/s**."
    )
    if decision.lead:
        yield (
            f"{decision.lead} times {_escaped(decision.ranking[1])} at its best: "
            f"**{decision.lead.word}**."
        )
    if cheapest := decision.cheapest:
        cost = decision.best[cheapest].cost
        yield f"Cheapest: **{_escaped(cheapest)}**, {cost}, per million records."
    yield ""
    shown = [other for other in decision.others if other.side in decision.shown]
    for other in shown:
        yield from _markdown_table(decision, other)
    if len(shown) < len(decision.others):
        yield f"… and {len(decision.others) - len(shown)} slower sides, in compare.csv."


def _markdown_table(decision: Decision, other: Against) -> Iterator[str]:
    for caveat in other.caveats:
        yield f"> ⚠️ {_escaped(str(caveat))}"
    yield ""
    base, ours = decision.sides[decision.baseline], decision.sides[other.side]
    yield (
        f"| setting | {_escaped(decision.baseline)}, records/s | {_escaped(other.side)}, records/s "
        "| ratio (95%) | verdict |"
    )
    yield "|---|---:|---:|---:|---|"
    order = (SLOWER, FASTER)
    changed_first = sorted(
        other.by_setting.items(),
        key=lambda item: order.index(item[1].word) if item[1].word in order else len(order),
    )
    for setting, verdict in changed_first[:ROWS]:
        yield (
            f"| {setting} | {base[setting].throughput:,.0f} | {ours[setting].throughput:,.0f} "
            f"| {verdict} | {MARKS.get(verdict.word, '⚪')} {verdict.word} |"
        )
    if len(changed_first) > ROWS:
        yield ""
        yield f"… and {len(changed_first) - ROWS} more settings, in compare.csv."
    yield ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
