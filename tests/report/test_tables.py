"""The tables of a run and of a comparison, as a reader sees them."""

from __future__ import annotations

from pgload.report.saved import measurement
from pgload.report.tables import compare_tables, decision_lines, profile_table, run_table
from tests.support.saved_runs import decision, load


def test_run_table_has_a_row_for_each_setting() -> None:
    """Throughput and its range, batch latency in ms, client CPU in %; the cloud above them."""
    slow = load(batch_size=1000, seconds=[1.0, 0.8, 1.25])
    fast = load(batch_size=500, connections=10, seconds=[0.1], client={"cpu_share": 1.13})

    table = run_table(measurement(each, "run") for each in (slow, fast))

    assert table.splitlines() == [
        "GCP: 20,000 records, 48.0 MB",
        "method  batch  conn.  records/s          min-max  p50 ms  p95 ms  p99 ms  CPU %",
        "------  -----  -----  ---------  ---------------  ------  ------  ------  -----",
        "values    500     10    200,000  200,000-200,000    35.0    41.2    52.0    113",
        "values  1,000      1     20,000    16,000-25,000    35.0    41.2    52.0     25",
    ]


def test_run_table_of_several_clouds_has_a_cloud_column() -> None:
    """The clouds of a setting stand under each other."""
    loads = [load(cloud, batch_size=size) for cloud in ("GCP", "AWS") for size in (500, 1000)]

    table = run_table(measurement(each, "run") for each in loads).splitlines()

    assert table[0] == "AWS, GCP: 20,000 records, 48.0 MB"
    assert [line.split()[:3] for line in table[3:]] == [
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
    """A setting is one row with all its rounds, under however many tests it ran."""
    loads = [load(seconds=[1.0]), load(seconds=[0.5])]

    table = run_table(measurement(each, "run") for each in loads).splitlines()

    assert len(table) == 4
    assert "20,000-40,000" in table[3]


def test_profile_table_says_where_a_record_s_time_went() -> None:
    """Microseconds per record of each part that took any, and what held the load back."""
    parts = {"read": 0.0, "encode": 0.2, "write": 0.7, "commit": 0.1, "wait": 0.0}
    shares = {"server_cpu": 0.62, "wal": 0.38}
    full = load(batch_size=500, profile=parts, bottleneck="server_cpu", bottleneck_shares=shares)

    table = profile_table(measurement(each, "run") for each in (full,))

    assert table.splitlines() == [
        "method  batch  conn.  encode us  write us  commit us    held back by",
        "------  -----  -----  ---------  --------  ---------  --------------",
        "values    500      1       10.0      35.0        5.0  server_cpu 62%",
    ]
    assert profile_table([]) == ""


def test_run_table_of_nothing_is_empty() -> None:
    """A run in which no load was verified prints no headline."""
    assert run_table([]) == ""


def test_compare_table_sets_a_side_next_to_the_baseline() -> None:
    """A setting that one of them lacks is a dash, never a number."""
    table = compare_tables(
        decision(
            [
                load("GCP", seconds=[1.0, 1.0]),
                load("AWS", seconds=[0.8, 0.8]),
                load("AWS", "copy", connections=4, seconds=[0.25]),
            ]
        )
    )

    assert table.splitlines() == [
        "records/s, median of the rounds; ratio and verdict: AWS beside GCP; 20,000 records, "
        "48.0 MB",
        "method  batch  conn.     GCP     AWS  ratio        95%  verdict",
        "------  -----  -----  ------  ------  -----  ---------  -------",
        "copy    1,000      4       -  80,000      -          -  -",
        "values  1,000      1  20,000  25,000   1.25  1.25-1.25  faster",
    ]


def test_compare_table_of_one_side_has_no_ratio() -> None:
    """There is nothing to compare with, and still a best setting."""
    alone = decision([load(seconds=[1.0])])

    assert "ratio" not in compare_tables(alone)
    assert decision_lines(alone) == [
        "fastest: GCP, values, batch size 1,000, 1 connection: 20,000 records/s",
        "best of GCP: values, batch size 1,000, 1 connection: 20,000 records/s",
    ]


def test_the_decision_names_the_fastest_how_sure_the_near_and_the_cheapest() -> None:
    """And what else differs and decides, beside the verdict."""
    rounds = [1.0, 1.01, 0.99, 1.0, 1.005]
    found = decision(
        [
            load("GCP", batch_size=1000, seconds=rounds),
            load("AWS", batch_size=1000, seconds=[0.5 * s for s in rounds]),
            load("AWS", batch_size=2000, seconds=[0.501 * s for s in rounds], advice="more é"),
            load("AWS", batch_size=100, seconds=[2 * s for s in rounds]),
        ],
        servers={
            "GCP": {"price_per_hour": 0.36, "settings": {"fsync": "on"}},
            "AWS": {
                "price_per_hour": 3.6,
                "price_date": "2025-01-10",
                "settings": {"fsync": "off"},
            },
        },
    )

    lines = decision_lines(found)

    assert lines[0] == "fastest: AWS, values, batch size 1,000, 1 connection: 40,000 records/s"
    assert lines[1].startswith("  beside GCP at its best: 2.00 (1.9")
    assert lines[1].endswith("times as fast; faster; but durability: setting fsync on / off")
    near = "  not shown to be slower: values, batch size 2,000, 1 connection (1.00)"
    assert near in lines
    assert "AWS beside GCP: 1 faster" in lines
    assert lines[-1] == "cheapest: GCP, $0.0050 at $0.36 an hour per million records"
    assert "  not the sides alone, durability: setting fsync on / off" in compare_tables(found)
    assert "\n".join(lines).isascii()
