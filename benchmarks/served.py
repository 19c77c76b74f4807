"""From LightGCN's files to a served bundle, and what its lists reach on the files' own test.

`make bench NAME=served ARGS="--data ../shared/data"`: Gowalla through the commands that anybody
uses, each a process of its own. Settings stand below; they were chosen on parts of the train lines
(`headwater reproduce gowalla` says how). The test's lines are read here, after all commands.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from benchmarks.measure import BENCH, finish, run_measured
from models.base import IntArray
from training.metrics import LONGEST
from training.protocols.exam import judged, people_with_targets
from training.protocols.readers import read_lists
from training.protocols.sets import GOWALLA
from training.protocols.split import Split

HEADWATER: Final = [sys.executable, "-m", "pipelines"]
COLUMNS: Final = ("what", "seconds", "cpu_seconds", "peak_mb", "recall@20", "ndcg@20")
MODELS: Final = ("neighbours", "retrieval-blend")
SETTINGS: Final = {
    "als": {"factors": 256, "regularization": 60, "alpha": 39, "iterations": 8},
    "closed_form": {"neighbours": 300, "ridge_weight": 0.7},
    # Neither order nor content is known: nothing for the deep family to learn from.
    "deep": {"windows": 2000, "epochs": 1},
    "split": {"order_share": 0.02, "most_people": 3000},
    "refit": False,
    "final_fit": True,
}


def main() -> None:
    """Run the commands, judge the lists, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    folder: Path = parser.parse_args().data / GOWALLA.folder
    home = BENCH / "served"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "settings.json").write_text(json.dumps(SETTINGS, indent=1) + "\n")
    started = perf_counter()
    rows: list[dict[str, Any]] = [
        _run("ingest", ["ingest", str(folder)], home),
        _run("train", ["train", "--config", str(home / "settings.json")], home),
        _run("publish", ["publish"], home),
        _run("first feed", ["feed", "0"], home),
    ]
    most = max(row["peak_mb"] for row in rows)
    rows.append({"what": "all", "seconds": perf_counter() - started, "peak_mb": most})
    split = read_lists(folder)
    for model in MODELS:
        out = home / f"{model}.parquet"
        found = ["recommend", "--all-users", "--model", model, "--out", str(out)]
        rows.append({**_run(f"lists by {model}", found, home), **_judged(split, out)})
    finish("served", rows, COLUMNS)


def _run(what: str, arguments: list[str], home: Path) -> dict[str, Any]:
    return {"what": what, **run_measured([*HEADWATER, *arguments, "--home", str(home)])}


def _judged(split: Split, path: Path) -> dict[str, float]:
    """Hold lists to the test as the protocol does."""
    table = pq.read_table(path)
    person, item = (
        table[name].to_numpy(zero_copy_only=False).astype(np.int64)
        for name in ("person_id", "post_id")
    )
    ranks = table["rank"].to_numpy()
    lists: IntArray = np.full((split.n_people, LONGEST), -1, dtype=np.int64)
    lists[person, ranks - 1] = item
    people = people_with_targets(split)
    values = judged(split, people, lists[people])
    return {name: round(float(values[name].mean()), 4) for name in GOWALLA.metrics}


if __name__ == "__main__":
    main()
