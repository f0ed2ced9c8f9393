"""Time and price of a load by the saved runs of its cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgload.contract import Setting
from pgload.report.forecast import forecast
from tests.support.saved_runs import load, save

ASKED = Setting("copy", 1000, 4)


def lines(
    storage: Path, setting: Setting = ASKED, *, size: int = 2400, **given: float
) -> list[str]:
    """The forecast of a million records of `size` bytes on GCP."""
    return list(forecast("GCP", setting, 10**6, size * 10**6, storage=storage, **given))


def test_newest_run_that_measured_the_setting(tmp_path: Path) -> None:
    """The newest run with the setting counts, also where a newer one measured others."""
    for day, number, name, rate in (
        (1, 7, "GCP", 5000.0),
        (2, 8, "GCP", 10_000.0),
        (3, 9, "AZURE", 20_000.0),
    ):
        save(
            tmp_path,
            f"{number:04}_{name}",
            [load(name, "copy", connections=4, seconds=[20_000 / rate])],
            datetime=f"2026-11-{day:02}T12:00:00+00:00",
            servers={name: {"price_per_hour": 0.36}},
        )
    save(tmp_path, "0010_GCP", [load("GCP", "values")], datetime="2026-11-04T12:00:00+00:00")
    assert lines(tmp_path) == [
        "the load takes about 1 min 40 s and $0.01 by run 0008 of 2026-11-02:",
        "  copy 1,000 × 4, 10,000 records/s of 2.4 KB",
    ]
    assert " and $1.00 by run 0008 " in lines(tmp_path, price_per_hour=36)[0]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Setting("copy", 1000, 8), "copy 1,000 × 4"),
        (Setting("copy", 200, 1), "copy 100 × 1"),
        (Setting("json", 1000, 4), "values 1,000 × 4"),
    ],
    ids=str,
)
def test_nearest_setting(tmp_path: Path, asked: Setting, found: str) -> None:
    """Without the setting the nearest one of the newest run counts, and it is reported."""
    loads = [
        load("GCP", method, batch_size=size, connections=connections, seconds=[seconds])
        for method, seconds in (("copy", 1.0), ("values", 2.0))
        for size in (100, 1000)
        for connections in (1, 4)
    ]
    save(tmp_path, "0001_GCP", loads)
    second = lines(tmp_path, asked)[1]
    assert second.lstrip().startswith(found)
    assert second.endswith(", the nearest to what is asked for")


def test_records_of_another_size(tmp_path: Path) -> None:
    """Bytes per second count where the records have another size, and it is reported."""
    save(tmp_path, "0001_GCP", [load("GCP", "copy", connections=4, seconds=[2.0])])
    assert lines(tmp_path, size=1200) == [
        "the load takes about 50 s by run 0001 of 2025-01-15:",
        "  copy 1,000 × 4, 10,000 records/s of 2.4 KB",
        "  scaled by bytes, as a record has 1.2 KB here",
    ]


def test_no_run(tmp_path: Path) -> None:
    """Without a saved run the command that measures is named; a broken file is passed over."""
    save(tmp_path, "0001_AZURE", [load("AZURE")])
    (tmp_path / "0002_GCP.json").write_text("{")
    assert lines(tmp_path) == [
        "how long it takes is not known: no saved run of GCP; measure it with",
        "  pytest benchmarks --cloud GCP --method copy --batch-size 1000 --connections 4",
    ]
