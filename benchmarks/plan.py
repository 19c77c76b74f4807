"""Estimated and actual cost of training, stage by stage; and the constants of the estimates.

`make bench NAME=plan ARGS="--home var/a --home var/b"`: homes that hold data, of different sizes.
Each home is trained by each rung of the plan (`--rung` names some) in a process of its own.
`--fit` prints constants for `training/costs.py`: least squares on the logarithm of what they miss
by. They are fitted on the runs that the table shows; only homes that were not given to `--fit` say
how well they carry over.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.measure import finish
from pipelines.anytime import count_home
from pipelines.flow import read_home, train_on
from training import costs, plan
from training.config import TrainingConfig
from training.stages import AGAIN, StageClock

COLUMNS = ("data", "rung", "stage", "estimated_s", "actual_s", "ratio", "estimated_mb", "peak_mb")


def main() -> None:
    """Run, or fit on what ran, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, action="append", default=[])
    parser.add_argument("--rung", action="append", default=[])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--run", nargs=2, metavar=("HOME", "RUNG"))
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(run(Path(asked.run[0]), asked.run[1])))
        return
    rungs = asked.rung or list(plan.RUNGS)
    runs = [_child(home, rung) for home in asked.home for rung in rungs]
    if asked.fit:
        print(json.dumps({k: [float(f"{x:.3g}") for x in v] for k, v in fit(runs).items()}))
    table = [row for one in runs for row in rows(one)]
    long = [row for row in table if max(row["estimated_s"], row["actual_s"]) >= 1.0]
    finish("plan", long, COLUMNS)


def config_of(rung: str) -> TrainingConfig:
    """Give the configuration of a rung, on one thread."""
    return plan.bounded(TrainingConfig(threads=1), plan.RUNGS[rung])


def run(home: Path, rung: str) -> dict[str, Any]:
    """Train once and give what each stage took."""
    clock = StageClock()
    speed = costs.machine_speed()
    sizes = count_home(home)
    with clock.stage("read"):
        data = read_home(home)
    train_on(home, data, config_of(rung), clock, None)
    taken = [list(cost) for cost in clock.costs]
    return {"home": home.name, "rung": rung, "sizes": sizes, "speed": speed, "costs": taken}


def fit(runs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Fit seconds of each unit, by stage."""
    found: dict[str, list[tuple[tuple[float, ...], float]]] = defaultdict(list)
    for one in runs:
        took = actual(one)
        units = costs._units(costs.Sizes(*one["sizes"]), config_of(one["rung"]), 1)
        # The gate is priced as the test is: nothing is judged beside these runs. Where time ends a
        # fit of the deep family, nobody knows how many passes it made.
        cut = {"deep", "deep" + AGAIN} if one["rung"] in {"short", "middle"} else set()
        for name in (units.keys() & took.keys()) - cut - {"gate"}:
            kind = name.removesuffix(AGAIN)
            found[kind].append((units[name], took[name][0] * one["speed"]))
    return {name: _log_fit(pairs) for name, pairs in sorted(found.items())}


def _log_fit(pairs: list[tuple[tuple[float, ...], float]]) -> list[float]:
    """Find prices of units, none below 0, whose sums miss by the least factor."""
    units, took = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    scale = np.maximum(units.max(axis=0), 1e-12)

    def miss(prices: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log((units / scale @ prices + 0.05) / (took + 0.05))

    start = np.full(len(scale), max(took.mean(), 0.01) / len(scale))
    return (least_squares(miss, start, bounds=(0.0, np.inf)).x / scale).tolist()


def rows(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Put estimate and actual side by side, the total last."""
    limits = costs.Limits(np.inf, np.inf, 1, one["speed"])
    sizes, config = costs.Sizes(*one["sizes"]), config_of(one["rung"])
    steps = costs.estimate(sizes, config, limits, champion=False)
    peak = max(step.peak_mb for step in steps)
    took = actual(one)
    lines = [(s.name, s.seconds, s.peak_mb, *took[s.name]) for s in steps if s.name in took]
    sums = (sum(line[k] for line in lines) for k in (1, 3))
    lines.append(("total", next(sums), peak, next(sums), max(line[4] for line in lines)))
    return [
        {"data": one["home"], "rung": one["rung"], "stage": name, "estimated_s": seconds,
         "actual_s": spent, "ratio": spent / max(seconds, 1e-9), "estimated_mb": mb,
         "peak_mb": peak_mb} for name, seconds, mb, spent, peak_mb in lines
    ]  # fmt: skip


def actual(one: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Add up the stages of one name: seconds, and the highest peak."""
    found: dict[str, tuple[float, float]] = {}
    for name, seconds, peak in one["costs"]:
        before = found.get(name, (0.0, 0.0))
        found[name] = (before[0] + seconds, max(before[1], peak))
    return found


def _child(home: Path, rung: str) -> dict[str, Any]:
    print(f"> {home.name}, {rung}", flush=True)
    command = [sys.executable, "-m", "benchmarks.plan", "--run", str(home), rung]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
