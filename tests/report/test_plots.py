"""The plots: which ones a decision has, their order, axes and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgload.report.decision import Decision, compare_sides
from pgload.report.i18n import Words
from pgload.report.plots import BARS, SHOWN_BATCHES, Plot, Point, plots, widest_slice
from pgload.report.saved import read_runs
from pgload.report.sides import make_sides
from tests.support.charts import grid, plots_by_name
from tests.support.saved_runs import decision, load, save, sides


def test_a_grid_gives_all_charts_that_need_no_single_batches() -> None:
    """What cannot be drawn is named, with the reason."""
    found, missing = plots(grid("GCP", "AWS"), Words())

    assert [plot.name for plot in found] == [
        "throughput_by_batch_size",
        "throughput_by_connections",
        "throughput_by_method",
        "throughput_grid_GCP",
        "throughput_grid_AWS",
        "batch_latency",
        "time_by_part",
        "bottleneck",
        "cost",
    ]
    assert missing == ["batches_over_load: no file has data of single batches"]


def test_a_single_setting_names_the_charts_that_need_more() -> None:
    """Each with what is missing."""
    found, missing = plots(decision([load(encode=0.0, write=0.0, commit=0.0)]), Words())

    assert [plot.name for plot in found] == ["batch_latency"]
    assert missing == [
        "throughput_by_batch_size: no two settings differ in batch size alone",
        "throughput_by_connections: no two settings differ in connections alone",
        "throughput_by_method: no two settings differ in method alone",
        "throughput_grid: no grid of batch sizes and connections was measured",
        "batches_over_load: no file has data of single batches",
        "time_by_part: not recorded in these files",
        "bottleneck: not recorded in these files",
        "cost: no price is known; set <CLOUD>_PRICE_PER_HOUR before a run",
    ]


def test_the_grid_sorts_both_axes_by_number() -> None:
    """Also where each number of connections was measured with other batch sizes."""
    measured = {1: (1000, 500), 4: (100, 2000, 5000), 10: (1000, 500)}
    found = plots_by_name(
        decision(
            load(batch_size=size, connections=connections)
            for connections, sizes in measured.items()
            for size in sizes
        )
    )["throughput_grid_GCP"]

    assert found.positions == [100, 500, 1000, 2000, 5000]
    assert list(found.series) == ["10", "4", "1"]


@pytest.mark.parametrize(
    ("labels", "positions"),
    [
        ([1000, 500, 100, 2000, 5000], [100, 500, 1000, 2000, 5000]),
        (["1,000", "500", "10,000"], ["500", "1,000", "10,000"]),
        (["p50", "p95", "max"], ["p50", "p95", "max"]),
        ([2.5, 0.1], [0.1, 2.5]),
    ],
)
def test_positions_sort_numbers_and_keep_the_order_of_labels(
    labels: list[Any], positions: list[Any]
) -> None:
    """A label that is a number counts as one."""
    plot = Plot(
        name="any",
        kind=BARS,
        title="",
        subtitle="",
        x_title="",
        y_title="",
        unit="{}",
        series={"first": {labels[0]: Point(1)}, "all": dict.fromkeys(labels, Point(1))},
    )

    assert plot.positions == positions


def test_the_latency_chart_has_the_percentiles_of_the_tables(tmp_path: Path) -> None:
    """Those that were saved, whatever the sample of single batches would give."""
    batches = {
        "start": [0.0, 0.5],
        "seconds": [0.5, 0.4],
        "connection": [0, 0],
        "records": [10, 10],
    }
    path = save(tmp_path, "0001_GCP", [load(batches=batches, seconds=[1.0])])
    drawn = plots_by_name(decision_from(path))

    assert "batches_over_load" in drawn
    points = drawn["batch_latency"].series["GCP"]
    assert {name: point.value for name, point in points.items()} == pytest.approx(
        {"p50": 35.0, "p95": 41.2, "p99": 52.0, "max": 100.0}
    )


def test_batches_over_a_load_come_from_the_file_with_its_checkpoints(tmp_path: Path) -> None:
    """Of many batches the slowest of each bucket are kept."""
    count = 10 * SHOWN_BATCHES
    seconds = [0.01] * count
    seconds[777] = 2.0
    batches: dict[str, Any] = {
        "start": [n * 0.01 for n in range(count)],
        "seconds": seconds,
        "connection": [0] * count,
        "records": [10] * count,
    }
    saved = load(batches=batches, checkpoints=[3.5], seconds=[0.5])
    path = save(tmp_path, "0001_GCP", [load(batch_size=5), saved])
    plot = plots_by_name(decision_from(path))["batches_over_load"]

    points = plot.series["GCP"]
    assert len(points) == SHOWN_BATCHES
    assert max(points.values(), key=lambda point: point.value).value == 2000
    assert plot.marks == {"GCP": (3.5,)}


def decision_from(path: Path) -> Decision:
    return compare_sides(make_sides(read_runs(path))).decisions[0]


@pytest.mark.parametrize(
    "batches",
    [None, {}, {"start": [], "seconds": []}, {"start": [1], "seconds": ["x"]}, {"start": [1]}, 7],
)
def test_batches_that_are_not_numbers_are_not_drawn(tmp_path: Path, batches: Any) -> None:
    """The rest of such a file is compared all the same."""
    path = save(tmp_path, "0001_GCP", [load(batches=batches)])

    assert "batches_over_load" not in plots_by_name(decision_from(path))


def test_a_line_joins_only_settings_that_differ_in_one_parameter() -> None:
    """Of all such slices the one with most values, however slow it is."""
    shown = widest_slice(
        sides(
            [
                load(method="copy", batch_size=1000, connections=8, seconds=[0.1]),
                load(method="copy", batch_size=5000, connections=8, seconds=[0.1]),
                *(load(batch_size=size, connections=2) for size in (500, 100, 1000)),
            ]
        ),
        "batch_size",
    )

    assert shown.fixed == {"method": "values", "connections": 2}
    assert shown.values == [100, 500, 1000]


def test_of_many_sides_the_fastest_are_drawn_and_the_baseline() -> None:
    """A chart of twenty lines cannot be read."""
    found = decision(load(f"CLOUD{n}", seconds=[1 / (n + 1)]) for n in range(20))

    assert found.shown == ["CLOUD0", *(f"CLOUD{n}" for n in range(13, 20))]
    assert list(plots_by_name(found)["batch_latency"].series) == found.shown
