"""The tables of a run and of a comparison, as text."""

from __future__ import annotations

from pgload.report.decision import Decision
from pgload.report.saved import measurement
from pgload.report.tables import (
    compare_tables,
    decision_lines,
    profile_table,
    run_table,
    to_markdown,
)
from tests.support.gold import check_gold
from tests.support.saved_runs import decision, load


def test_run_table_has_a_row_for_each_setting() -> None:
    """Throughput and its range, batch latency, client CPU; the cloud and units above them."""
    slow = load(batch_size=1000, seconds=[1.0, 0.8, 1.25])
    fast = load(batch_size=500, connections=10, seconds=[0.1], client={"cpu_share": 1.13})

    table = run_table(measurement(each, "run") for each in (slow, fast))

    check_gold("run_table.txt", table + "\n")


def test_run_table_of_several_clouds_has_a_cloud_column() -> None:
    """The clouds of a setting are in consecutive rows."""
    loads = [load(cloud, batch_size=size) for cloud in ("GCP", "AWS") for size in (500, 1000)]

    table = run_table(measurement(each, "run") for each in loads).splitlines()

    assert table[0] == "AWS, GCP: 20,000 records, 48.0 MB"
    assert max(map(len, table)) <= 80
    assert "MB/s" not in table[2]
    assert [line.split()[:3] for line in table[4:]] == [
        ["AWS", "values", "500"],
        ["GCP", "values", "500"],
        ["AWS", "values", "1,000"],
        ["GCP", "values", "1,000"],
    ]


def test_run_table_keeps_datasets_apart() -> None:
    """Loads of different data are not rows of one table."""
    table = run_table(measurement(load(records=n), "run") for n in (2000, 1000))

    first, second = table.split("\n\n")
    assert first.startswith("GCP: 1,000 records, 2.4 MB\n")
    assert second.startswith("GCP: 2,000 records, 4.8 MB\n")


def test_run_table_pools_the_tests_of_a_setting() -> None:
    """A setting is one row with the rounds of all tests that ran it."""
    loads = [load(seconds=[1.0]), load(seconds=[0.5])]

    table = run_table(measurement(each, "run") for each in loads).splitlines()

    assert len(table) == 5
    assert "20.0k-40.0k" in table[4]


def test_run_table_says_how_large_the_loads_were() -> None:
    """Where they repeat the dataset; speed and MB/s are of all that was loaded."""
    dataset = {"records": 10_000, "bytes": 45_000_000}
    loads = [
        load(batch_size=size, seconds=[2.0], records=records, bytes=4500 * records, dataset=dataset)
        for size, records in ((500, 60_000), (1000, 10_000))
    ]

    title, _, _, _, row, _ = run_table(measurement(each, "run") for each in loads).splitlines()
    assert title == "GCP: 10,000 records, 45.0 MB, repeated in loads of 10,000-60,000 records"
    assert row.split()[3:6] == ["30,000", "135.0", "30.0k-30.0k"]

    title, *_ = run_table([measurement(loads[0], "run")]).splitlines()
    assert title == "GCP: 10,000 records, 45.0 MB, repeated in loads of 60,000 records"


def test_run_table_fits_80_columns() -> None:
    """With all methods of the default run, 5000 × 10, and a fast server."""
    latency = {"p50": 0.4701, "p95": 0.9123, "p99": 0.9876, "max": 1.2}
    loads = [
        load("EMBEDDED", method, 5000, 10, seconds=[s, 0.9 * s], batch_latency=latency)
        for method, s in (("values", 10.0), ("unnest", 1.0), ("json", 0.21), ("copy", 0.1))
    ]

    table = run_table(measurement(each, "run") for each in loads)

    assert max(map(len, table.splitlines())) <= 80


def test_profile_table_shows_the_parts_of_the_time_and_the_bottleneck() -> None:
    """Microseconds per record of each part that took any time; the bottleneck with its share."""
    parts = {"read": 0.0, "encode": 0.2, "write": 0.7, "commit": 0.1, "wait": 0.0}
    shares = {"server_cpu": 0.62, "wal": 0.38}
    full = load(batch_size=500, profile=parts, bottleneck="server_cpu", bottleneck_shares=shares)
    unknown = load(batch_size=1000, profile=parts)

    table = profile_table(measurement(each, "run") for each in (unknown, full))

    check_gold("profile_table.txt", table + "\n")


def test_profile_table_of_several_clouds_has_a_cloud_column() -> None:
    """As the run's table has."""
    table = profile_table(measurement(load(cloud), "run") for cloud in ("GCP", "AWS"))

    assert [line.split()[0] for line in table.splitlines()] == ["cloud", "-----", "AWS", "GCP"]


def test_tables_of_no_measurements_are_empty() -> None:
    """Nothing is printed for a run in which no load was verified."""
    assert run_table([]) == profile_table([]) == ""


def two_clouds() -> Decision:
    """Sides that differ in speed, price, durability and in the settings that they measured."""
    rounds = [1.0, 1.01, 0.99, 1.0, 1.005]
    known = {
        "advice": "more é",
        "bottleneck": "wal",
        "bottleneck_shares": {"client": 0.25, "wal": 0.75},
    }
    return decision(
        [
            load("GCP", batch_size=1000, seconds=rounds),
            load("AWS", batch_size=1000, seconds=[0.5 * s for s in rounds], **known),
            load("AWS", batch_size=2000, seconds=[0.501 * s for s in rounds]),
            load("AWS", batch_size=100, seconds=[2 * s for s in rounds]),
            load("AWS", "copy", connections=4, seconds=rounds, unstable="rounds drift"),
        ],
        servers={
            "GCP": {"price_per_hour": 0.36, "settings": {"fsync": "on"}},
            "AWS": {"price_per_hour": 3.6, "settings": {"fsync": "off"}},
        },
    )


def test_compare_table_shows_a_side_against_the_baseline() -> None:
    """A setting that one of them lacks is a dash, never a number; what else differs is named."""
    check_gold("compare_tables.txt", compare_tables(two_clouds()) + "\n")


def test_compare_table_of_one_side_has_no_ratio() -> None:
    """There is nothing to compare with, and still a best setting."""
    alone = decision([load(seconds=[1.0]), load("GCP", "copy", seconds=[0.5])])

    lines = "\n".join([compare_tables(alone), "", *decision_lines(alone)])
    check_gold("compare_one_side.txt", lines + "\n")


def test_the_decision_names_the_fastest_how_sure_the_near_and_the_cheapest() -> None:
    """And the bottleneck with its share, and what else differs; all in ASCII."""
    lines = "\n".join(decision_lines(two_clouds()))

    assert lines.isascii()
    check_gold("decision_lines.txt", lines + "\n")


def test_markdown_lists_changes_first_and_escapes_names() -> None:
    """A pipe or a tag in a name does not break the table."""
    check_gold("compare.md", to_markdown([two_clouds()]))

    text = to_markdown([decision([load("A|B"), load("<b>")])])
    assert "| A\\|B, records/s | &lt;b>, records/s |" in text


def test_of_many_sides_only_the_fastest_are_in_the_tables() -> None:
    """How many others there are is reported."""
    found = decision(load(f"CLOUD{n}", seconds=[1 / (n + 1)]) for n in range(20))

    assert compare_tables(found).endswith("\n\nand 12 slower sides, in the CSV and JSON")
    assert "… and 12 slower sides, in compare.csv." in to_markdown([found])
