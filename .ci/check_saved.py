"""Checks the newest saved JSON of a short benchmark run: complete, and every load verified."""

import json
import sys
from pathlib import Path

from pgload.contract import METHODS

KEYS = {
    "records",
    "bytes",
    "dataset",
    "records_per_second",
    "mb_per_second",
    "batch_latency",
    "client",
    "encode",
    "write",
    "commit",
    "wait",
    "idle",
    "rtt_ms",
    "wal_bytes_per_record",
    "bottleneck",
    "bottleneck_shares",
    "passes",
    "verified",
    "retries",
}

cloud, *paths = sys.argv[1:]
newest = max(map(Path, paths), key=lambda path: path.name)
saved = json.loads(newest.read_text())
loads = [b for b in saved["benchmarks"] if "batch_size" in (b["params"] or {})]
assert {b["params"]["method"] for b in loads} == set(METHODS)
for load in loads:
    extra = load["extra_info"]
    assert extra.keys() >= KEYS, f"{load['name']} lacks {KEYS - extra.keys()}"
    assert extra["verified"] is True, load["name"]
    assert extra["bottleneck"] in extra["bottleneck_shares"], load["name"]
    assert [one["number"] for one in extra["passes"]] == [1, 2], load["name"]
    assert load["stats"]["rounds"] == len(load["stats"]["data"]) == 2, load["name"]
    assert load["params"]["cloud"] == cloud
server = saved["machine_info"]["servers"][cloud]
assert server["settings"]["fsync"] == "on"
if cloud == "CONTAINER":
    assert server["instance_type"] == "db-custom-1-1024"
print(f"{newest}: {len(loads)} loads, all verified")
