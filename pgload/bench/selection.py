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
from pgload.contract import LOAD_PARAMS, METHODS, Setting

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
        if params_of(item).get("method") in (None, *asked.get("method", METHODS))
    ]
    chosen: dict[Any, pytest.Item] = {}
    for item in sorted(wanted, key=lambda item: item.get_closest_marker("settings") is None):
        chosen.setdefault(_load(item), item)
    return [item for item in wanted if chosen[_load(item)] is item]


def _load(item: pytest.Item) -> Any:
    """What is loaded and in which pass; of its own for an item that is not a load."""
    params = params_of(item)
    if "pass_number" not in params:
        return id(item)
    return tuple(params[name] for name in (*LOAD_PARAMS, "pass_number"))


def in_random_order(items: Sequence[pytest.Item], seed: int) -> list[pytest.Item]:
    """Loads first, pass by pass, each pass in an order of its own; then what needs no database.

    The clouds of a setting stay together, so that they are measured side by side.
    """
    passes = defaultdict[int, dict[Any, list[pytest.Item]]](lambda: defaultdict(list))
    others = []
    for item in items:
        params = params_of(item)
        if "pass_number" in params:
            setting = tuple(params[name] for name in SWEEP)
            test = getattr(item, "originalname", item.name)
            passes[params["pass_number"]][test, setting].append(item)
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
    for params in map(params_of, items):
        if "pass_number" in params:
            settings[params["cloud"]].append(Setting(*(params[name] for name in SWEEP)))
    return {
        cloud: DriftProbe(
            min(measured, key=lambda setting: (setting.connections, setting)),
            total=len(measured),
        )
        for cloud, measured in settings.items()
    }


def params_of(item: pytest.Item) -> Mapping[str, Any]:
    """The item's parameters; none if it has none."""
    return getattr(getattr(item, "callspec", None), "params", {})
