"""Options and markers decide which settings are measured; the seed decides their order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from types import SimpleNamespace
from typing import Any

from pgload.bench.selection import drift_probes, in_random_order, select, settings_of
from pgload.contract import METHODS, Setting
from tests.support.checkout import Run


def marked(name: str, *args: Any, **kwargs: Any) -> Any:
    """A test with that marker."""
    marker = SimpleNamespace(args=args, kwargs=kwargs)
    return SimpleNamespace(get_closest_marker=lambda asked: marker if asked == name else None)


def load(
    test: str, *setting: Any, cloud: str = "GCP", pass_number: int = 1, marker: str = "sweep"
) -> Any:
    """A load of a setting, as pytest collects it."""
    names = ("method", "batch_size", "connections")
    params = {"cloud": cloud, "pass_number": pass_number, **dict(zip(names, setting, strict=True))}
    return SimpleNamespace(
        name=test,
        originalname=test,
        callspec=SimpleNamespace(params=params),
        get_closest_marker=marked(marker).get_closest_marker,
    )


def settings(items: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Pass, cloud and setting of each load."""
    keys = ("pass_number", "cloud", "method", "batch_size", "connections")
    return [tuple(item.callspec.params[key] for key in keys) for item in items]


def test_sweep() -> None:
    """A test measures every combination of its sweep; an option replaces an axis."""
    test = marked("sweep", batch_size=(100, 500))
    assert settings_of(test, {}) == [("values", 100, 1), ("values", 500, 1)]
    assert settings_of(test, {"connections": (1, 4)}) == [
        ("values", 100, 1), ("values", 100, 4), ("values", 500, 1), ("values", 500, 4)
    ]  # fmt: skip
    assert settings_of(test, {"batch_size": (9,), "method": ("copy",)}) == [("copy", 9, 1)]


def test_single_settings() -> None:
    """Of single settings those asked for are measured, with every method asked for."""
    test = marked("settings", ("values", 1000, 1), ("values", 100, 5))
    assert settings_of(test, {}) == [("values", 1000, 1), ("values", 100, 5)]
    assert settings_of(test, {"batch_size": (100,), "method": ("copy", "json")}) == [
        ("copy", 100, 5),
        ("json", 100, 5),
    ]


def test_a_setting_is_measured_once() -> None:
    """Of several tests with a setting the one that names it measures it, or else the first."""
    items = [load("test_a", "values", 100, 1), load("test_b", "values", 100, 1),
             load("test_b", "copy", 100, 1), load("test_b", "copy", 100, 1, pass_number=2),
             load("test_c", "copy", 100, 1, marker="settings")]  # fmt: skip
    assert select(items, {}) == [items[0], items[3], items[4]]
    assert select(items, {"method": ("values",)}) == [items[0]]
    encoding = [
        SimpleNamespace(
            callspec=SimpleNamespace(params={"method": name}), get_closest_marker=lambda _: None
        )
        for name in METHODS
    ]
    reading = SimpleNamespace(get_closest_marker=lambda _: None)
    chosen: Any = [*encoding, reading]
    assert select(chosen, {"method": ("copy",)}) == [encoding[METHODS.index("copy")], reading]


def test_order() -> None:
    """Every pass has an order of its own, the same for a seed; clouds stay side by side."""
    items = [
        load("test_a", "values", size, 1, cloud=cloud, pass_number=number)
        for size, cloud, number in product((100, 200, 300, 400), ("GCP", "AWS"), (1, 2, 3))
    ]
    other: Any = SimpleNamespace(name="test_read")
    ordered = in_random_order([other, *items], seed=4)
    assert ordered[-1] is other
    found = settings(ordered[:-1])
    assert found == settings(in_random_order(items, seed=4))
    assert found != settings(in_random_order(items, seed=5))
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    sizes = [each[3] for each in found[::2]]
    assert len({tuple(sizes[at : at + 4]) for at in (0, 4, 8)}) > 1
    assert all(one[1:2] + two[1:2] == ("GCP", "AWS") and one[3] == two[3]
               for one, two in zip(found[::2], found[1::2], strict=True))  # fmt: skip


def test_drift_probes() -> None:
    """The probe measures a setting with the fewest connections, which takes a short time."""
    items = [load("test_a", "values", 1000, 1), load("test_a", "copy", 1000, 1),
             load("test_a", "copy", 500, 4, cloud="AWS"),
             load("test_a", "values", 900, 2, cloud="AWS")]  # fmt: skip
    probes = drift_probes(items)
    assert probes["GCP"].setting == Setting("copy", 1000, 1)
    assert probes["AWS"].setting == Setting("values", 900, 2)
    assert probes["AWS"].total == 2


def collected(run: Run, *arguments: str) -> list[str]:
    """The ids of the benchmarks that a command collects."""
    done = run("pytest", "--collect-only", "-q", "--no-header", *arguments)
    return re.findall(r"^(?:\S+/)?(\w+\.py::\S+)", done.stdout, re.M)


def test_benchmarks(run: Run) -> None:
    """Without options each setting is measured once; what is long runs only when it is named."""
    names = collected(run, "benchmarks", "--passes=1")
    loads = [name.partition("::")[2] for name in names if "-" in name]
    assert sorted(loads) == sorted(
        [f"test_batch_size[copy-{n}-1]" for n in (100, 1000, 5000)]
        + [f"test_connections[copy-1000-{n}]" for n in (2, 5, 10)]
        + [f"test_methods[{method}-1000-1]" for method in ("unnest", "json")]
        + [f"test_scenarios[values-{n}]" for n in ("1000-1", "100-1", "1000-10", "500-5")]
    )
    files = {name.partition("::")[0] for name in names}
    assert not files & {"test_grid.py", "test_peers.py"}
    assert len(collected(run, "benchmarks/test_grid.py")) == 20 * 5  # passes
    assert len(collected(run, "benchmarks/test_methods.py", "--passes=1")) == 4
    own = collected(run, "benchmarks/own", "benchmarks/own/test_peers.py")
    assert {"test_peers.py", "test_memory.py"} <= {name.partition("::")[0] for name in own}
