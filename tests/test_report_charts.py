"""The SVG charts: what is drawn, that they stand alone, and that they are made again alike."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

from pgload.report.charts import CLOUD_COLOURS, PALETTE, colours, widest_slice, write_charts
from pgload.report.measurement import Dataset
from pgload.report.pairing import Sides
from tests.saved_runs import load, sides

DATASET = Dataset(20_000, 48_000_000)
SVG = "{http://www.w3.org/2000/svg}"


def grid(*clouds: str) -> Sides:
    return sides(
        load(cloud, method, size, connections, seconds=[1 / connections, 0.9 / connections])
        for cloud in clouds
        for method in ("copy", "values")
        for size in (100, 1000, 5000)
        for connections in (1, 4)
    )


def texts(path: Path) -> list[str]:
    return [node.text or "" for node in ElementTree.parse(path).iter(f"{SVG}text")]


def test_a_grid_gives_three_charts_with_units_and_the_slice_they_show(tmp_path: Path) -> None:
    """Each says in its title what is equal, on its axes the units, below it the clouds."""
    written, missing = write_charts(DATASET, grid("GCP", "AWS"), tmp_path / "reports")

    assert missing == []
    assert [path.name for path in written] == [
        "throughput_by_batch_size.svg",
        "throughput_by_connections.svg",
        "throughput_by_method.svg",
    ]
    by_size, by_connections, by_method = map(texts, written)
    assert "Throughput by batch size" in by_size
    fixed = "method copy, connections 4; 20,000 records, 48.0 MB; median, whiskers min–max"
    assert fixed in by_size
    assert {"100", "1,000", "5,000", "0", "GCP", "AWS", "throughput, records/s"} <= set(by_size)
    assert {"1", "4", "0", "number of connections"} <= set(by_connections)
    assert {"copy", "values", "0", "GCP", "AWS"} <= set(by_method)


def test_tooltips_give_the_value_and_its_range(tmp_path: Path) -> None:
    """In records/s, with thousands separators, for every point."""
    write_charts(DATASET, grid("GCP"), tmp_path)

    for name, where in (("batch_size", "batch size 1,000"), ("method", "method copy")):
        tree = ElementTree.parse(tmp_path / f"throughput_by_{name}.svg")
        notes = {node.text for node in tree.iter(f"{SVG}desc")}
        assert "84,211 records/s" in notes
        assert f"{where}; min–max 80,000–88,889, rounds: 2" in notes


def test_nothing_in_a_chart_points_to_the_web_or_to_a_folder(tmp_path: Path) -> None:
    """The script is inside, fonts are the reader's; a URL is an XML vocabulary's name."""
    written, _ = write_charts(DATASET, grid("GCP", "AWS"), tmp_path)

    for path in written:
        svg = path.read_text("utf-8")
        assert set(re.findall(r"https?:[^\s\"'<>]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert not re.search(r"(href=|@import|url\(|<\?xml-stylesheet|[\"']//)", svg)
        assert str(Path(write_charts.__code__.co_filename).parent) not in svg
        assert "site-packages" not in svg
        assert "init_svg" in svg


def test_the_same_measurements_give_the_same_bytes(tmp_path: Path) -> None:
    """No date, no random id: a chart made again differs only where its numbers do."""
    first, _ = write_charts(DATASET, grid("GCP", "AWS"), tmp_path / "a")
    second, _ = write_charts(DATASET, grid("GCP", "AWS"), tmp_path / "b")

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert date.today().isoformat() not in first[0].read_text("utf-8")


def test_a_chart_without_two_values_is_not_written_and_an_old_one_goes(tmp_path: Path) -> None:
    """What is left in the folder belongs to this comparison; what is not there is said."""
    write_charts(DATASET, grid("GCP"), tmp_path)

    written, missing = write_charts(
        DATASET, sides([load(batch_size=100), load(batch_size=500)]), tmp_path
    )

    assert [path.name for path in written] == ["throughput_by_batch_size.svg"]
    assert sorted(tmp_path.iterdir()) == written
    assert missing == [
        f"{tmp_path / 'throughput_by_connections.svg'}: "
        "not drawn, no two settings differ in connections alone, so the older one is removed",
        f"{tmp_path / 'throughput_by_method.svg'}: "
        "not drawn, no two settings differ in method alone, so the older one is removed",
    ]


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

    assert shown.fixed == "method values, connections 2"
    assert shown.values == [100, 500, 1000]


def test_a_cloud_has_one_colour_everywhere() -> None:
    """Known clouds keep theirs, whoever is beside them; others get what is left of the palette."""
    assert colours(["AWS", "GCP"])["GCP"] == colours(["GCP"])["GCP"] == CLOUD_COLOURS["GCP"]

    given = colours(["HEROKU", "GCP", "AZURE"])

    assert len(set(given.values())) == 3
    assert set(given.values()) <= set(PALETTE)
    assert len(colours([f"CLOUD{n}" for n in range(20)])) == 20
