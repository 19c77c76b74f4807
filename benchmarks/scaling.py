"""Cost growth over 1, 3 and 10 times the data, and what 100 M users need, into docs/scaling.md.

`make bench NAME=scaling`; `ARGS=--write` only computes the tables anew from the last run.
"""

import argparse
import json
import re
import shutil
import sys
from math import ceil, log10
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measure import BENCH, finish, run_measured
from models.bundle import build_index
from pipelines.flow import read_home, run_training
from training.config import TrainingConfig
from training.recipes.deep import DeepRecipeConfig
from training.report import table
from training.split import SplitConfig
from training.stages import StageClock

TARGET: Final = Path("docs/scaling.md")
PEOPLE, POSTS, VECTORS_A_POST = 500, 2_000, 10
TIMES: Final = (1, 3, 10)
COLUMNS: Final = ("times", "stage", "seconds", "cpu_seconds", "peak_mb")
PARTS: Final = (
    "als",
    "item_knn",
    "content",
    "deep",
    "ranker features",
    "test",
    "index build",
)
FILES: Final = {
    "log": "events/**/*", "catalog": "headwater.db", "snapshots": "features/*/snapshots.parquet",
    "checkpoint": "features/checkpoint-*/*", "online": "features/feast_online.db",
}  # fmt: skip
"""What the bytes of a home are counted of."""
ASSUMED: Final = {
    "users": (100e6, "people with an account"),
    "actions": (1e9, "interactions a day: clicks, likes, comments and the like"),
    "posts": (10e6, "new posts a day"),
    "live": (7, "days that a post can be recommended"),
    "window": (7, "days of interactions that a training run learns from"),
    "epochs": (10, "passes of the deep family"),
    "kept": (30, "days that decision records and feature snapshots are kept"),
    "page": (20, "posts seen of a feed that was asked for"),
    "peak": (2.5, "requests in the busiest second over the mean"),
    "busy": (0.5, "share of a core that may be busy"),
    "cores": (32, "cores of a node"),
    "memory": (64e9, "bytes of memory of a node that live posts may take"),
}


def main() -> None:
    """Measure, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="only write docs/scaling.md")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit is not None:
        _fit(given.fit)
        return
    if not given.write:
        finish("scaling", [row for times in TIMES for row in _measure(times)], COLUMNS)
    _write(json.loads((BENCH / "scaling.json").read_text(encoding="utf-8")))


def _measure(times: int) -> list[dict[str, Any]]:
    """Run every stage as a process of its own on a world of some size."""
    folder = BENCH / f"scaling-{times}"
    shutil.rmtree(folder, ignore_errors=True)
    files, home, lists = (str(folder / name) for name in ("files", "home", "lists.parquet"))
    size = ["--people", str(PEOPLE * times), "--posts", str(POSTS * times)]
    stages = {
        "simulate": ["pipelines", "simulate", "world", "--out", files, *size],
        "ingest": ["pipelines", "ingest", files, "--home", home],
        "materialize": ["pipelines", "features", "materialize", "--home", home],
        "train": ["benchmarks.scaling", "--fit", home],
        "score all": ["pipelines", "recommend", "--all-users", "--out", lists, "--home", home],
    }
    rows = [{"stage": k, **run_measured([sys.executable, "-m", *v])} for k, v in stages.items()]
    fit = json.loads((folder / "home/fit.json").read_text(encoding="utf-8"))
    rows += [{"stage": k, "seconds": s, "peak_mb": m} for k, s, m in fit["costs"]]
    for name, pattern in FILES.items():
        found = [path.stat().st_size for path in Path(home).glob(pattern) if path.is_file()]
        fit["counts"][name] = sum(found)
    shutil.rmtree(folder)
    return [{"times": times, **row} for row in [*rows, {"stage": "sizes", **fit["counts"]}]]


def _fit(home: Path) -> None:
    """Train on one thread with one pass of the deep family and no second fit."""
    deep, clock = DeepRecipeConfig(epochs=1, patience=1, held_people=0), StageClock()
    split = SplitConfig(most_people=1000)
    run_training(home, TrainingConfig(threads=1, deep=deep, refit=False, split=split), clock)
    data = read_home(home)
    vectors = np.random.default_rng(0).normal(size=(VECTORS_A_POST * data.dataset.n_items, 65))
    with clock.stage("index build"):
        build_index(vectors.astype(np.float32))
    shown = 0 if data.impressions is None else len(data.impressions)
    people, posts, actions = data.dataset.n_users, data.dataset.n_items, len(data.dataset.actions)
    counts = {"events": data.dataset.up_to_seq, "actions": actions, "impressions": shown}
    counts |= {"posts": posts, "entities": people + posts, "pairs": people * posts}
    report = {"costs": [cost for cost in clock.costs if cost.name in PARTS], "counts": counts}
    (home / "fit.json").write_text(json.dumps(report), encoding="utf-8")


def _write(run: dict[str, Any]) -> None:
    """Replace what stands between the markers."""
    machine = run["machine"]
    where = f"{run['date']}, commit {run['commit']}: {machine['cpu']}, {machine['cores']} cores."
    assumed = [[f"{value:,.12g}", what] for value, what in ASSUMED.values()]
    blocks = {
        "growth": [where, "", *_growth(run["rows"])],
        "assumptions": table(["assumed", "what"], assumed),
        "needs": table(["what", "needed", "unit cost", "measured by"], _needs(run["rows"])),
    }
    text = TARGET.read_text(encoding="utf-8")
    for name, lines in blocks.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = "\n".join([f"{before}<!-- {name} -->", *lines, f"{end}{after}"])
    TARGET.write_text(text, encoding="utf-8")


def _growth(rows: list[dict[str, Any]]) -> list[str]:
    """Put the sizes side by side; what is the same at each size falls out of the last column."""
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in rows if "seconds" in row):
        mine = [row for row in rows if row["stage"] in (PARTS if stage == "train" else [stage])]
        cost = [_cost(row) for row in rows if row["stage"] == stage]
        peaks = [max(row["peak_mb"] for row in mine if row["times"] == t) for t in TIMES]
        early, late = (cost[1] - cost[0]) / 2, (cost[2] - cost[1]) / 7
        grown = f"{late / early:.1f}" if early > 0.25 else "-"
        lines.append(
            [stage, *(f"{each:,.1f}" for each in cost), *(f"{p:,.0f}" for p in peaks), grown]
        )
    head = [f"{t}x, {what}" for what in ("seconds", "peak MB") for t in TIMES]
    return table(["stage", *head, "growth"], lines)


def _cost(row: dict[str, Any]) -> float:
    """Give CPU seconds, which noise moves less, of what was a process of its own."""
    return float(row.get("cpu_seconds", row["seconds"]))


def _needs(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Compute what the assumptions need: unit costs are slopes between 3 and 10 times the data."""
    a = {name: value for name, (value, _) in ASSUMED.items()}
    of = {(row["stage"], row["times"]): row for row in rows}
    sizes = [of["sizes", times] for times in TIMES[1:]]
    for size in sizes:
        size["people"] = size["entities"] - size["posts"]

    def per(stage: str, unit: str) -> float:
        """Give seconds of a stage, or bytes of some files, a unit."""
        ends = [of["sizes", t][stage] if stage in FILES else _cost(of[stage, t]) for t in TIMES[1:]]
        return float(ends[1] - ends[0]) / (sizes[1][unit] - sizes[0][unit])

    events = a["actions"] * sizes[1]["events"] / sizes[1]["actions"]
    feeds = a["actions"] * sizes[1]["impressions"] / sizes[1]["actions"] / a["page"]
    live, window = a["posts"] * a["live"], a["actions"] * a["window"]
    record = _figure("replay", "record_bytes_p50")
    feed_ms = _figure("latency", "cpu_ms_per_feed", "headwater, 2 workers", 1)
    many = _figure("live_posts", "resident_mb", "headwater, 10 times as many posts")
    post = (many - _figure("live_posts", "resident_mb", "headwater")) * 2**20 / 900_000
    shards = ceil(live * post / a["memory"])
    part = live / shards / VECTORS_A_POST / sizes[1]["posts"]
    build = _cost(of["index build", 10]) * part**1.5 * 3
    cores = feeds / 86_400 * a["peak"] * feed_ms / 1000 / a["busy"]
    state = per("checkpoint", "entities") + per("online", "entities")
    fit = sum(per(name, "actions") for name in ("als", "content"))
    deep, pair, person = (
        per(*each)
        for each in (("deep", "actions"), ("score all", "pairs"), ("score all", "people"))
    )
    fold, log, snap = (per(k, "events") for k in ("materialize", "log", "snapshots"))
    catalog = per("catalog", "entities")
    everybody = a["users"] + live
    nodes = max(ceil(cores / a["cores"]), shards)
    found = [
        ("events a day", events, "", f"{events / a['actions']:.1f} an interaction", "world"),
        ("feeds a day", feeds, "", f"{feeds / a['actions']:.2f} an interaction", "world"),
        ("event log, a year", log * events * 365, "B", f"{log:.0f} B an event", "world"),
        ("decision records", record * feeds * a["kept"], "B", f"{record:.0f} B a feed", "replay"),
        ("feature snapshots", snap * events * a["kept"], "B", f"{snap:.0f} B an event", "world"),
        ("features now", state * everybody, "B", f"{state:.0f} B a person or post", "world"),
        ("catalog and ids", catalog * everybody, "B", f"{catalog:.0f} B each", "world"),
        ("fold features, a day", fold * events, "s", f"{fold * 1e6:.1f} us an event", "world"),
        ("train als, content", fit * window, "s", f"{fit * 1e6:.0f} us an action", "world"),
        ("train deep", deep * window * a["epochs"], "s", f"{deep * 1e6:.0f} us a pass", "world"),
        ("memory of live posts", live * post, "B", f"{post:.0f} B a post", "live_posts"),
        ("index shards", shards, "", f"{live / shards / 1e6:.0f} M posts each", "live_posts"),
        ("index build, a shard", build, "s", "as posts^1.5, 3 families", "world"),
        ("serving cores", cores, "", f"{feed_ms:.1f} ms a feed, one shard", "latency"),
        ("serving nodes", nodes, "", "by cores, at least one a shard", "latency, live_posts"),
        ("lists for all, least", person * a["users"], "s", f"{person * 1e3:.1f} ms each", "world"),
        ("lists, most", pair * a["users"] * live, "s", f"{pair * 1e9:.0f} ns a pair", "world"),
    ]
    return [[what, _show(value, unit), cost, by] for what, value, unit, cost, by in found]


def _figure(section: str, column: str, target: str = "", row: int = -1) -> float:
    """Read a figure from docs/benchmarks.md: of the rows of a target, one by its place."""
    text = Path("docs/benchmarks.md").read_text(encoding="utf-8").split(f"\n## {section}\n")[1]
    lines = re.findall(r"^\| (.*) \|$", text.split("\n## ")[0], re.MULTILINE)
    names = lines[0].split(" | ")
    cells = [dict(zip(names, line.split(" | "), strict=True)) for line in lines[1:]]
    mine = [each for each in cells if not target or each["target"] == target]
    return float(mine[row][column].replace(",", ""))


def _show(value: float, unit: str) -> str:
    """Write a count, bytes or seconds; seconds as core-hours."""
    value, unit = (value / 3600, "core-hours") if unit == "s" else (value, unit)
    power = min(4, max(0, int(log10(value) // 3)))
    return f"{value / 1000**power:,.3g} {('', 'k', 'M', 'G', 'T')[power]}{unit}".strip()


if __name__ == "__main__":
    main()
