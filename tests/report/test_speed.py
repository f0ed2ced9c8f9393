"""Many runs are compared with little memory: what grows is the tables, not the page.

The full size by hand: `python -m tests.report.test_speed FOLDER 200 100` makes the runs, then
`python -m pgload compare '*'` in that folder.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from tests.support.saved_runs import load, save

ROOT = Path(__file__).parents[2]
CLOUDS = ("GCP", "AWS", "AZURE")


def make_runs(storage: Path, runs: int, settings: int) -> None:
    """That many saved runs, each with passes and with the batches of a load."""
    rng = random.Random(0)
    sizes = [100 * (number + 1) for number in range(settings)]
    for number in range(runs):
        cloud = CLOUDS[number % len(CLOUDS)]
        loads = []
        for size in sizes:
            seconds = [rng.gauss(1, 0.03) for _ in range(5)]
            count = 20_000 // size + 1
            batches = {
                "start": [n / count for n in range(count)],
                "seconds": [1 / count] * count,
                "connection": [0] * count,
                "records": [size] * count,
            }
            passes = [[second] for second in seconds]
            loads.append(
                load(cloud, batch_size=size, seconds=seconds, passes=passes, batches=batches)
            )
        save(storage, f"{number + 1:04}_{cloud}", loads)


def test_many_runs_take_little_memory(tmp_path: Path) -> None:
    """Every run a side of its own, which is the most there can be; the page stays small."""
    make_runs(tmp_path / ".benchmarks", runs=40, settings=25)
    code = (
        "import psutil, sys; from pgload.cli import main; "
        "code = main(['compare', '0*', '--by', 'run']); "
        "print(psutil.Process().memory_info().rss, file=sys.stderr); "
        "sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    # The peak that the system keeps may be that of the process which started this one.
    assert int(done.stderr) < 250e6
    assert (tmp_path / "reports/index.html").stat().st_size < 1.5e6
    assert (tmp_path / "reports/compare.csv").read_text().count("\n") == 1 + 40 * 25


if __name__ == "__main__":
    make_runs(Path(sys.argv[1]) / ".benchmarks", int(sys.argv[2]), int(sys.argv[3]))
