"""The point-in-time join and the feature reads of a request, beside Feast on the same inputs.

Every stage is a process of its own, so that its peak memory is its own; what Feast is imported for
stands in `benchmarks.feast_reads`. `seconds`, `cpu_seconds` and `ms` leave imports out, `peak_mb`
does not. `ratio` is Feast's time over ours for the same rows in the same run. `--quick` is a tenth
of the size, for trying the program.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import BENCH, finish
from contracts.clock import DAY_US, HOUR_US, to_us
from contracts.policy import FAMILIES
from features.caches import FeatureCache
from features.event_arrays import int_column
from features.materialize import read_snapshots, snapshot_path, snapshot_schema
from features.offline import asof_join
from features.slots import Bools, Float32s, Float64s, Ints
from features.views import POST_VIEW, View
from features.workspace import Workspace

COLUMNS = (
    "what", "rows", "columns", "values", "unequal", "null_share", "seconds", "cpu_seconds",
    "peak_mb", "ms", "p95_ms", "ratio", "goal",
)  # fmt: skip
ROOT: Final = BENCH / "features"
HOME: Final = ROOT / "home"
"""A world with its features materialised and Feast's online store filled; kept between runs."""
DRAWS: Final = ROOT / "draws.npz"
NARROW: Final = ROOT / "join" / "40"
WIDE: Final = ROOT / "join" / "3 x 40"
LABELS: Final = ROOT / "join" / "labels.npy"
START_US: Final = 1_700_000_000_000_000
DAYS: Final = 60
TTL: Final = timedelta(days=5)
WORLD_END: Final = datetime(2026, 11, 1, tzinfo=UTC)
NOW_US: Final = to_us(WORLD_END) + HOUR_US
CANDIDATES: Final = 1_000
JOIN_GOAL: Final = "4 s, 2,048 MB"
READ_GOAL: Final = "0.15 ms for 32 columns"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """Labels, and snapshot rows a view; the world; timed reads."""

    labels: int = 1_000_000
    snapshots: int = 1_000_000
    people: int = 20_000
    posts: int = 100_000
    feast_reads: int = 30
    cache_reads: int = 2_000


class Watch:
    """Wall and CPU time, threads included, since it was made."""

    def __init__(self) -> None:
        self._started = perf_counter(), process_time()

    def read(self) -> Row:
        """Give both in seconds."""
        wall, cpu = self._started
        return {
            "seconds": round(perf_counter() - wall, 2),
            "cpu_seconds": round(process_time() - cpu, 2),
        }


QUICK: Final = Size(100_000, 100_000, 2_000, 5_000, 5, 200)


def main() -> None:
    """Run all stages, one process after the other; print and write."""
    arguments = stage_arguments(__doc__, STAGES)
    size = QUICK if arguments.quick else Size()
    if arguments.stage:
        write_row(arguments.stage, STAGES[arguments.stage](size))
        return
    ROOT.mkdir(parents=True, exist_ok=True)
    _prepare_world(size)
    rows = {stage: _run("features", stage, quick=arguments.quick) for stage in STAGES}
    rows |= {stage: _run("feast_reads", stage, quick=arguments.quick) for stage in FEAST_STAGES}
    shutil.rmtree(LABELS.parent)
    joins, reads = rows["feast join"], rows["feast read"]
    joins["ratio"] = round(joins["seconds"] / rows["join"]["seconds"], 1)
    reads["ratio"] = round(reads["ms"] / rows["cache read"]["ms"])
    finish("features", [row for row in rows.values() if "what" in row], COLUMNS)


def stage_arguments(
    doc: str | None, stages: Iterable[str], *, required: bool = False
) -> argparse.Namespace:
    """Read the command line of a program that runs stages."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    one = "this one alone, in this process"
    parser.add_argument("--stage", choices=[*stages], required=required, help=one)
    return parser.parse_args()


def write_row(stage: str, row: Row) -> None:
    """Leave a stage's row for the process that started it."""
    _result(stage).write_text(json.dumps(row), encoding="utf-8")


def _run(module: str, stage: str, *, quick: bool) -> Row:
    """Run one stage as a process; its peak memory is the kernel's figure."""
    print(">", stage, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{module}", "--stage", stage]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen([*command, *(["--quick"] if quick else [])], env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"the stage {stage!r} failed")
    row: Row = json.loads(_result(stage).read_text(encoding="utf-8"))
    return {**row, "peak_mb": round(usage.ru_maxrss / 1024)}


def _result(stage: str) -> Path:
    return ROOT / f"{stage.replace(' ', '-')}.json"


# The join: labels and snapshots from a seed, with late rows and a time to live that bites.


def _views(*columns: int) -> tuple[View, ...]:
    """Make three views with so many columns."""
    kinds = zip(("post", "author", "person"), columns, strict=True)
    return tuple(View(k, f"{k}_id", (), tuple(f"{k}_{i}" for i in range(n)), TTL) for k, n in kinds)


ALL_40: Final = _views(14, 13, 13)
EACH_40: Final = _views(40, 40, 40)
SNAPSHOTS_EACH: Final = (20, 50, 40)
"""Days of the 60 on which an entity of each view has a row, in the mean."""


def _write_files(size: Size) -> Row:
    """Write snapshots as `features materialize` does, and labels."""
    shutil.rmtree(LABELS.parent, ignore_errors=True)
    rng = np.random.default_rng(0)
    ids = []
    for narrow, wide, days in zip(ALL_40, EACH_40, SNAPSHOTS_EACH, strict=True):
        entities = size.snapshots // days
        _write_snapshots(rng, size.snapshots, entities, (narrow, wide))
        ids.append(rng.integers(1, entities + entities // 50, size.labels))  # 2 % unknown
    times = START_US + rng.integers(0, (DAYS + 2) * DAY_US, size.labels)
    exact = rng.random(size.labels) < 0.1  # at the very moment of a snapshot
    times[exact] -= (times[exact] - START_US) % DAY_US
    np.save(LABELS, np.stack([times, *ids]))
    return {}


def _write_snapshots(
    rng: np.random.Generator, rows: int, entities: int, views: tuple[View, View]
) -> None:
    """Write one view in both widths, in order of time; a tenth is known up to two days late.

    Values are random doubles, the hardest for Parquet to encode.
    """
    drawn = np.sort(rng.choice(entities * DAYS, rows, replace=False))
    events = START_US + drawn // entities * DAY_US
    late = np.where(rng.random(rows) < 0.1, rng.integers(0, 2 * DAY_US, rows), 0)
    values = [rng.random(rows) for _ in views[1].columns]
    for home, view in zip((NARROW, WIDE), views, strict=True):
        schema = snapshot_schema(view)
        arrays = [drawn % entities + 1, events, events + late, *values[: len(view.columns)]]
        columns = [pa.array(a).cast(f.type) for a, f in zip(arrays, schema, strict=True)]
        path = snapshot_path(home, view)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns, schema=schema), path, row_group_size=100_000)


def labels_of(view: View) -> tuple[Ints, Ints]:
    """Read the labels of a view: ids and times, [n] each."""
    held = np.load(LABELS)
    return held[1 + [v.key for v in ALL_40].index(view.key)], held[0]


def _ours(what: str, home: Path, views: tuple[View, ...]) -> tuple[Row, list[Float64s]]:
    """Join labels to all views: from Parquet files to joined columns."""
    labels, ttl_us = [labels_of(view) for view in views], TTL // timedelta(microseconds=1)
    watch = Watch()
    joined = [
        asof_join(*each, read_snapshots(home, view), view.columns, key=view.key, ttl_us=ttl_us)
        for view, each in zip(views, labels, strict=True)
    ]
    return joined_row(what, joined, watch), joined


def joined_row(what: str, joined: list[Float64s], watch: Watch) -> Row:
    """Describe joined columns; rows out must be labels in."""
    spent = watch.read()
    labels = np.load(LABELS, mmap_mode="r").shape[1]
    if {len(part) for part in joined} != {labels}:
        sys.exit(f"{labels} labels went in, {[len(part) for part in joined]} rows came out")
    values = sum(part.size for part in joined)
    return {
        "what": what,
        "rows": labels,
        "columns": values // labels,
        "values": values,
        "null_share": round(sum(int(np.isnan(part).sum()) for part in joined) / values, 4),
        **spent,
    }


def joined_path(view: View) -> Path:
    """Give the file of what our join gave."""
    return LABELS.with_name(f"{view.name}.npy")


def _join(size: Size) -> Row:
    del size
    row, joined = _ours("our join, 3 views, 40 columns in all", NARROW, ALL_40)
    for view, values in zip(ALL_40, joined, strict=True):
        np.save(joined_path(view), values)
    return {**row, "goal": JOIN_GOAL}


def _join_wide(size: Size) -> Row:
    del size
    return _ours("our join, 3 views of 40 columns each", WIDE, EACH_40)[0]


# The reads of a request: candidates of a world, from our cache and from Feast's online store.


def _prepare_world(size: Size) -> None:
    """Make the home, once for a size: a generated world, ingested and materialised."""
    stamp, wanted = HOME / "size", f"{size.people} people, {size.posts} posts"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(HOME, ignore_errors=True)
    files = ROOT / "files"
    steps = [
        ["simulate", "world", "--out", str(files), "--people", str(size.people),
         "--posts", str(size.posts), "--end", WORLD_END.isoformat()],
        ["ingest", str(files), "--home", str(HOME)],
        ["features", "materialize", "--home", str(HOME)],
    ]  # fmt: skip
    for step in steps:
        print("preparing:", " ".join(step), flush=True)
        subprocess.run([sys.executable, "-m", "pipelines", *step], check=True)
    shutil.rmtree(files)
    stamp.write_text(wanted, encoding="utf-8")


def _draw(size: Size) -> Row:
    """Draw candidates in the order of ids, with their authors, and a viewer for each draw.

    The posts of a draw are those that `online_parity` compares at that seed.
    """
    with Workspace.open(HOME, read_only=True) as workspace:
        cache = FeatureCache.load(workspace)
        known = np.unique(int_column(read_snapshots(HOME, POST_VIEW), POST_VIEW.key))
    seeds = range(size.cache_reads)
    posts = np.stack([np.random.default_rng(s).permutation(known)[:CANDIDATES] for s in seeds])
    posts.sort(axis=1)  # serving, too, merges its candidates into the order of slots
    authors = cache.posts.author_ids(cache.posts.slots_of(posts))
    viewers = np.random.default_rng(0).choice(cache.people.person_id, len(posts))
    np.savez(DRAWS, posts=posts, authors=authors, viewers=viewers)
    return {}


Read = Callable[[Ints, Ints, int], Float64s | Float32s]
"""Reads posts [n] of authors [n] for a viewer: values [n, columns]."""


def timed(what: str, read: Read, draws: int) -> Row:
    """Time reads of the first draws; every one is of other posts, so that no cache is warm."""
    with np.load(DRAWS) as held:
        drawn = [held[name][:draws] for name in ("posts", "authors", "viewers")]
    seconds = []
    for posts, authors, viewer in zip(drawn[0], drawn[1], drawn[2].tolist(), strict=True):
        started = perf_counter()
        values = read(posts, authors, viewer)
        seconds.append(perf_counter() - started)
    p50, p95 = np.percentile(seconds, (50, 95)) * 1000.0
    shape = {"rows": len(values), "columns": values.shape[1], "values": values.size}
    return {"what": what, **shape, "ms": round(p50, 3), "p95_ms": round(p95, 3)}


def _cache_features(size: Size) -> Row:
    """Do what a request does: find the posts, finish every feature, tell nulls and version."""
    cache = load_cache()
    scores = np.random.default_rng(0).random((CANDIDATES, len(FAMILIES)), dtype=np.float32)
    stamped: list[tuple[int, Bools]] = []

    def read(posts: Ints, _: Ints, viewer: int) -> Float32s:
        version = cache.version  # what is read is at least as new
        features = cache.feature_matrix(viewer, cache.posts.slots_of(posts), NOW_US, scores)
        stamped[:] = [(version, np.isnan(features))]
        return features

    row = timed("our cache, finished features with null mask and version", read, size.cache_reads)
    return {**row, "null_share": round(float(stamped[0][1].mean()), 4), "goal": READ_GOAL}


def load_cache() -> FeatureCache:
    """Load the cache of the benchmark's world."""
    with Workspace.open(HOME, read_only=True) as workspace:
        return FeatureCache.load(workspace)


STAGES: Final[dict[str, Callable[[Size], Row]]] = {
    "files": _write_files,
    "join": _join,
    "wide join": _join_wide,
    "draw": _draw,
    "cache features": _cache_features,
}
FEAST_STAGES: Final = ("feast join", "feast read", "cache read", "online parity")
"""Stages of `benchmarks.feast_reads`."""


if __name__ == "__main__":
    main()
