"""Time, memory and quality of our models beside other open systems, on the same split files.

`make bench NAME=training`. Each system runs in an environment of its own, made under
`var/bench/peers` from the pins in `benchmarks/peers` where it is not there yet; it gets a split as
arrays, and gives back lists and costs (`benchmarks/peers/exchange.py`). This process alone judges.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import BENCH, finish
from benchmarks.peers.exchange import Task, write_task
from training.protocols.exam import judged, people_with_targets
from training.protocols.sets import SETS
from training.protocols.split import Split, renumbered

PINS = Path(__file__).parent / "peers"
OURS = "headwater"
METRICS = ("recall@10", "ndcg@10")
_ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "RAYON", "LK")
_ALS = {"factors": 64, "regularization": 50.0, "alpha": 10.0, "iterations": 15}
_NETWORK = {
    "n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": 200, "dropout_rate": 0.2,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One system under some settings; it is compared with our run that stands before it."""

    system: str
    model: str
    data: str
    settings: Mapping[str, Any] = field(hash=False)
    share: float = 1.0
    """Part of the people that is fitted and judged."""
    turns: int = 1


def main() -> None:
    """Run every comparison, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--quick", action="store_true", help="Last.fm alone, each run once")
    parser.add_argument("--model", help="one of als, knn, ease, sasrec")
    chosen = parser.parse_args()
    runs = [run for run in _runs() if chosen.model in (None, run.model)]
    if chosen.quick:
        runs = [replace(run, turns=1) for run in runs if run.data == "lastfm"]
    splits = {name: _read(chosen.data, name) for name in sorted({run.data for run in runs})}
    rows: dict[Run, dict[str, Any]] = {}
    for turn in range(max(run.turns for run in runs)):
        for run in (run for run in runs if turn < run.turns):
            print(">", turn + 1, run.model, run.data, run.system, _words(run), flush=True)
            row = _row(run, splits[run.data])
            if run not in rows or row.get("cpu_s", np.inf) < rows[run].get("cpu_s", np.inf):
                rows[run] = row  # others' load only ever adds
    found = list(_with_ratios(runs, rows))
    finish("training", found, list(dict.fromkeys(name for row in found for name in row)))


def _runs() -> Iterator[Run]:
    for data, turns in (("lastfm", 2), ("ml-1m", 1)):
        for system in (OURS, "implicit", "rectools", "lenskit"):
            yield Run(system, "als", data, _ALS, turns=turns)
        for system in (OURS, "implicit", "lenskit", "recbole"):
            yield Run(system, "knn", data, {"K": 50}, turns=turns)
    for system in (OURS, "rectools", "lenskit", "cornac", "recbole"):
        yield Run(system, "ease", "ml-1m", {"ridge": 300.0})
    for system, share, turns, sequences, negatives, more in (
        (OURS, 0.5, 1, 10, 0, {"lr": 2e-3, "warm_start": True}),  # as it ships
        (OURS, 0.5, 2, 10, 0, {}),
        ("rectools", 0.5, 2, 10, 0, {"precision": "32-true"}),
        ("rectools", 0.5, 2, 10, 0, {"precision": "bf16-mixed"}),
        ("recbole", 0.001, 1, 128, 0, {}),
        (OURS, 0.1, 1, 128, 0, {}),
        ("rectools", 0.1, 1, 128, 0, {"precision": "32-true"}),
        (OURS, 0.1, 1, 10, 128, {}),
        ("rectools", 0.1, 1, 10, 128, {"precision": "32-true"}),
    ):
        own = {"batch_size": sequences, "n_negatives": negatives, "lr": 1e-3, **more}
        yield Run(system, "sasrec", "ml-1m", _NETWORK | own, share, turns)


def _words(run: Run) -> str:
    shown = {k: v for k, v in run.settings.items() if k not in _NETWORK}
    shown |= {"people": f"{run.share:.1%}"} if run.share < 1 else {}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _read(folder: Path, name: str) -> Split:
    """Read a published split; all that is known when asked may be fitted, by everybody."""
    split = renumbered(SETS[name].read(folder / SETS[name].folder))
    return replace(split, learned=split.asked, validations=())


def interpreter(system: str) -> Path:
    """Give a system's interpreter; its environment is made where it is not, or is outdated."""
    if system == OURS:
        return Path(sys.executable)
    pins, home = PINS / f"{system}.txt", (BENCH / "peers" / system).absolute()
    python, made = home / "bin" / "python", home / pins.name
    if not made.exists() or made.read_text(encoding="utf-8") != pins.read_text(encoding="utf-8"):
        venv.create(home, clear=True, with_pip=True)
        lines = pins.read_text(encoding="utf-8").split()
        torch = [line for line in lines if line.startswith("torch==")]
        # torch comes first and alone: where there is a CPU wheel, that one is taken.
        for wanted in filter(None, (torch, lines)):
            command = [str(python), "-m", "pip", "install", "--quiet", *wanted]
            subprocess.run(command, check=True)
        shutil.copy(pins, made)
    return python


def measured(python: Path, run: Run, split: Split, folder: Path) -> dict[str, Any]:
    """Have a system fit a split and judge its lists: costs and the mean of each metric."""
    people = people_with_targets(split)
    people = people[split.learned.lengths[people] > 0]
    lists = split.learned
    task = Task(run.model, dict(run.settings), split.n_items, lists.values, lists.offsets, people)
    folder.mkdir(parents=True, exist_ok=True)
    write_task(folder, task)
    # A kernel that is set for another library's sake would slow the ones measured here.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    kept |= {f"{library}_NUM_THREADS": "1" for library in _ONE_THREAD} | {"LK_NUM_PROCS": "1"}
    kept["PYTHONPATH"] = str(PINS.parents[1])
    module = f"benchmarks.peers.run_{run.system}"
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        command = [str(python), "-m", module, str(folder.absolute())]
        # In the folder of the task: some systems leave logs where they run.
        subprocess.run(command, check=True, cwd=folder, env=kept, stdout=log, stderr=log)
    costs: dict[str, Any] = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    found = np.load(folder / "lists.npy")
    values = judged(split, people, found) if (found >= 0).any() else None
    return costs | {name: float(values[name].mean()) if values else None for name in METRICS}


def _row(run: Run, split: Split) -> dict[str, Any]:
    sequence = run.model == "sasrec"
    if sequence:
        split = _part(split, run.share, run.settings["session_max_len"] + 1)
    folder = BENCH / "tasks" / f"{run.model}-{run.data}-{run.system}"
    row = {"model": run.model, "data": run.data, "system": run.system, "settings": _words(run)}
    try:
        found = measured(interpreter(run.system), run, split, folder)
    except subprocess.CalledProcessError as error:
        return {**row, "note": f"failed ({error.returncode}), see {folder / 'log.txt'}"}
    return row | {
        "version": found["version"],
        "prepare_s": found.get("prepare_seconds"),
        "fit_s": found.get("epoch_seconds", found["fit_seconds"]),
        "cpu_s": found.get("epoch_cpu_seconds", found["fit_cpu_seconds"]),
        "recommend_s": found.get("recommend_seconds"),
        "targets": float((split.learned.lengths - 1).clip(0).sum()) if sequence else None,
        **{name: found[name] for name in ("base_mb", "peak_mb", *METRICS)},
    }


def _part(split: Split, share: float, newest: int) -> Split:
    """Keep the first people, and of each history what every network's window holds."""
    lists, kept = split.learned, np.arange(split.n_people) < share * split.n_people
    age = lists.offsets[lists.owners + 1] - np.arange(len(lists.values))  # 1: the newest
    learned = lists.keep(kept[lists.owners] & (age <= newest))
    return replace(split, learned=learned, asked=learned)


def _with_ratios(
    runs: Sequence[Run], rows: Mapping[Run, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Set each fit beside ours before it: CPU seconds, a target where targets are counted."""
    base: float | None = None
    for run in runs:
        row = rows[run]
        own = row["cpu_s"] / (row["targets"] or 1.0) if "cpu_s" in row else None
        if run.system == OURS:
            base = own
        yield row | ({"ratio": own / base} if own and base else {})


if __name__ == "__main__":
    main()
