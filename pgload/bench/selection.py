"""Which settings a run measures, in which order, and which of them measures drift."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

import pytest

from pgload.bench.drift import DriftProbe
from pgload.bench.options import SWEEP
from pgload.contract import METHODS, Setting

DEFAULT_SETTING = Setting("values", 1000, 1)


def pass_id(number: int) -> str:
    """The end of the ids of a pass's tests."""
    return f"pass{number}"


def settings_of(
    node: pytest.Item | Any, asked: Mapping[str, Sequence[Any]]
) -> list[tuple[str, int, int]]:
    """The settings of a test: those of its marker, as far as the options in `asked` allow.

    An option replaces the axis of a `sweep`. Of single `settings` those with a batch size and
    connections that were asked for are kept, each with every method that was asked for.
    """
    single = node.get_closest_marker("settings")
    if single is None:
        sweep = node.get_closest_marker("sweep")
        defaults = {name: (getattr(DEFAULT_SETTING, name),) for name in SWEEP}
        axes = {**defaults, **(sweep.kwargs if sweep else {}), **asked}
        return list(product(*(axes[name] for name in SWEEP)))
    return [
        (chosen, batch_size, connections)
        for method, batch_size, connections in single.args
        for chosen in asked.get("method", (method,))
        if batch_size in asked.get("batch_size", (batch_size,))
        and connections in asked.get("connections", (connections,))
    ]


def select(items: Sequence[pytest.Item], asked: Mapping[str, Any]) -> list[pytest.Item]:
    """The items of the methods that were asked for, every load once.

    Of several tests with the same setting, one that names its settings one by one measures it, or
    else the first.
    """
    wanted = [
        item
        for item in items
        if _params(item).get("method") in (None, *asked.get("method", METHODS))
    ]
    chosen: dict[Any, pytest.Item] = {}
    for item in sorted(wanted, key=lambda item: item.get_closest_marker("settings") is None):
        chosen.setdefault(_identity(item), item)
    return [item for item in wanted if chosen[_identity(item)] is item]


def _identity(item: pytest.Item) -> Any:
    """What is loaded and in which pass; of its own for an item that is not a load."""
    return load_of(item) if measures_setting(item) else id(item)


def in_random_order(items: Sequence[pytest.Item], seed: int) -> list[pytest.Item]:
    """Loads first, pass by pass, each pass in an order of its own; then what needs no database.

    The clouds of a setting stay together, so that they are measured side by side.
    """
    passes = defaultdict[int, dict[Any, list[pytest.Item]]](lambda: defaultdict(list))
    others = []
    for item in items:
        if measures_setting(item):
            _, setting, number = load_of(item)
            test = getattr(item, "originalname", item.name)
            passes[number][test, setting].append(item)
        else:
            others.append(item)
    ordered = []
    for number, settings in sorted(passes.items()):
        groups = list(settings.values())
        Random(f"{seed} {number}").shuffle(groups)
        ordered += [item for group in groups for item in group]
    return ordered + others


def drift_probes(items: Sequence[pytest.Item]) -> dict[str, DriftProbe]:
    """A probe for each cloud: of a fast method's setting with the fewest connections."""
    settings = defaultdict[str, list[Setting]](list)
    for cloud, setting, _ in map(load_of, filter(measures_setting, items)):
        settings[cloud].append(setting)
    return {
        cloud: DriftProbe(
            min(measured, key=lambda setting: (setting.connections, setting)),
            total=len(measured),
        )
        for cloud, measured in settings.items()
    }


def measures_setting(item: pytest.Item) -> bool:
    """Whether the item is a load of a setting in one pass."""
    return "pass_number" in _params(item)


def load_of(item: pytest.Item) -> tuple[str, Setting, int]:
    """The cloud, the setting and the pass of an item that `measures_setting`."""
    params = _params(item)
    return params["cloud"], Setting(*(params[name] for name in SWEEP)), params["pass_number"]


def _params(item: pytest.Item) -> Mapping[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})
