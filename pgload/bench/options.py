"""The suite's options: what they are called, what they may be, and the settings they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pgload.bench.measure import Effort
from pgload.contract import METHODS
from pgload.errors import UsageError
from pgload.targets.cloud import check_cloud, default_cloud, environment
from pgload.targets.container import IMAGE, Shape

ROOT = Path(__file__).parents[2]
SAMPLE_RECORDS = 10_000
ROUNDS = 5
SECONDS = 12.0  # of a setting, where neither rounds nor a time was asked for
DEFAULT_SETTING: dict[str, tuple[Any, ...]] = {
    "method": ("values",),
    "batch_size": (1000,),
    "connections": (1,),
}


@dataclass(frozen=True)
class BenchOptions:
    """The suite's options, checked."""

    variables: Mapping[str, str] = field(repr=False)  # secrets among them
    clouds: tuple[str, ...]
    sweep: Mapping[str, tuple[Any, ...]]  # only what was asked for
    records: int | None
    data: Path | None
    seed: int
    effort: Effort
    passes: int
    max_time: float | None  # seconds of the whole run
    resume: bool
    shape: Shape
    rtt_ms: float | None
    keep_going: bool


OPTIONS = pytest.StashKey[BenchOptions]()  # set only in a run that asks for benchmarks


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, least=1)


def _whole(text: str, least: int = 0) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
    return number


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return number


def _above_zero(text: str) -> float:
    number = _not_negative(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is too few")
    return number


def _positives(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive(part) for part in text.split(",")))


def _methods(text: str) -> tuple[str, ...]:
    methods = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    for method in methods:
        if method not in METHODS:
            near = get_close_matches(method, METHODS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise argparse.ArgumentTypeError(
                f"unknown method {method!r}: {meant}choose from {', '.join(METHODS)}"
            )
    return methods


def add_options(parser: pytest.Parser) -> None:
    """Add the suite's options to pytest's."""
    add = parser.getgroup("pgload-where", "pgload: where to, and what").addoption
    add(
        "--cloud",
        action="append",
        metavar="NAME[,NAME…]",
        help="where to load, as in GCP,AWS: GCP, AZURE, AWS or any name configured in .env; "
        "EMBEDDED, a PostgreSQL that needs no account; CONTAINER, one that needs Docker. Default: "
        "CLOUD_PROVIDER or ENV from .env where that cloud is configured, otherwise EMBEDDED",
    )
    add(
        "--keep-going",
        action="store_true",
        help="with several clouds: measure the others when one cannot be reached",
    )
    add(
        "--records",
        type=positive,
        metavar="N",
        help=f"records in a load (default: {SAMPLE_RECORDS:,} generated notices, or all of --data)",
    )
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="load the JSON files of this folder instead of generated notices",
    )
    add = parser.getgroup("pgload-sweep", "pgload: which settings").addoption
    add(
        "--batch-size",
        type=_positives,
        metavar="N[,N…]",
        help="records in a batch, which is a transaction, as in --batch-size 100,1000. Default: "
        "what each test sweeps",
    )
    add(
        "--connections",
        type=_positives,
        metavar="N[,N…]",
        help="concurrent workers, one connection each. Default: what each test sweeps",
    )
    add(
        "--method",
        type=_methods,
        metavar="M[,M…]",
        help=f"how a batch is written: {', '.join(METHODS)}. Default: what each test sweeps",
    )
    add = parser.getgroup("pgload-effort", "pgload: how often, and how long").addoption
    add(
        "--rounds",
        type=positive,
        metavar="N",
        help=f"timed loads of each setting in a pass (default: {ROUNDS}, or fewer where they would "
        f"take more than about {SECONDS:.0f} s)",
    )
    add(
        "--passes",
        type=positive,
        default=1,
        metavar="N",
        help="sweeps over all settings, each in an order of its own (default: 1); five or more "
        "make comparisons that can be relied on",
    )
    add(
        "--warmup-rounds",
        type=_whole,
        default=1,
        metavar="N",
        help="loads of each setting before the timed ones (default: 1)",
    )
    add(
        "--seed",
        type=_whole,
        default=0,
        metavar="N",
        help="seed of the generated notices and of the order of settings (default: 0)",
    )
    add(
        "--max-time",
        type=_above_zero,
        metavar="S",
        help="seconds after which no further setting is measured; --resume measures the rest",
    )
    add(
        "--max-time-per-setting",
        type=_above_zero,
        metavar="S",
        help="seconds after which a setting gets no further round, from its second on",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the last run of these clouds that was interrupted",
    )
    add = parser.getgroup("pgload-server", "pgload: what EMBEDDED and CONTAINER are").addoption
    add(
        "--rtt",
        type=_not_negative,
        metavar="MS",
        help="EMBEDDED, CONTAINER: rehearse a distance, as a round-trip time in milliseconds",
    )
    add(
        "--image",
        default=IMAGE,
        help="CONTAINER: the image to start (default: %(default)s)",
    )
    add(
        "--instance",
        metavar="TYPE",
        help="CONTAINER: shape it like db-custom-<vCPUs>-<MB>, as in db-custom-1-3840",
    )
    add(
        "--container-cpus",
        type=_above_zero,
        metavar="N",
        help="CONTAINER: how many processors it gets (default: all)",
    )
    add(
        "--container-memory",
        type=positive,
        metavar="MB",
        help="CONTAINER: how much memory it gets, in MB (default: all)",
    )


def checked_options(config: pytest.Config) -> BenchOptions:
    """The options given, with `.env` beside `conftest.py`. Raises `UsageError`."""
    option = config.option
    variables = environment(ROOT)
    names = ",".join(option.cloud or [default_cloud(variables)]).split(",")
    clouds = tuple(dict.fromkeys(name.strip().upper() for name in names if name.strip()))
    if not clouds:
        raise UsageError("--cloud names none: leave it away, or write --cloud GCP")
    for cloud in clouds:
        check_cloud(cloud, variables, option.rtt)
    if option.data is not None and not option.data.is_dir():
        raise UsageError(f"--data {option.data}: there is no such folder of JSON files")
    sweep = {name: getattr(option, name) for name in DEFAULT_SETTING}
    return BenchOptions(
        variables=variables,
        clouds=clouds,
        sweep={name: values for name, values in sweep.items() if values},
        records=option.records,
        data=option.data,
        seed=option.seed,
        effort=Effort(
            option.rounds or ROUNDS,
            option.warmup_rounds,
            option.max_time_per_setting or (None if option.rounds else SECONDS),
        ),
        passes=option.passes,
        max_time=option.max_time,
        resume=option.resume,
        shape=_shape(option),
        rtt_ms=option.rtt,
        keep_going=option.keep_going,
    )


def _shape(option: argparse.Namespace) -> Shape:
    cpus, memory_mb = option.container_cpus, option.container_memory
    if option.instance is None:
        return Shape(option.image, cpus, memory_mb)
    if cpus is not None or memory_mb is not None:
        raise UsageError(
            f"--instance {option.instance} says how many processors and how much memory: "
            "leave --container-cpus and --container-memory away"
        )
    return Shape.of_instance(option.image, option.instance)


def settings_of(
    node: pytest.Item | pytest.Function | Any, asked: Mapping[str, tuple[Any, ...]]
) -> list[tuple[str, int, int]]:
    """The settings of a test: those of its marker, with the axes that the user asked for.

    A `sweep` gives way to an option axis by axis; of single `settings` only those remain whose
    batch size and connections were asked for, each with every method asked for.
    """
    single = node.get_closest_marker("settings")
    if single is None:
        sweep = node.get_closest_marker("sweep")
        axes = {**DEFAULT_SETTING, **(sweep.kwargs if sweep else {}), **asked}
        return list(product(*(axes[name] for name in DEFAULT_SETTING)))
    return [
        (chosen, batch_size, connections)
        for method, batch_size, connections in single.args
        for chosen in asked.get("method", (method,))
        if batch_size in asked.get("batch_size", (batch_size,))
        and connections in asked.get("connections", (connections,))
    ]
