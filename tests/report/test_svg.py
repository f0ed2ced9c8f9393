"""The SVG charts: what they show, that they are self-contained, and that they are reproducible."""

from __future__ import annotations

import itertools
import re
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pgload.report.decision import compare_sides
from pgload.report.i18n import LANGUAGES
from pgload.report.saved import load_runs
from pgload.report.sides import make_sides
from pgload.report.svg import CLOUD_COLOURS, PALETTE, colours, draw, stand_alone
from tests.support.charts import grid, plots_by_name
from tests.support.saved_runs import load, save

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_chart_names_the_fixed_parameters_and_has_units_on_its_axes() -> None:
    """The title names the slice, the legend the clouds, a bar its label."""
    drawn = plots_by_name(grid("GCP", "AWS"))

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
    """With titles for all axes that have numbers, and a description for screen readers."""
    for plot in plots_by_name(grid("GCP", "AWS"), language).values():
        svg = ElementTree.fromstring(stand_alone(draw(plot)))
        assert svg.get("role") == "img"
        assert plot.title in (svg.get("aria-label") or "")
        assert plot.y_title in {node.text for node in svg.iter(f"{SVG}text")}


def test_tooltips_give_the_value_and_its_range() -> None:
    """In records/s, with thousands separators, for every point."""
    drawn = plots_by_name(grid("GCP"))

    for name, where in (("batch_size", "1,000"), ("method", "copy")):
        tree = ElementTree.fromstring(draw(drawn[f"throughput_by_{name}"]))
        notes = {node.text for node in tree.iter(f"{SVG}desc")}
        assert "84,211 records/s" in notes
        assert f"{where}; min–max 80,000–88,889, rounds: 2" in notes


def test_whiskers_of_several_clouds_do_not_cover_each_other() -> None:
    """Clouds that are equally fast are drawn side by side at every batch size."""
    clouds = ("GCP", "AWS", "AZURE")
    tree = ElementTree.fromstring(draw(plots_by_name(grid(*clouds))["throughput_by_batch_size"]))

    whiskers = [node for node in tree.iter(f"{SVG}g") if node.get("class") == "ci"]
    lines = [whisker.findall(f"{SVG}path")[0].get("d") or "" for whisker in whiskers]
    places = sorted(float(re.findall(r"[\d.]+", line)[0]) for line in lines)
    assert len(places) == 3 * len(clouds)
    assert min(b - a for a, b in itertools.pairwise(places)) > 4  # of 760


def test_a_chart_refers_to_nothing_on_the_web_or_in_a_folder() -> None:
    """The script is inside, fonts are the system's; a URL is the name of an XML vocabulary."""
    for plot in plots_by_name(grid("GCP", "AWS")).values():
        svg = stand_alone(draw(plot))
        assert set(re.findall(r"https?:[^\s\"'<>]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert not re.search(r"(href=|@import|url\(|<\?xml-stylesheet|[\"']//)", svg)
        assert "site-packages" not in svg
        assert "init_svg" in svg


def test_the_same_measurements_give_the_same_bytes() -> None:
    """No date and no random id."""
    first, second = (plots_by_name(grid("GCP", "AWS")) for _ in range(2))

    for name, plot in first.items():
        assert draw(plot) == draw(second[name])
        assert date.today().isoformat() not in draw(plot)


def test_sides_that_are_drawn_together_have_different_colours(tmp_path: Path) -> None:
    """Also when more sides are compared than shown."""
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
    """Known clouds keep theirs; other names get the unused colours of the palette."""
    assert colours(["AWS", "GCP"])["GCP"] == colours(["GCP"])["GCP"] == CLOUD_COLOURS["GCP"]
    assert colours(["GCP 0001", "GCP 0002"])["GCP 0001"] == CLOUD_COLOURS["GCP"]

    given = colours(["HEROKU", "GCP", "AZURE", "GCP 0002"])

    assert len(set(given.values())) == 4
    assert set(given.values()) <= set(PALETTE)
    assert len(colours([f"CLOUD{n}" for n in range(20)])) == 20


def test_the_axis_of_the_grid_is_sorted_by_number() -> None:
    """Labels have thousands separators, in the order of the numbers and not of appearance."""
    svg = draw(plots_by_name(grid("GCP"))["throughput_grid_GCP"])

    shown = [text for text in texts(svg) if text in ("100", "1,000", "5,000")]
    assert shown == ["100", "1,000", "5,000"]
