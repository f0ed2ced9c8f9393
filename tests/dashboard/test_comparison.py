"""The tab that compares saved benchmark runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgload.report.i18n import Words
from tests.support.dashboard import Show, checked, column, metrics, visible_text
from tests.support.saved_runs import load, save

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


def test_a_comparison_has_the_numbers_of_the_page(show: Show, tmp_path: Path) -> None:
    """For the runs, clouds and methods that are chosen; a broken file is named."""
    storage = tmp_path / "saved"
    for number, (cloud, speed) in enumerate({"GCP": 1.0, "AWS": 2.0}.items(), start=1):
        loads = [
            load(cloud, method, size, c, seconds=[1 / speed / c, 1.01 / speed / c] * 2)
            for method in ("copy", "values")
            for size in (100, 1000)
            for c in (1, 4)
        ]
        servers = {cloud: {"price_per_hour": 0.36}}
        save(storage, f"{number:04}_{cloud}", loads, servers=servers)
    (storage / "broken.json").write_text("{")

    app = show("comparison")
    assert metrics(app) == {"Records/s": "159,204"}
    shown = visible_text(app)
    assert "AWS with copy, batch size 100, connections 4" in shown
    assert "2.00 times as fast as GCP, both with" in shown
    assert "Cheapest: AWS $0.0006" in shown
    assert "broken.json" in shown
    assert column(app, "verdict") == ["slower"] * 8
    assert len(app.image) >= 7
    titles = [each.label.replace("\\", "") for each in app.expander]
    for title in ("batch size", "connections", "method", "batch size and connections: AWS"):
        assert any(each.endswith(f"Throughput by {title}") for each in titles), title

    def choose(label: str, *values: str) -> AppTest:
        next(each for each in app.multiselect if each.label == label).set_value([*values])
        return checked(app.run())

    choose("Methods", "values")
    choose("Clouds", "GCP")
    assert metrics(app) == {"Records/s": "79,602"}
    assert set(column(app, "method")) == {"values"}
    assert "Choose at least one" in visible_text(choose("Clouds"))


def test_what_may_explain_the_result_is_in_the_language(show: Show, tmp_path: Path) -> None:
    """With the lead and with the verdicts: a setting of the servers that differs."""
    for number, (cloud, fsync) in enumerate({"GCP": "on", "AWS": "off"}.items(), start=1):
        loads = [load(cloud, seconds=[number, number, number])]
        servers = {cloud: {"settings": {"fsync": fsync}}}
        save(tmp_path / "saved", f"{number:04}_{cloud}", loads, servers=servers)

    shown = visible_text(show("comparison", "ko"))

    assert "durability" not in shown
    caveat = f"{Words('ko')('durability')}, setting fsync"
    assert shown.count(caveat) == 2
