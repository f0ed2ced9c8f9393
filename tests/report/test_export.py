"""The comparison for other programs: JSON and CSV under stable names."""

from __future__ import annotations

import csv
import io
import json

import pytest

from pgload.report.decision import Comparison
from pgload.report.export import COLUMNS, to_csv, to_json
from pgload.report.tables import to_markdown
from tests.support.saved_runs import comparison, load

SIZES = (100, 500, 1000, 5000)
ROUNDS = (1.0, 1.01, 0.99, 1.0, 1.005)


@pytest.fixture
def compared() -> Comparison:
    """AWS is twice as fast as GCP, the baseline, in each of four settings."""
    speeds = {"GCP": 1, "AWS": 2}
    return comparison(
        load(cloud, batch_size=size, seconds=[seconds / speed for seconds in ROUNDS])
        for cloud, speed in speeds.items()
        for size in SIZES
    )


def test_csv_and_json_hold_the_same_measurements(compared: Comparison) -> None:
    """A row for each setting and side; the baseline's have no ratio."""
    rows = list(csv.DictReader(io.StringIO(to_csv(compared.decisions))))
    measurements = json.loads(to_json(compared))["measurements"]

    assert len(rows) == len(measurements) == 2 * len(SIZES)
    for row, each in zip(rows, measurements, strict=True):
        assert tuple(row) == tuple(each) == COLUMNS
        assert row == {name: "" if value is None else str(value) for name, value in each.items()}
        of_baseline = row["side"] == "GCP"
        assert row["baseline"] == ("" if of_baseline else "GCP")
        assert (row["ratio"] == "") == of_baseline


def test_json_holds_a_verdict_for_each_setting_of_both_sides(compared: Comparison) -> None:
    """With its interval, under the keys that other programs read; Markdown says the same."""
    found = json.loads(to_json(compared))

    assert [each["batch_size"] for each in found["settings"]] == list(SIZES)
    for each in found["settings"]:
        assert (each["baseline"], each["side"], each["verdict"]) == ("GCP", "AWS", "faster")
        assert each["low"] <= each["ratio"] <= each["high"]
        assert each["ratio"] == pytest.approx(2)
    assert [each["side"] for each in found["best"]] == ["AWS", "GCP"]
    assert to_markdown(compared.decisions).count("🟢 faster") == len(SIZES)


def test_json_is_valid_with_an_item_on_a_line(compared: Comparison) -> None:
    """So that a diff of two comparisons shows which settings changed."""
    text = to_json(compared)

    assert json.loads(text)["format"] == 1
    of_setting = '  {"method": "values", "batch_size": 500, '
    assert sum(line.startswith(of_setting) for line in text.splitlines()) == 1
