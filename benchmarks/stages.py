"""Wall time and peak memory a stage, from files to the first feed.

`make bench NAME=stages ARGS="--data ../shared/data/ml-1m"`; without `--data` a generated world.
"""

import argparse
import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import BENCH, finish, run_measured

HEADWATER = [sys.executable, "-m", "pipelines"]
COLUMNS = ("data", "stage", "seconds", "cpu_seconds", "peak_mb")


def main() -> None:
    """Run each stage as a process of its own, measure it, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder that `headwater ingest` reads")
    data: Path | None = parser.parse_args().data
    name = data.name if data else "world"
    home = BENCH / f"stages-{name}"
    shutil.rmtree(home, ignore_errors=True)
    started = perf_counter()
    rows = [_stage(name, stage, arguments, home) for stage, arguments in _stages(data, home)]
    total = {"data": name, "stage": "files to first feed", "seconds": perf_counter() - started}
    rows.append({**total, "peak_mb": max(row["peak_mb"] for row in rows)})
    finish("stages", rows, COLUMNS)


def _stages(data: Path | None, home: Path) -> list[tuple[str, list[str]]]:
    files = data or home.with_name(home.name + "-files")
    stages = [
        ("ingest", ["ingest", str(files)]),
        ("materialize", ["features", "materialize"]),
        ("train", ["train"]),
        ("publish", ["publish"]),
        ("first feed", ["feed", _first_person(data)]),
    ]
    if data is None:
        stages.insert(0, ("simulate", ["simulate", "world", "--out", str(files)]))
    return stages


def _first_person(data: Path | None) -> str:
    return "p1" if data is None else "2"


def _stage(data: str, stage: str, arguments: list[str], home: Path) -> dict[str, Any]:
    """Run one command."""
    command = [*HEADWATER, *arguments]
    if stage != "simulate":
        command += ["--home", str(home)]
    return {"data": data, "stage": stage, **run_measured(command)}


if __name__ == "__main__":
    main()
