"""A comparison for other programs: as JSON and as CSV.

Columns and keys are stable: one may be added, none is renamed or changes its meaning.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pgload.contract import Setting
from pgload.report.decision import Comparison, Decision
from pgload.report.measurement import Measurement
from pgload.report.sides import Side
from pgload.report.stats import CONFIDENCE, Verdict

COLUMNS = (
    "records",
    "bytes",
    "method",
    "batch_size",
    "connections",
    "side",
    "baseline",
    "records_per_second",
    "records_per_second_min",
    "records_per_second_max",
    "baseline_records_per_second",
    "ratio",
    "low",
    "high",
    "verdict",
    "rounds",
    "passes",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_max_ms",
    "client_cpu_share",
    "rtt_ms",
    "wal_bytes_per_record",
    "bottleneck",
    "bottleneck_share",
    "dollars_per_million_records",
    "file",
)


def rows(decision: Decision) -> Iterator[dict[str, Any]]:
    """A row for each setting and side, with `COLUMNS`; the baseline's have no ratio."""
    verdicts = {other.side: other.by_setting for other in decision.others}
    base = decision.sides[decision.baseline]
    for setting in decision.settings:
        for name, measured in decision.sides.items():
            if each := measured.get(setting):
                verdict = verdicts.get(name, {}).get(setting)
                yield _row(decision, name, each, base.get(setting), verdict)


def _row(
    decision: Decision,
    side: str,
    each: Measurement,
    base: Measurement | None,
    verdict: Verdict | None,
) -> dict[str, Any]:
    is_base = side == decision.baseline
    price = decision.best[side].cost
    latency = each.latency
    return {
        "records": each.dataset.records,
        "bytes": each.dataset.bytes,
        **_setting(each.setting),
        "side": side,
        "baseline": None if is_base else decision.baseline,
        "records_per_second": each.throughput,
        "records_per_second_min": each.throughput_min,
        "records_per_second_max": each.throughput_max,
        "baseline_records_per_second": base.throughput if base and not is_base else None,
        **_verdict(verdict),
        "rounds": len(each.rounds),
        "passes": len(each.passes),
        "latency_p50_ms": latency.p50 * 1000,
        "latency_p95_ms": latency.p95 * 1000,
        "latency_p99_ms": latency.p99 * 1000,
        "latency_max_ms": latency.max * 1000,
        "client_cpu_share": each.cpu_share,
        "rtt_ms": each.rtt_ms,
        "wal_bytes_per_record": each.wal_bytes_per_record,
        "bottleneck": each.bottleneck,
        "bottleneck_share": each.bottleneck_shares.get(each.bottleneck or ""),
        "dollars_per_million_records": price.at(each.throughput) if price else None,
        "file": each.source,
    }


def _setting(setting: Setting) -> dict[str, Any]:
    return {
        "method": setting.method,
        "batch_size": setting.batch_size,
        "connections": setting.connections,
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"ratio": None, "low": None, "high": None, "verdict": None}
    return {
        "ratio": verdict.ratio,
        "low": verdict.low,
        "high": verdict.high,
        "verdict": verdict.word,
    }


def to_csv(decisions: Sequence[Decision]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for decision in decisions:
        writer.writerows(rows(decision))
    return out.getvalue()


def to_json(comparison: Comparison) -> str:
    """`settings` holds a verdict for each setting that a side and the baseline measured.

    `run_variation` is the standard deviation between runs that intervals include where a side has
    one run, and from how many saved runs it was estimated, beside the assumption.
    """
    decisions = comparison.decisions
    return _by_line(
        {
            "format": 1,
            "confidence": CONFIDENCE,
            "threshold": comparison.threshold,
            "baseline": next(iter(comparison.sides)),
            "sides": [_side(side) for side in comparison.sides.values()],
            "differences": [
                {"fact": each.fact, "values": dict(each.values), "decides": each.decides}
                for each in comparison.differences
            ],
            "not_paired": list(comparison.unpaired),
            "drift": list(comparison.drift),
            "left_out": list(comparison.left_out),
            "settings": [row for decision in decisions for row in _compared(decision)],
            "overall": [
                {
                    "records": decision.dataset.records,
                    "side": other.side,
                    "baseline": decision.baseline,
                    **_verdict(other.overall),
                    "counts": dict(other.counts),
                    "caveats": [str(each) for each in other.caveats],
                }
                for decision in decisions
                for other in decision.others
            ],
            "run_variation": [
                {
                    "records": decision.dataset.records,
                    "side": side,
                    "variation": math.sqrt(each.variance),
                    "saved_runs": each.runs,
                }
                for decision in decisions
                if decision.lone_runs
                for side, each in decision.lone_runs.variations.items()
            ],
            "best": [_best(decision, name) for decision in decisions for name in decision.ranking],
            "measurements": [row for decision in decisions for row in rows(decision)],
        }
    )


def _by_line(document: dict[str, Any]) -> str:
    """JSON with an item of a list on a line: for diffs, and ten times as fast as an indent."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def lines(value: Any) -> str:
        return "[\n  " + ",\n  ".join(map(text, value)) + "\n ]" if value else "[]"

    members = (
        f" {text(key)}: {lines(value) if isinstance(value, list) else text(value)}"
        for key, value in document.items()
    )
    return "{\n" + ",\n".join(members) + "\n}\n"


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "cloud": side.cloud,
        "files": [str(path) for path in side.files],
        "saved": side.newest.saved.isoformat(),
        "facts": dict(side.facts),
    }


def _compared(decision: Decision) -> Iterator[dict[str, Any]]:
    base = decision.sides[decision.baseline]
    for other in decision.others:
        for setting, verdict in other.by_setting.items():
            yield {
                **_setting(setting),
                "records": decision.dataset.records,
                "bytes": decision.dataset.bytes,
                "baseline": decision.baseline,
                "side": other.side,
                "baseline_records_per_second": base[setting].throughput,
                "records_per_second": decision.sides[other.side][setting].throughput,
                **_verdict(verdict),
                "caveats": [str(each) for each in other.caveats],
            }


def _best(decision: Decision, side: str) -> dict[str, Any]:
    best = decision.best[side]
    return {
        "side": side,
        "records": decision.dataset.records,
        **_setting(best.measurement.setting),
        "records_per_second": best.measurement.throughput,
        "bottleneck": best.measurement.bottleneck,
        "near": [{**_setting(setting), **_verdict(verdict)} for setting, verdict in best.near],
        "dollars_per_million_records": best.cost.dollars if best.cost else None,
        "price_per_hour": best.cost.price_per_hour if best.cost else None,
    }
