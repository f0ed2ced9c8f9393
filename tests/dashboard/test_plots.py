"""The charts of a migration."""

from __future__ import annotations

from pgload.dashboard.plots import LARGEST, plots
from pgload.report.i18n import Words
from pgload.report.migration_batches import BatchLine, summarise


def lines(tables: list[str]) -> list[BatchLine]:
    """A batch of each table."""
    return [
        BatchLine(table_name=table, records_count=10, total_duration_seconds=1.0, write_seconds=1.0)
        for table in tables
    ]


def test_long_names_of_tables_have_short_labels() -> None:
    """Their ends, which differ more often; the whole name where the ends are the same."""
    names = ["t", "bid_pblanclistinfo_cnstwk", "a_very_long_table_name", "b_very_long_table_name"]

    by_part = plots(summarise(lines(names)), Words())[-1]

    assert sorted(by_part.positions) == sorted([names[0], "…nclistinfo_cnstwk", *names[2:]])


def test_of_many_tables_those_with_most_records_are_drawn() -> None:
    """So that a chart can be read."""
    names = [f"t{n:02}" for n in range(LARGEST + 5)]
    batches = [*lines(names), *lines(["big"] * 3)]

    by_part = plots(summarise(batches), Words())[-1]

    assert len(by_part.positions) == LARGEST
    assert "big" in by_part.positions


def test_without_batches_there_is_no_chart() -> None:
    """And without parts none of them."""
    assert plots(summarise([]), Words()) == []
    parts = {each.name for each in plots(summarise([BatchLine(records_count=1)]), Words())}
    assert parts == {"batches_over_run", "by_worker"}
