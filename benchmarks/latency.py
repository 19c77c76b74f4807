"""Latency of the whole feed request: HTTP, candidates, ensemble, policy, decision record.

Open-loop arrivals from a second process at doubling rates until the server breaks, beside the
floor (bare FastAPI) and what people would do instead (Feast SDK reads of the same candidates).
`--quick` shortens everything, for trying the program.
"""

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.feast_reads import feast_row
from benchmarks.load import run_load
from benchmarks.measure import BENCH, finish, percentiles
from benchmarks.server import Server, free_port, running
from contracts.record import RECORD_VERSION

HEADWATER = [sys.executable, "-m", "pipelines"]
COLUMNS = (
    "target", "rate_per_second", "p50_ms", "p95_ms", "p99_ms", "errors", "degraded_share",
    "achieved_share", "cpu_ms_per_feed", "cost_ms", "candidates_p50", "ready_seconds",
    "resident_mb", "stages",
)  # fmt: skip
RATES = (5, 10, 20, 40, 80, 160, 320)
LIVE_COPIES = 10
LIVE_RATES = (5, 10, 20)
_READY_WITHIN = 600.0
"""Seconds: a home with many posts that are new to its bundle encodes them first."""
BROKEN_P95_MS = 150.0
BROKEN_ERRORS = 0.001
BROKEN_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Size:
    """How large the world is and how long each rate is held."""

    people: int
    posts: int
    seconds: float
    requests_above_40: int


FULL = Size(20_000, 100_000, 60.0, 2_000)
QUICK = Size(2_000, 5_000, 5.0, 200)


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    size = QUICK if arguments.quick else FULL
    home = BENCH / ("latency-quick" if arguments.quick else "latency")
    prepare(home, size)
    key = create_key(home)
    rows: list[dict[str, Any]] = []
    if arguments.live:
        live = prepare_live(home, home.with_name(home.name + "-live"))
        rows.extend(_feed_rows("headwater", home, size, key, [], LIVE_RATES))
        target = f"headwater, {LIVE_COPIES} times as many posts"
        rows.extend(_feed_rows(target, live, size, create_key(live), [], LIVE_RATES))
        finish("live_posts", rows, COLUMNS)
        return
    rows.extend(_feed_rows("headwater", home, size, key, [], RATES))
    for workers in (2, 4):
        options = ["--workers", str(workers)]
        target = f"headwater, {workers} workers"
        rows.extend(_feed_rows(target, home, size, key, options, (40, 80, 160)))
    rows.extend(_cost_rows(home))
    if not arguments.only_feed:
        rows.extend(_feed_rows("headwater, BentoML ranker", home, size, key, _BENTO, (5, 20, 40)))
        rows.append(_floor_row(size))
        rows.append(feast_row(home, candidates=1_000))
    finish("latency", rows, COLUMNS)


_BENTO = ["--ranker", "bentoml"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small world, short rates")
    parser.add_argument("--live", action="store_true", help="only: ten times the posts")
    parser.add_argument("--only-feed", action="store_true", help="leave the comparisons out")
    return parser.parse_args()


def prepare(home: Path, size: Size) -> None:
    """Make, once, a home with a world of this size, features and a trained bundle."""
    if (home / "bundles" / "CHAMPION").exists():
        return
    files = home.with_name(home.name + "-files")
    steps = [
        ["simulate", "world", "--out", str(files), "--people", str(size.people),
         "--posts", str(size.posts), "--end", datetime.now(UTC).isoformat()],
        ["ingest", str(files), "--home", str(home)],
        ["features", "materialize", "--home", str(home)],
        ["train", "--home", str(home), "--no-refit", "--deep-seconds", "20",
         "--test-people", "500"],
        ["publish", "--home", str(home)],
    ]  # fmt: skip
    for step in steps:
        print("preparing:", " ".join(step), flush=True)
        subprocess.run([*HEADWATER, *step], check=True)


def prepare_live(home: Path, live: Path) -> Path:
    """Make, once, a copy of a home with nine posts more for each of its own, newer than its bundle.

    Nobody has acted on them: the bundle's models encode them from their content at the start.
    """
    if live.exists():
        return live
    files = live.with_name(live.name + "-files")
    files.mkdir(exist_ok=True)
    own = home.with_name(home.name + "-files") / "posts.jsonl"
    posts = [json.loads(line) for line in own.read_text(encoding="utf-8").splitlines()]
    with (files / "posts.jsonl").open("w", encoding="utf-8") as sink:
        for copy in range(1, LIVE_COPIES):
            for post in posts:
                sink.write(json.dumps({**post, "post_id": f"{post['post_id']}-{copy}"}) + "\n")
    shutil.copytree(home, live)
    subprocess.run([*HEADWATER, "ingest", str(files), "--home", str(live)], check=True)
    return live


def create_key(home: Path) -> str:
    """Make an API key for the load."""
    step = [*HEADWATER, "keys", "create", "--name", "bench", "--scope", "admin", "--json",
            "--home", str(home)]  # fmt: skip
    answer = subprocess.run(step, check=True, capture_output=True, text=True)
    key: str = json.loads(answer.stdout.strip().splitlines()[-1])["key"]
    return key


def _feed_rows(
    target: str, home: Path, size: Size, key: str, options: list[str], rates: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    port = free_port()
    command = [*HEADWATER, "serve", "--home", str(home), "--port", str(port), *options]
    log = BENCH / f"serve-{port}.log"
    with running(command, port, "/readyz", log, _READY_WITHIN) as server:
        run_load(server.url, _path(size), key, 20, 200)  # warm caches, branch predictors, pages
        for rate in rates:
            row = _measure(target, server, size, key, rate, home)
            yield row
            print(f"{target} at {rate}/s: p50 {row['p50_ms']} p95 {row['p95_ms']}", flush=True)
            if row["broken"]:
                break


def _measure(
    target: str, server: Server, size: Size, key: str, rate: int, home: Path
) -> dict[str, Any]:
    count = int(rate * size.seconds)
    if rate > 40:
        count = max(count, size.requests_above_40)
    before = server.cpu_seconds()
    load = run_load(server.url, _path(size), key, rate, count)
    spent = server.cpu_seconds() - before
    row = {
        "target": target,
        "rate_per_second": rate,
        **percentiles(load.seconds),
        "errors": load.errors,
        "degraded_share": round(load.degraded_share, 5),
        "achieved_share": round(load.achieved_share, 3),
        "cpu_ms_per_feed": round(1000 * spent / max(1, load.sent), 2),
        "ready_seconds": round(server.ready_seconds, 2),
        "resident_mb": round(server.resident_mb()),
        **_stages(home, count),
    }
    row["broken"] = bool(
        row["p95_ms"] > BROKEN_P95_MS
        or load.errors > BROKEN_ERRORS * load.sent
        or row["achieved_share"] < BROKEN_SHARE
    )
    return row


def _path(size: Size) -> Any:  # noqa: ANN401 - a function of a random generator
    def of(numbers: random.Random) -> str:
        return f"/v1/platform/feed?viewer=p{numbers.randrange(size.people)}&limit=20"

    return of


def _stages(home: Path, count: int) -> dict[str, Any]:
    """Read stage medians and candidate counts of the last records."""
    hot = home / "records" / f"hot-v{RECORD_VERSION}.db"
    with sqlite3.connect(f"file:{hot}?mode=ro", uri=True) as database:
        found = database.execute(
            "SELECT stage_us, source_yield FROM decisions ORDER BY now DESC LIMIT ?", (count,)
        ).fetchall()
    if not found:
        return {}
    stages = [json.loads(stage) for stage, _ in found]
    names = list(dict.fromkeys(name for stage in stages for name in stage))
    medians = {n: round(median(s.get(n, 0) for s in stages) / 1000, 2) for n in names}
    yields = [json.loads(y) for _, y in found]
    merged = [
        sum(v for k, v in y.items() if k != "duplicate") - y.get("duplicate", 0) for y in yields
    ]
    return {
        "candidates_p50": int(median(merged)),
        "stages": " ".join(f"{k} {v}" for k, v in medians.items()),
    }


def _cost_rows(home: Path) -> list[dict[str, Any]]:
    """Measure what each proof feature costs, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.proof_cost", str(home)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    rows: list[dict[str, Any]] = json.loads(answer.stdout.strip().splitlines()[-1])
    return rows


def _floor_row(size: Size) -> dict[str, Any]:
    port, rate = free_port(), 40
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_app:app", "--port", str(port),
               "--no-access-log"]  # fmt: skip
    with running(command, port, "/feed", BENCH / "bare.log") as server:
        before = server.cpu_seconds()
        load = run_load(server.url, lambda _: "/feed", None, rate, int(rate * size.seconds))
        spent = server.cpu_seconds() - before
    return {
        "target": "floor: bare FastAPI JSON",
        "rate_per_second": rate,
        **percentiles(load.seconds),
        "errors": load.errors,
        "degraded_share": 0.0,
        "cpu_ms_per_feed": round(1000 * spent / load.sent, 2),
    }


if __name__ == "__main__":
    main()
