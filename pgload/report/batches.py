"""The single batches of one load, read from its file only when they are drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgload.report.saved import LOAD_PARAMS, Measurement


@dataclass(frozen=True)
class Batches:
    """The batches of the median round, in the order in which they were saved."""

    start: tuple[float, ...]  # seconds from the load's beginning
    seconds: tuple[float, ...]
    checkpoints: tuple[float, ...]  # of the server, seconds from the load's beginning


def read_batches(measured: Measurement) -> Batches | None:
    """The batches of a measurement; None where they were not saved, or the file is gone."""
    setting = measured.setting
    wanted = (measured.cloud, setting.method, setting.batch_size, setting.connections)
    try:
        saved = json.loads(Path(measured.source).read_bytes())
        for benchmark in saved["benchmarks"]:
            params, extra = benchmark.get("params") or {}, benchmark.get("extra_info") or {}
            if (
                tuple(params.get(name) for name in LOAD_PARAMS) == wanted
                and extra.get("records") == measured.dataset.records
                and (batches := _batches(extra)) is not None
            ):
                return batches
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the file was complete when it was compared; a chart less is no error
    return None


def _batches(extra: Mapping[str, Any]) -> Batches | None:
    saved = extra.get("batches")
    if not saved:
        return None
    start, seconds = (tuple(map(float, saved[name])) for name in ("start", "seconds"))
    if not start or len(start) != len(seconds):
        return None
    return Batches(start, seconds, tuple(map(float, extra.get("checkpoints") or ())))
