"""Replay: feeds served with live updates, restarts and a bundle swap between, then all replayed.

Serves in this process, seals three quarters of the records, and asks `headwater replay --sample` in
a process of its own. Exit status 1 where a feed does not come back to the bit: `make verify` runs
it with 10,000 feeds.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.measure import BENCH, finish
from contracts.clock import Clock, now_us, to_datetime
from contracts.events import EVENT_SCHEMA, EventType
from contracts.feed import FeedPage
from contracts.ids import FeedId, Namespace, UserId, hash63
from contracts.query import FeedQuery
from contracts.settings import Settings
from contracts.tables import POSTS_SCHEMA
from features.materialize import materialize
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.console import Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from serving.bundles import CHAMPION_FILE, champion_folder
from serving.opening import open_service
from serving.records.archive import RecordArchive
from serving.records.counts import lost_so_far
from serving.records.keeping import RecordKeeper
from serving.records.writer import RecordStore
from serving.service import FeedService
from simulator.world import World
from training.config import small_config
from training.ranking import train_ranking
from training.reading import read_training_data
from training.stages import StageClock

COLUMNS = (
    "feeds", "replayed", "identical", "within_tolerance", "different", "fallback", "lost",
    "record_bytes_p50", "record_bytes_p95", "hot_row_bytes", "feeds_per_second", "seal_ms",
    "replays_per_second", "restarts", "bundles", "events_between", "posts_between", "pages",
)  # fmt: skip
PEOPLE, POSTS, DAYS = 2_000, 5_000, 14
_PAGE: Final = 20
_POST_EVERY: Final = 10
_PAGE_EVERY: Final = 5
_CALM: Final = 60_000.0
"""Milliseconds: here feeds are proved, not timed, so none is to fall for lack of time."""


def main() -> None:
    """Serve, replay, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feeds", type=int, default=2_000, help="feeds to serve and replay")
    feeds = parser.parse_args().feeds
    prepared = BENCH / "replay-home"
    if not (prepared / "bundles" / CHAMPION_FILE).exists():
        make_home(prepared)
    home = BENCH / "replay-run"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(prepared, home)
    row = {"feeds": feeds, **serve(home, feeds), **seal(home, feeds // 4)}
    row |= replay_all(home, feeds)
    finish("replay", [{name: row[name] for name in COLUMNS}], COLUMNS)
    print(f"{row['identical']:,} of {feeds:,} identical")
    if row["identical"] != feeds:
        sys.exit(f"{home} holds what differs")
    shutil.rmtree(home)


def make_home(home: Path) -> None:
    """Make a home with a small world, its features and a quickly trained bundle."""
    files = home.with_name("replay-files")
    World.generate(7, people=PEOPLE, posts=POSTS, days=DAYS, end_us=now_us()).write(files)
    with Workspace.open(home) as workspace:
        ingest(workspace, open_dataset(files), Reporter(as_json=True))
        materialize(workspace)
        result = train_ranking(read_training_data(workspace), small_config(), StageClock())
    bundle = result.bundle.save(home / "bundles")
    (home / "bundles" / CHAMPION_FILE).write_text(bundle.bundle_id, encoding="utf-8")


def serve(home: Path, feeds: int) -> dict[str, Any]:
    """Serve four quarters: a restart after the first and third, a bundle swap after the second."""
    other, started = _other_bundle(home), perf_counter()
    bundles: set[object] = set()
    with Workspace.open(home) as workspace:
        world = _World(workspace)
        quarters = np.array_split(np.arange(feeds), 4)
        with _serving(workspace) as service:
            world.serve(service, quarters[0])
        with _serving(workspace) as service:
            world.serve(service, quarters[1])
            bundles.add(service.health()["bundle_id"])
            (home / "bundles" / CHAMPION_FILE).write_text(other, encoding="utf-8")
            while service.health()["bundle_id"] != other:
                sleep(0.1)
            world.serve(service, quarters[2])
            bundles.add(service.health()["bundle_id"])
        with _serving(workspace) as service:
            world.serve(service, quarters[3])
    with closing(RecordArchive(home / "records")) as archive:
        lost = lost_so_far(archive.database)
    return {
        "feeds_per_second": round(feeds / (perf_counter() - started), 1),
        "restarts": 2, "bundles": len(bundles), "events_between": world.events,
        "posts_between": world.posts, "pages": world.pages, "lost": lost,
    }  # fmt: skip


def seal(home: Path, keep: int) -> dict[str, Any]:
    """Measure the hot rows, then seal all but the newest."""
    with Workspace.open(home) as workspace:
        store = RecordStore(home / "records")
        keeper = RecordKeeper(store, workspace.log, 30, Clock())
        cells = " + ".join(
            f'length(CAST("{row[1]}" AS BLOB))'
            for row in store.archive.ask("PRAGMA table_info(decisions)")
        )
        hot = store.archive.ask(f"SELECT avg({cells}) FROM decisions")[0][0]  # noqa: S608
        started = perf_counter()
        sealed = keeper.seal(keep=keep)
        took = perf_counter() - started
        store.close()
    return {"hot_row_bytes": round(hot), "seal_ms": round(1000 * took / max(sealed, 1), 3)}


def replay_all(home: Path, feeds: int) -> dict[str, Any]:
    """Ask the command, in a process of its own."""
    command = [sys.executable, "-m", "pipelines", "replay", "--sample", str(feeds), "--json",
               "--home", str(home)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(found))
    found["replays_per_second"] = found["per_second"]
    return found


class _World:
    """Who asks, and what happens between the feeds; the same for the same home."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._people = workspace.ids.all(Namespace.PERSON)[0]
        self._numbers = np.random.default_rng(11)
        self.events = self.posts = self.pages = 0

    def serve(self, service: FeedService, numbers: np.ndarray) -> None:
        """Serve some feeds; after each the viewer sees five posts and likes one."""
        for number in numbers.tolist():
            viewer = UserId(int(self._numbers.choice(self._people)))
            feed_id = FeedId(hash63("replay", number))
            page = service.open(FeedQuery(feed_id, viewer, now_us(), _PAGE))
            if number % _PAGE_EVERY == 0 and page.next_offset is not None:
                service.page(feed_id, viewer, page.next_offset, _PAGE)
                self.pages += 1
            events = _seen(page, number)
            self._workspace.log.append(events)
            self.events += events.num_rows
            if number % _POST_EVERY == 0:
                self._post(number)

    def _post(self, number: int) -> None:
        author = int(self._numbers.choice(self._people))
        (post,) = self._workspace.ids.intern(Namespace.POST, [f"live-{number}"]).tolist()
        at = to_datetime(now_us())
        posts = pa.Table.from_pylist(
            [{"post_id": post, "author_id": author, "text": f"news {number} of the world",
              "topics": [], "language": "en", "created": at, "known": at, "deleted": False}],
            schema=POSTS_SCHEMA,
        )  # fmt: skip
        created = _events([(EventType.POST_CREATED, author, post)], 2 * 10**15 + number)
        self._workspace.write(created, posts=posts)
        self.posts += 1


@contextmanager
def _serving(workspace: Workspace) -> Iterator[FeedService]:
    """Open the service on the home as it is: its champion, its log, its records."""
    service = open_service(
        workspace,
        Settings(
            home=workspace.home, source_deadline_ms=_CALM, component_deadline_ms=_CALM,
            feed_budget_ms=_CALM,
        ),
    )  # fmt: skip
    try:
        yield service
    finally:
        service.close()


def _other_bundle(home: Path) -> str:
    """Make a second bundle, whose ranker answers a little otherwise; give its id."""
    bundle = Bundle.load(champion_folder(home) or home)
    weights = bundle.ranker.weights
    changed = {**weights, "head.weight": weights["head.weight"] * np.float32(0.9)}
    ranker = replace(bundle.ranker, weights=changed)
    return replace(bundle, ranker=ranker).save(home / "bundles").bundle_id


def _seen(page: FeedPage, number: int) -> pa.Table:
    seen = [(EventType.IMPRESSION, page.viewer_id, item.post_id) for item in page.items[:5]]
    liked = [(EventType.LIKE, page.viewer_id, item.post_id) for item in page.items[:1]]
    return _events(seen + liked, 10**15 + 10 * number)


def _events(rows: list[tuple[EventType, int, int]], first_id: int) -> pa.Table:
    at = to_datetime(now_us())
    return pa.Table.from_pylist(
        [
            {"event_id": first_id + k, "type": int(kind), "viewer_id": viewer, "post_id": post,
             "event_time": at, "known_time": at, "known_assumed": True}
            for k, (kind, viewer, post) in enumerate(rows)
        ],
        schema=EVENT_SCHEMA,
    )  # fmt: skip


if __name__ == "__main__":
    main()
