"""The options of the plugin, and their values after checking."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest

from pgload.bench.load_size import MIN_BATCHES, LoadSize
from pgload.bench.race import MAX_PASSES
from pgload.contract import METHODS
from pgload.errors import UsageError
from pgload.source.stores import STDIN, is_missing
from pgload.targets.cloud import check_cloud, default_cloud, environment
from pgload.targets.container import IMAGE, Shape

SAMPLE_RECORDS = 10_000
PASSES = 5  # rounds of one pass follow each other, and show less of how much a server varies
SWEEP = ("method", "batch_size", "connections")


@dataclass(frozen=True, slots=True)
class Effort:
    """How often a setting is loaded in a pass; no further round begins after `seconds`, if given.

    Warm-up rounds are in a setting's first pass only.
    """

    rounds: int
    warmup_rounds: int
    seconds: float | None = None


@dataclass(frozen=True)
class BenchOptions:
    """The options of a run, checked."""

    variables: Mapping[str, str] = field(repr=False)  # of .env and the environment, with secrets
    clouds: tuple[str, ...]
    sweep: Mapping[str, tuple[Any, ...]]  # by name in SWEEP; only the options that were given
    sample_cache: Path  # the folder of generated notices
    records: int | None
    data: str | None  # the place, as for `pgload.source.stores.find`
    seed: int
    effort: Effort
    passes: int
    max_time: float | None  # seconds of the whole run
    resume: bool
    shape: Shape
    rtt_ms: float | None
    keep_going: bool
    search: bool = False

    @property
    def load_size(self) -> LoadSize:
        """An exact number of records is never repeated, and given data not to fill batches."""
        return LoadSize(
            for_batches=self.records is None and self.data is None,
            for_time=self.records is None,
        )


def _positive(text: str) -> int:
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
        raise argparse.ArgumentTypeError("0 is not a number above 0")
    return number


def _positives(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(part) for part in text.split(",")))


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
    """Add the options of `pytest benchmarks`."""
    add = parser.getgroup("pgload-target", "pgload: targets and data").addoption
    add(
        "--cloud",
        action="append",
        metavar="NAME[,NAME…]",
        help="targets, as in GCP,AWS: GCP, AZURE, AWS or any name configured in .env; EMBEDDED, a "
        "PostgreSQL that needs no account; CONTAINER, one that needs Docker. Default: "
        "CLOUD_PROVIDER or ENV from .env if that cloud is configured, otherwise EMBEDDED",
    )
    add(
        "--keep-going",
        action="store_true",
        help="with several clouds: measure the others when one cannot be reached",
    )
    add(
        "--records",
        type=_positive,
        metavar="N",
        help="records in a load, exactly (default: those of --data, repeated until a load lasts a "
        f"second; or {SAMPLE_RECORDS:,} generated notices, repeated until every connection also "
        f"writes {MIN_BATCHES} batches)",
    )
    add(
        "--data",
        metavar="DIR|FILE|URL",
        help="load these JSON files instead of generated notices: a folder, a file, a pattern in "
        "quotes, or a URL (s3://, gs://, az://, https://); also compressed",
    )
    add = parser.getgroup("pgload-sweep", "pgload: settings").addoption
    add(
        "--batch-size",
        type=_positives,
        metavar="N[,N…]",
        help="records in a batch, which is a transaction, as in --batch-size 100,1000. Default: "
        "the sweep of each test",
    )
    add(
        "--connections",
        type=_positives,
        metavar="N[,N…]",
        help="connections, each with a worker of its own. Default: the sweep of each test",
    )
    add(
        "--search",
        action="store_true",
        help="find the best setting in about a tenth of the time of measuring all of them: short "
        "loads tell which few are the best, and only these are measured",
    )
    add(
        "--method",
        type=_methods,
        metavar="M[,M…]",
        help=f"how a batch is written: {', '.join(METHODS)}. Default: the sweep of each test",
    )
    add = parser.getgroup("pgload-effort", "pgload: rounds, passes and time").addoption
    add(
        "--rounds",
        type=_positive,
        default=1,
        metavar="N",
        help="timed loads of each setting in a pass (default: 1)",
    )
    add(
        "--passes",
        type=_positive,
        metavar="N",
        help="sweeps over all settings, each in a random order of its own (default: "
        f"{PASSES}; with --search until it is decided, at most {MAX_PASSES}); one pass cannot show "
        "how much a server varies",
    )
    add(
        "--warmup-rounds",
        type=_whole,
        default=1,
        metavar="N",
        help="loads of each setting before the timed ones of its first pass (default: 1)",
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
        help="seconds in a pass after which no further round of a setting begins, except its "
        "second",
    )
    add(
        "--resume",
        action="store_true",
        help="resume the last interrupted run of these clouds",
    )
    add = parser.getgroup("pgload-server", "pgload: EMBEDDED and CONTAINER").addoption
    add(
        "--rtt",
        type=_not_negative,
        metavar="MS",
        help="EMBEDDED, CONTAINER: simulated latency, as a round-trip time in milliseconds",
    )
    add(
        "--image",
        default=IMAGE,
        help="CONTAINER: the image to start (default: %(default)s)",
    )
    add(
        "--instance",
        metavar="TYPE",
        help="CONTAINER: limit its processors and memory like db-custom-<vCPUs>-<MB>, as in "
        "db-custom-1-3840 (default: no limit)",
    )


def checked_options(config: pytest.Config) -> BenchOptions:
    """The options given, with `.env` from the root directory or else the current one.

    Raises `UsageError`.
    """
    option = config.option
    root = config.rootpath
    variables = environment(root if (root / ".env").exists() else config.invocation_params.dir)
    names = ",".join(option.cloud or [default_cloud(variables)]).split(",")
    clouds = tuple(dict.fromkeys(name.strip().upper() for name in names if name.strip()))
    if not clouds:
        raise UsageError("--cloud is empty: omit it, or write --cloud GCP")
    for cloud in clouds:
        check_cloud(cloud, variables, option.rtt)
    if option.data == STDIN:
        raise UsageError("--data -: a benchmark has no standard input; name a folder or a file")
    if option.data is not None and is_missing(option.data):
        raise UsageError(
            f"--data {option.data}: there is no such folder or file; name one that holds JSON"
        )
    sweep = {name: getattr(option, name) for name in SWEEP}
    return BenchOptions(
        variables=variables,
        clouds=clouds,
        sweep={name: values for name, values in sweep.items() if values},
        sample_cache=root / "data" / ".sample",
        records=option.records,
        data=option.data,
        seed=option.seed,
        effort=Effort(
            rounds=option.rounds,
            warmup_rounds=option.warmup_rounds,
            seconds=option.max_time_per_setting,
        ),
        passes=option.passes or (MAX_PASSES if option.search else PASSES),
        max_time=option.max_time,
        resume=option.resume,
        shape=_shape(option),
        rtt_ms=option.rtt,
        keep_going=option.keep_going,
        search=option.search,
    )


def _shape(option: argparse.Namespace) -> Shape:
    if option.instance is None:
        return Shape(option.image)
    return Shape.of_instance(option.image, option.instance)
