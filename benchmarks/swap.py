"""Change bundles while a server is under load: no request may fail, and what it does to p99.

A real server, open-loop arrivals at 20 a second from this process, in three phases: nothing
changes; the pointer moves to another bundle and back, three times each; the same through
`headwater publish` and `headwater rollback`, which work on the same cores meanwhile. The other
bundle ranks alike, so that the feeds cost the same. Ends with status 1 where a request failed.
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import httpx

from benchmarks.latency import HEADWATER, Size, create_key, prepare
from benchmarks.load import Load, run_load
from benchmarks.measure import BENCH, finish, percentiles
from benchmarks.server import Server, free_port, running
from models.bundle import Bundle

COLUMNS = (
    "phase", "rate_per_second", "changes", "p50_ms", "p95_ms", "p99_ms", "max_ms", "errors",
    "degraded_share", "cpu_ms_per_feed", "resident_mb",
)  # fmt: skip
RATE = 20
ROUNDS = 3
LIMIT_SECONDS = 60.0
WORLD = Size(people=5_000, posts=20_000, seconds=30.0, requests_above_40=0)
QUICK = Size(people=500, posts=2_000, seconds=15.0, requests_above_40=0)


@dataclass(frozen=True, slots=True)
class Run:
    """What the phases work on."""

    home: Path
    size: Size
    key: str
    server: Server
    champion: str
    other: str
    client: httpx.Client
    """Kept open: making one costs this process more than a feed costs the server."""


def main() -> None:
    """Measure, print, write; fail where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small world, short phases")
    size = QUICK if parser.parse_args().quick else WORLD
    home = BENCH / ("swap-quick" if size is QUICK else "swap")
    prepare(home, size)
    champion = _pointed(home)
    other = _alike(home, champion)
    key, port = create_key(home), free_port()
    command = [*HEADWATER, "serve", "--home", str(home), "--port", str(port)]
    with running(command, port, "/readyz", BENCH / f"serve-{port}.log") as server:
        run = Run(home, size, key, server, champion, other, httpx.Client(base_url=server.url))
        _load(run, size.seconds / 3)  # warm caches, branch predictors, pages
        rows = [
            _phase("nothing changes", run, lambda _: None),
            _phase("pointer moves", run, _move_pointer),
            _phase("publish and rollback", run, _use_commands),
        ]
    finish("swap", rows, COLUMNS)
    failed = sum(row["errors"] for row in rows)
    if failed or any(row["changes"] != 2 * ROUNDS for row in rows[1:]):
        sys.exit(f"{failed} requests failed, changes a phase: {[row['changes'] for row in rows]}")


def _phase(name: str, run: Run, change: Callable[[Run], None]) -> dict[str, Any]:
    """Hold the rate while bundles change, and until they have."""
    changes, spent = _changes(run), run.server.cpu_seconds()
    changing = Thread(target=change, args=(run,))
    changing.start()
    load = _load(run, run.size.seconds)
    while changing.is_alive():
        more = _load(run, 5.0)
        load.seconds += more.seconds
        load.errors += more.errors
        load.levels = {k: load.levels.get(k, 0) + more.levels.get(k, 0) for k in load.levels}
    row = {
        "phase": name,
        "rate_per_second": RATE,
        "changes": _changes(run) - changes,
        **percentiles(load.seconds),
        "max_ms": round(1000 * max(load.seconds), 2),
        "errors": load.errors,
        "degraded_share": round(load.degraded_share, 5),
        "cpu_ms_per_feed": round(1000 * (run.server.cpu_seconds() - spent) / load.sent, 2),
        "resident_mb": round(run.server.resident_mb()),
    }
    print(row, flush=True)
    return row


def _load(run: Run, seconds: float) -> Load:
    def path(numbers: random.Random) -> str:
        return f"/v1/platform/feed?viewer=p{numbers.randrange(run.size.people)}&limit=20"

    return run_load(run.server.url, path, run.key, RATE, int(RATE * seconds))


def _move_pointer(run: Run) -> None:
    for wanted in (run.other, run.champion) * ROUNDS:
        pointer = run.home / "bundles" / "CHAMPION"
        scratch = pointer.with_suffix(".new")
        scratch.write_text(wanted + "\n", encoding="utf-8")
        scratch.replace(pointer)
        _await(run, wanted)
        sleep(run.size.seconds / 20)


def _use_commands(run: Run) -> None:
    at_home = ["--home", str(run.home)]
    for _ in range(ROUNDS):
        subprocess.run([*HEADWATER, "publish", run.other, *at_home], check=True)
        _await(run, run.other)
        subprocess.run([*HEADWATER, "rollback", *at_home], check=True)
        _await(run, run.champion)


def _await(run: Run, bundle_id: str) -> None:
    deadline = monotonic() + LIMIT_SECONDS
    while _health(run)["bundle_id"] != bundle_id:
        if monotonic() > deadline:
            msg = f"the server did not change over to {bundle_id}: {_health(run)['bundles']}"
            raise TimeoutError(msg)
        sleep(0.2)


def _changes(run: Run) -> int:
    return int(_health(run)["bundles"]["changes"])


def _health(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.client.get("/readyz").content)["feeds"]
    return found


def _pointed(home: Path) -> str:
    return (home / "bundles" / "CHAMPION").read_text(encoding="utf-8").strip()


def _alike(home: Path, bundle_id: str) -> str:
    """Save a bundle that ranks as another does, under another id."""
    bundle = Bundle.load(home / "bundles" / bundle_id)
    policy = bundle.policy.model_copy(update={"name": "alike"})
    manifest = bundle.manifest.model_copy(update={"policy": policy})
    return replace(bundle, manifest=manifest).save(home / "bundles").bundle_id


if __name__ == "__main__":
    main()
