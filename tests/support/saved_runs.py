"""Builds files such as pytest-benchmark 5.3.1 saves them, small enough to read in a test."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pgload.contract import Setting
from pgload.report.decision import Comparison, Decision, compare_sides
from pgload.report.measurement import Measurement, measurement
from pgload.report.saved import SavedRun
from pgload.report.sides import make_sides


def load(
    cloud: str = "GCP",
    method: str = "values",
    batch_size: int = 1000,
    connections: int = 1,
    *,
    seconds: Sequence[float] = (1.0, 0.8, 1.25),
    records: int = 20_000,
    **extra_info: Any,
) -> dict[str, Any]:
    """The saved benchmark of one load; `extra_info` adds to what the suite records."""
    params = {
        "cloud": cloud,
        "method": method,
        "batch_size": batch_size,
        "connections": connections,
    }
    name = f"test_load[{method}-{batch_size}-{connections}]"
    return {
        "group": None,
        "name": name,
        "fullname": f"benchmarks/test_load.py::{name}",
        "params": params,
        "param": f"{method}-{batch_size}-{connections}",
        "extra_info": {
            "records": records,
            "bytes": records * 2400,
            "records_per_second": records / statistics.median(seconds),
            "batch_latency": {"p50": 0.035, "p95": 0.0412, "p99": 0.052, "max": 0.1},
            "client": {"cpu_seconds": 0.25, "cpu_share": 0.25},
            "encode": 0.2,
            "write": 0.7,
            "commit": 0.1,
            "rtt_ms": 1.5,
            "wal_bytes_per_record": 2600.0,
            "verified": True,
            "retries": 0,
            **extra_info,
        },
        "options": {"disable_gc": False, "timer": "perf_counter"},
        "stats": {
            "min": min(seconds),
            "max": max(seconds),
            "mean": statistics.fmean(seconds),
            "median": statistics.median(seconds),
            "rounds": len(seconds),
            "data": list(seconds),
            "iterations": 1,
        },
    }


def reading() -> dict[str, Any]:
    """The saved benchmark of reading files alone: no cloud and no setting."""
    benchmark = load()
    return {
        **benchmark,
        "name": "test_read",
        "fullname": "benchmarks/test_source.py::test_read",
        "params": None,
        "param": None,
        "extra_info": {"records": 20_000},
    }


def sides(loads: Iterable[dict[str, Any]]) -> dict[str, dict[Setting, Measurement]]:
    """Loads of one dataset by cloud and setting, as a comparison has them after pairing."""
    paired: dict[str, dict[Setting, Measurement]] = {}
    for each in (measurement(each, "run") for each in loads):
        paired.setdefault(each.cloud, {})[each.setting] = each
    return paired


def comparison(
    loads: Iterable[dict[str, Any]],
    servers: dict[str, dict[str, Any]] | None = None,
    threshold: float = 0.01,
) -> Comparison:
    """The comparison of loads, each cloud's from a run of its own."""
    measured: dict[str, list[Measurement]] = {}
    for each in loads:
        cloud = each["params"]["cloud"]
        measured.setdefault(cloud, []).append(measurement(each, f"0001_{cloud}.json"))
    runs = [
        SavedRun(
            path=Path(f"0001_{cloud}.json"),
            cloud=cloud,
            saved=datetime(2025, 1, 15, tzinfo=UTC),
            server=(servers or {}).get(cloud, {}),
            measurements=tuple(of_cloud),
        )
        for cloud, of_cloud in measured.items()
    ]
    return compare_sides(make_sides(runs), threshold)


def decision(
    loads: Iterable[dict[str, Any]],
    servers: dict[str, dict[str, Any]] | None = None,
    threshold: float = 0.01,
) -> Decision:
    """The decision about loads of one dataset, as `comparison` makes it."""
    (only,) = comparison(loads, servers, threshold).decisions
    return only


def save(
    storage: Path,
    name: str,
    benchmarks: Sequence[dict[str, Any]],
    *,
    datetime: str = "2025-01-15T10:30:00.123456+00:00",
    servers: dict[str, dict[str, Any]] | None = None,
    **machine_info: Any,
) -> Path:
    """Write a saved run as `<storage>/Linux-CPython-3.11-64bit/<name>.json`."""
    path = storage / "Linux-CPython-3.11-64bit" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {
        "machine_info": {
            "node": "client",
            "machine": "x86_64",
            "servers": servers or {},
            **machine_info,
        },
        "commit_info": {"id": "unversioned", "dirty": False},
        "benchmarks": list(benchmarks),
        "datetime": datetime,
        "version": "5.3.1",
    }
    path.write_text(json.dumps(saved, indent=4), "utf-8")
    return path
