"""The sides of a comparison: their names, their differences, and what is paired."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pgload.errors import UsageError
from pgload.report.saved import SavedRun, load_runs
from pgload.report.sides import (
    caveats,
    differences,
    facts,
    make_sides,
    pair,
    unpaired,
    with_baseline,
)
from tests.support.saved_runs import load, save


def runs(folder: Path, clouds: Sequence[str], **server: Sequence[Any]) -> list[SavedRun]:
    """A run for each cloud; `server` gives a fact for each of them."""
    for n, cloud in enumerate(clouds):
        known = {name: values[n] for name, values in server.items()}
        save(
            folder,
            f"{n + 1:04}_{cloud}",
            [load(cloud)],
            servers={cloud: known},
            datetime=f"2025-01-{n + 1:02}T00:00:00+00:00",
        )
    return load_runs(["0*"], folder)[0]


def test_several_clouds_are_sides_and_their_runs_are_pooled(tmp_path: Path) -> None:
    """A cloud measured twice alike has the rounds and passes of both runs."""
    sides = make_sides(runs(tmp_path, ["GCP", "AWS", "GCP"]))

    assert list(sides) == ["GCP", "AWS"]
    assert len(sides["GCP"].runs) == 2
    (measured,) = next(iter(pair(sides).values()))["GCP"].values()
    assert (len(measured.rounds), len(measured.passes)) == (6, 2)


def test_runs_of_a_cloud_with_different_servers_are_not_pooled(tmp_path: Path) -> None:
    """A mean over different servers would describe none of them."""
    sides = make_sides(
        runs(tmp_path, ["GCP", "AWS", "GCP"], instance_type=["small", "large", "medium"])
    )

    assert list(sides) == ["GCP 0001", "AWS", "GCP 0003"]


def test_runs_of_one_cloud_are_the_sides(tmp_path: Path) -> None:
    """Before and after a change, or twice the same."""
    assert list(make_sides(runs(tmp_path, ["GCP", "GCP"]))) == ["GCP 0001", "GCP 0002"]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("cloud", ["GCP", "AWS"]),
        ("run", ["GCP 0001", "AWS 0002", "GCP 0003"]),
        ("date", ["GCP 2025-01-01", "AWS 2025-01-02", "GCP 2025-01-03"]),
        ("version", ["GCP PostgreSQL 17.2", "AWS PostgreSQL 17.2", "GCP PostgreSQL 18.1"]),
        ("instance", ["GCP small", "AWS small", "GCP ?"]),
    ],
)
def test_sides_are_grouped_by_what_is_asked_for(tmp_path: Path, by: str, names: list[str]) -> None:
    """Clouds, runs, dates, versions or instance types."""
    facts = {"version": ["17.2", "17.2", "18.1"], "instance_type": ["small", "small", None]}

    assert list(make_sides(runs(tmp_path, ["GCP", "AWS", "GCP"], **facts), by)) == names


def test_the_baseline_is_a_side_a_cloud_or_a_number(tmp_path: Path) -> None:
    """It comes first; anything else is a usage error that names the sides."""
    sides = make_sides(runs(tmp_path, ["GCP", "AWS", "AZURE"]))

    assert list(with_baseline(sides, None)) == ["GCP", "AWS", "AZURE"]
    assert list(with_baseline(sides, "azure")) == ["AZURE", "GCP", "AWS"]
    assert list(with_baseline(sides, "0002")) == ["AWS", "GCP", "AZURE"]
    with pytest.raises(UsageError, match="--baseline NEON is none of the sides: GCP, AWS, AZURE"):
        with_baseline(sides, "NEON")


def test_decisive_differences_come_first(tmp_path: Path) -> None:
    """A fact that only one side recorded is not a difference, nor is a price."""
    gcp, aws = runs(
        tmp_path,
        ["GCP", "AWS"],
        settings=[{"fsync": "on", "wal_level": "replica"}, {"fsync": "off", "jit": "on"}],
        version=["18.1", "17.2"],
        price_per_hour=[1, 2],
    )

    found = differences({"GCP": facts(gcp), "AWS": facts(aws)})

    assert [str(each) for each in found] == [
        "durability: setting fsync on / off",
        "server version 18.1 / 17.2",
    ]
    assert caveats({"GCP": facts(gcp), "AWS": facts(aws)}) == (found[0],)


def test_a_setting_that_was_not_measured_is_reported_with_the_reason(tmp_path: Path) -> None:
    """The one that the run saved when it skipped the setting."""
    save(tmp_path, "0001_GCP", [load("GCP"), load("GCP", batch_size=5000)])
    skipped = {"cloud": "AWS", "method": "values", "batch_size": 5000, "connections": 1}
    save(
        tmp_path,
        "0002_AWS",
        [load("AWS")],
        not_measured=[{**skipped, "reason": "no file fills a batch of 5000"}],
    )
    sides = make_sides(load_runs(["0*"], tmp_path)[0])

    assert unpaired(pair(sides), sides) == [
        "AWS: 1 of 2 settings with 20,000 records, 48.0 MB were not measured: "
        "values, batch size 5,000, 1 connection (no file fills a batch of 5000)"
    ]


def test_other_work_on_the_clients_machine(tmp_path: Path) -> None:
    """It decides where it differs by a tenth of the processors, and does not keep runs apart."""
    for number, (cloud, share) in enumerate([("GCP", 0.2), ("AWS", 0.26), ("AZURE", 0.75)], 1):
        client = {"cpu_seconds": 0.25, "cpu_share": 0.25, "others_share": share}
        save(tmp_path, f"{number:04}_{cloud}", [load(cloud, client=client)])
    by_side = {run.cloud: facts(run) for run in load_runs(["0*"], tmp_path)[0]}

    assert differences({name: by_side[name] for name in ("GCP", "AWS")}) == []
    (found,) = caveats(by_side)
    assert str(found) == "client machine: client busy with other work 20% / 26% / 75%"
