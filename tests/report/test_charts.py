"""The SVG charts: what is drawn, that they stand alone, and that they are made again alike."""

from __future__ import annotations

import itertools
import re
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pgload.contract import BOTTLENECKS
from pgload.report.decision import Decision, compare_sides
from pgload.report.i18n import LANGUAGES, Words
from pgload.report.plots import SHOWN_BATCHES, Plot, plots, widest_slice
from pgload.report.saved import load_runs, read_runs
from pgload.report.sides import make_sides
from pgload.report.svg import CLOUD_COLOURS, PALETTE, colours, draw, stand_alone
from tests.support.saved_runs import decision, load, save, sides

SVG = "{http://www.w3.org/2000/svg}"
SHARES = dict.fromkeys(BOTTLENECKS, 0.0) | {"client": 0.25, "wal": 0.75}


def grid(*clouds: str) -> Decision:
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
            for size in (100, 1000, 5000)
            for connections in (1, 4)
        ),
        servers={cloud: {"price_per_hour": 0.36} for cloud in clouds},
    )


def by_name(of: Decision, language: str = "en") -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(of, Words(language))[0]}


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


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
    assert missing == ["batches_over_load: no file holds single batches"]


def test_a_chart_says_what_is_equal_and_has_units_on_its_axes() -> None:
    """The title names the slice, the legend the clouds, a bar its label."""
    drawn = by_name(grid("GCP", "AWS"))

    by_size = texts(draw(drawn["throughput_by_batch_size"]))
    assert "Throughput by batch size" in by_size
    subtitle = "method copy, connections 4; 20,000 records, 48.0 MB; median, min–max"
    assert subtitle in drawn["throughput_by_batch_size"].subtitle
    assert {"100", "1,000", "5,000", "0", "GCP", "AWS", "throughput, records/s"} <= set(by_size)
    by_connections = texts(draw(drawn["throughput_by_connections"]))
    assert {"1", "4", "0", "number of connections"} <= set(by_connections)
    assert {"copy", "values", "0"} <= set(texts(draw(drawn["throughput_by_method"])))
    assert {"client", "WAL", "share, %"} <= set(texts(draw(drawn["bottleneck"])))
    assert "cost, US$ per million records" in texts(draw(drawn["cost"]))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_chart_is_drawn_in_every_language(language: str) -> None:
    """With titles for all axes that have numbers, and a description for who does not see it."""
    for plot in by_name(grid("GCP", "AWS"), language).values():
        svg = ElementTree.fromstring(stand_alone(draw(plot)))
        assert svg.get("role") == "img"
        assert plot.title in (svg.get("aria-label") or "")
        assert plot.y_title in {node.text for node in svg.iter(f"{SVG}text")}


def test_tooltips_give_the_value_and_its_range() -> None:
    """In records/s, with thousands separators, for every point."""
    drawn = by_name(grid("GCP"))

    for name, where in (("batch_size", "1,000"), ("method", "copy")):
        tree = ElementTree.fromstring(draw(drawn[f"throughput_by_{name}"]))
        notes = {node.text for node in tree.iter(f"{SVG}desc")}
        assert "84,211 records/s" in notes
        assert f"{where}; min–max 80,000–88,889, rounds: 2" in notes


def test_whiskers_of_several_clouds_do_not_cover_each_other() -> None:
    """Clouds that are equally fast stand side by side, at every batch size."""
    clouds = ("GCP", "AWS", "AZURE")
    tree = ElementTree.fromstring(draw(by_name(grid(*clouds))["throughput_by_batch_size"]))

    whiskers = [node for node in tree.iter(f"{SVG}g") if node.get("class") == "ci"]
    lines = [whisker.findall(f"{SVG}path")[0].get("d") or "" for whisker in whiskers]
    places = sorted(float(re.findall(r"[\d.]+", line)[0]) for line in lines)
    assert len(places) == 3 * len(clouds)
    assert min(b - a for a, b in itertools.pairwise(places)) > 4  # of 760


def test_nothing_in_a_chart_points_to_the_web_or_to_a_folder() -> None:
    """The script is inside, fonts are the reader's; a URL is an XML vocabulary's name."""
    for plot in by_name(grid("GCP", "AWS")).values():
        svg = stand_alone(draw(plot))
        assert set(re.findall(r"https?:[^\s\"'<>]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert not re.search(r"(href=|@import|url\(|<\?xml-stylesheet|[\"']//)", svg)
        assert "site-packages" not in svg
        assert "init_svg" in svg


def test_the_same_measurements_give_the_same_bytes() -> None:
    """No date, no random id: a chart made again differs only where its numbers do."""
    first, second = (by_name(grid("GCP", "AWS")) for _ in range(2))

    for name, plot in first.items():
        assert draw(plot) == draw(second[name])
        assert date.today().isoformat() not in draw(plot)


def test_batches_over_a_load_come_from_the_file_with_its_checkpoints(tmp_path: Path) -> None:
    """Of many batches the slow ones are kept; a checkpoint is a line."""
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
    plot = by_name(_from_file(path))["batches_over_load"]

    points = plot.series["GCP"]
    assert len(points) == SHOWN_BATCHES
    assert max(points.values(), key=lambda point: point.value).value == 2000
    assert plot.marks == {"GCP": (3.5,)}
    assert "GCP: checkpoint" in texts(draw(plot))


def _from_file(path: Path) -> Decision:
    return compare_sides(make_sides(read_runs(path))).decisions[0]


@pytest.mark.parametrize(
    "batches",
    [None, {}, {"start": [], "seconds": []}, {"start": [1], "seconds": ["x"]}, {"start": [1]}, 7],
)
def test_batches_that_are_no_numbers_are_a_chart_less(tmp_path: Path, batches: Any) -> None:
    """A file that holds something else there is compared all the same."""
    path = save(tmp_path, "0001_GCP", [load(batches=batches)])

    assert "batches_over_load" not in by_name(_from_file(path))


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
    """A chart of twenty lines shows nothing."""
    found = decision(load(f"CLOUD{n}", seconds=[1 / (n + 1)]) for n in range(20))

    assert found.shown == ["CLOUD0", *(f"CLOUD{n}" for n in range(13, 20))]
    assert list(by_name(found)["batch_latency"].series) == found.shown


def test_sides_that_are_drawn_together_have_different_colours(tmp_path: Path) -> None:
    """Whatever other sides there are."""
    for number in range(20):
        cloud = ("GCP", "AWS", "AZURE")[number % 3]
        seconds = [{"GCP": 1.0, "AWS": 0.8, "AZURE": 1.3}[cloud]]
        save(tmp_path, f"{number:04}_{cloud}", [load(cloud, seconds=seconds, batch_size=1000)])
    comparison = compare_sides(make_sides(load_runs(["0*"], tmp_path)[0], "run"))

    shown = comparison.decisions[0].shown
    given = {**colours(comparison.sides), **colours(shown)}

    assert len({given[name] for name in shown}) == len(shown) == 8
    assert given["AWS 0001"] == CLOUD_COLOURS["AWS"]


def test_a_cloud_has_one_colour_everywhere() -> None:
    """Known clouds keep theirs, whoever is beside them; others get what is left of the palette."""
    assert colours(["AWS", "GCP"])["GCP"] == colours(["GCP"])["GCP"] == CLOUD_COLOURS["GCP"]
    assert colours(["GCP 0001", "GCP 0002"])["GCP 0001"] == CLOUD_COLOURS["GCP"]

    given = colours(["HEROKU", "GCP", "AZURE", "GCP 0002"])

    assert len(set(given.values())) == 4
    assert set(given.values()) <= set(PALETTE)
    assert len(colours([f"CLOUD{n}" for n in range(20)])) == 20
